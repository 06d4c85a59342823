//! Each daemon, driven by the clients that its users have.
#![forbid(unsafe_code)]

use e2e::client::{python, run};
use e2e::site::Site;

#[test]
fn each_daemon_speaks_to_its_clients() {
    let mut site = Site::start();
    memcached(&site);
    redis(&site);
    kafka(&site);
    dns(&site);
    site.stop();
}

fn memcached(site: &Site) {
    let port = site.address(11211).port().to_string();
    python("memcached_client.py", &[&port]);
    // Its binary cases need the binary protocol.
    let report = run("memccapable", &["-h", "127.0.0.1", "-p", &port, "-a"]);
    assert!(report.contains("All tests passed"), "{report}");
}

fn redis(site: &Site) {
    let port = site.address(7001).port().to_string();
    let shards: Vec<String> = [7001, 7002, 7003].map(|port| site.address(port).port().to_string()).into();
    python("redis_client.py", &[&shards[0], &shards[1], &shards[2]]);
    for number in 0..50 {
        let key = format!("cli:{number}");
        assert_eq!(run("redis-cli", &["-c", "-p", &port, "SET", &key, "value", "EX", "100"]).trim(), "OK");
        assert_eq!(run("redis-cli", &["-c", "-p", &port, "GET", &key]).trim(), "value");
    }
    let report =
        run("redis-benchmark", &["--cluster", "-p", &port, "-t", "set,get", "-n", "20000", "-P", "16", "-q"]);
    assert!(report.contains("GET:") && !report.contains("Error"), "{report}");
}

fn kafka(site: &Site) {
    let address = site.address(9092).to_string();
    python("kafka_python_client.py", &[&address]);
    python("confluent_client.py", &[&address]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines: String = (0..1000).map(|number| format!("line {number}\n")).collect();
    std::io::Write::write_all(&mut file.as_file(), lines.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    run("kcat", &["-P", "-b", &address, "-t", "kcat", "-p", "0", "-X", "acks=all", "-l", path]);
    let read = run("kcat", &["-C", "-b", &address, "-t", "kcat", "-p", "0", "-e", "-q", "-o", "beginning"]);
    assert!(read == lines, "{} of {} bytes came back", read.len(), lines.len());
    assert!(run("kcat", &["-L", "-b", &address]).contains("topic \"kcat\""));
}

fn dns(site: &Site) {
    let server = format!("@127.0.0.1#{}", site.address(8053).port());
    let (at, port) = server.split_once('#').unwrap();
    let ask = |arguments: &[&str]| run("kdig", &[&[at, "-p", port], arguments].concat());
    assert!(ask(&["mysite.com", "SOA"]).contains("status: NOERROR"));
    assert!(ask(&["mysite.com", "NS", "+tcp"]).contains("ns1.mysite.com."));
    assert!(ask(&["nobody.mysite.com", "A"]).contains("status: NXDOMAIN"));
    let nothing = ask(&["www.mysite.com", "TXT"]);
    assert!(nothing.contains("status: NOERROR") && nothing.contains("SOA"), "{nothing}");
    assert!(ask(&["example.org", "A"]).contains("status: REFUSED"));
}
