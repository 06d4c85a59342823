//! `millrace up` as a new user meets it.
#![forbid(unsafe_code)]

use e2e::client::{curl, python_command, run};
use e2e::process::Process;
use e2e::site::{Site, free_offset, up_command};
use e2e::wait_for;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

const JOHN: &str = r#"{"id":12,"firstName":"John","lastName":"Smith","address":{"streetAddress":"21 2nd Street","city":"New York","state":"NY","postalCode":10021},"phoneNumbers":["212 555-1234","646 555-4567"]}"#;

#[test]
fn the_lines_to_try_work() {
    let mut site = Site::start();
    let port = site.address(8053).port().to_string();
    for name in ["www.mysite.com", "api.mysite.com", "mysite.com"] {
        assert_eq!(run("dig", &["@127.0.0.1", "-p", &port, name, "+short"]), "127.0.0.1\n", "{name}");
        assert_eq!(run("dig", &["@127.0.0.1", "-p", &port, name, "+short", "+tcp"]), "127.0.0.1\n", "{name}");
    }

    let first = site.get("/users/12");
    assert_eq!((first.status, first.text().as_str()), (200, JOHN));
    assert_eq!(first.field("x-cache"), Some("miss"));
    let second = site.get("/users/12");
    assert_eq!((second.status, second.text().as_str()), (200, JOHN));
    assert_eq!(second.field("x-cache"), Some("hit"));

    let ca = site.data().join("tls/ca.pem");
    let ca = ca.to_str().unwrap();
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{}/users/12", site.address(8443).port());
        let secure = curl(&url, &["--cacert", ca]);
        assert_eq!((secure.status, secure.text().as_str()), (200, JOHN));
        assert_eq!(secure.field("x-cache"), Some("hit"));
    }

    let page = site.get("/");
    assert_eq!(page.status, 200);
    assert!(page.field("content-type").unwrap().starts_with("text/html"));
    for dashboard_page in ["/", "/metrics", "/healthz", "/readyz", "/config"] {
        let url = format!("http://{}{dashboard_page}", site.address(8900));
        assert_eq!(curl(&url, &[]).status, 200, "{dashboard_page}");
    }
    site.stop();
}

#[test]
fn what_was_written_is_there_after_a_restart_and_a_stale_cache_is_not() {
    let mut site = Site::start();
    assert_eq!(site.get("/users/7").status, 200);
    let patch =
        ["-X", "PATCH", "-H", "Content-Type: application/merge-patch+json", "-d", r#"{"firstName":"Ada"}"#];
    assert_eq!(curl(&site.url("/users/7"), &patch).status, 200);
    let ada = r#""firstName":"Ada""#;
    assert!(site.get("/users/7").text().contains(ada), "the delete on write reached the cache");
    assert_eq!(curl(&site.url("/users/8"), &["-X", "DELETE"]).status, 204);
    site.stop();
    site.start_again();
    assert!(site.get("/users/7").text().contains(ada));
    assert_eq!(site.get("/users/8").status, 404, "the seed does not bring back what was deleted");
    site.stop();
}

#[test]
fn what_dies_is_started_again() {
    let site = Site::start();
    for name in ["geodns", "proxy", "cachesrv", "dbshard", "broker", "web1", "worker1"] {
        let before = site.process(name);
        site.kill(name);
        wait_for("another process of that name", || (site.process(name) != before).then_some(()));
        wait_for("the site to be ready again", || site.is_ready().then_some(()));
        wait_for("the site to answer", || {
            e2e::client::try_curl(&site.url("/users/12"), &[])
                .is_ok_and(|answer| answer.status == 200)
                .then_some(())
        });
    }
}

#[test]
fn a_port_in_use_is_one_clear_line_and_nothing_is_left_running() {
    let offset = free_offset();
    let taken = TcpListener::bind(("127.0.0.1", 9092 + offset)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut up = Process::start("millrace up", &mut up_command(folder.path(), offset));
    assert!(!up.wait().success());
    let port = taken.local_addr().unwrap().port().to_string();
    wait_for("the line", || up.output().contains(&port).then_some(()));
    let output = up.output();
    assert_eq!(output.lines().count(), 1, "{output}");
    assert!(output.contains("broker") && output.contains("--offset"), "{output}");
}

#[test]
fn a_folder_that_cannot_be_written_is_one_clear_line() {
    for folder in ["/dev/null/data", "/proc/millrace-data"] {
        let mut up = Process::start("millrace up", &mut up_command(folder.as_ref(), free_offset()));
        assert!(!up.wait().success());
        wait_for("the line", || up.output().contains(folder).then_some(()));
        assert_eq!(up.output().lines().count(), 1, "{}", up.output());
    }
}

#[test]
fn what_can_not_start_is_named_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("dbshard");
    std::fs::create_dir(&database).unwrap();
    std::fs::File::create(database.join("node.toml")).unwrap().write_all(b"not a node's").unwrap();
    let mut up = Process::start("millrace up", &mut up_command(folder.path(), free_offset()));
    assert!(!up.wait().success());
    let is_named =
        |line: &str| line.starts_with("millrace: dbshard ended 3 times") && line.contains("node.toml");
    wait_for("the reason", || up.output().lines().any(is_named).then_some(()));
}

#[test]
fn two_sites_never_share_a_folder() {
    let site = Site::start();
    let mut second = Process::start("a second up", &mut up_command(site.data(), free_offset()));
    assert!(!second.wait().success());
    wait_for("the line", || second.output().contains("another `millrace up`").then_some(()));
    assert_eq!(site.get("/users/12").status, 200);
}

#[test]
fn a_killed_up_takes_its_children_with_it() {
    let mut site = Site::start();
    let children = e2e::process::children(site.up.id());
    assert_eq!(children.len(), 8, "{children:?}");
    site.up.kill();
    for (id, line) in children {
        let proc = format!("/proc/{id}");
        wait_for(&format!("the end of {line}"), || (!Path::new(&proc).exists()).then_some(()));
    }
}

/// A seccomp filter answers EPERM to io_uring_setup, as container profiles do.
#[test]
fn without_io_uring_there_is_one_warning_and_the_site_runs() {
    let folder = tempfile::tempdir().unwrap();
    let offset = free_offset();
    let command = up_command(folder.path(), offset);
    let words: Vec<&str> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_str().unwrap())
        .collect();
    let mut up =
        Process::start("millrace up without io_uring", &mut python_command("without_io_uring.py", &words));
    wait_for("the site to be ready", || {
        assert!(up.ended().is_none(), "{}", up.output());
        up.output().contains("The site is ready").then_some(())
    });
    let answer = curl(&format!("http://127.0.0.1:{}/users/12", 8080 + offset), &[]);
    assert_eq!((answer.status, answer.text().as_str()), (200, JOHN));
    let warnings = up.output().lines().filter(|line| line.contains("io_uring is not permitted")).count();
    assert_eq!(warnings, 1, "{}", up.output());
    assert!(up.stop().success());
}
