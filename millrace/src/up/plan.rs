//! What `up` starts: processes, their configuration files, their ports. Pure but for writing the files.

use super::Error;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tls::dev::DevCa;

/// The names in the development certificate.
pub(crate) const CERTIFICATE_NAMES: [&str; 3] = ["localhost", "www.mysite.com", "api.mysite.com"];

/// Web servers, and shards of the database.
const WEB_SERVERS: u16 = 2;
const SHARDS: u16 = 3;

/// The site's ports on 127.0.0.1 (docs/ARCHITECTURE.md), all moved by one offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    offset: u16,
}

impl Ports {
    pub(crate) fn with_offset(offset: u16) -> Ports {
        Ports { offset }
    }

    fn at(self, port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port + self.offset).into()
    }

    pub(crate) fn dashboard(self) -> SocketAddr {
        self.at(8900)
    }

    fn dns(self) -> SocketAddr {
        self.at(8053)
    }

    fn http(self) -> SocketAddr {
        self.at(8080)
    }

    fn https(self) -> SocketAddr {
        self.at(8443)
    }

    fn web(self, number: u16) -> SocketAddr {
        self.at(9100 + number)
    }

    fn cache(self) -> SocketAddr {
        self.at(11211)
    }

    fn shard(self, number: u16) -> SocketAddr {
        self.at(7000 + number)
    }

    fn broker(self) -> SocketAddr {
        self.at(9092)
    }

    fn admin(self, number: u16) -> SocketAddr {
        self.at(8900 + number)
    }

    /// Every port that a process of the site listens on, with its name.
    pub(crate) fn all(self) -> Vec<(String, SocketAddr)> {
        let mut all = vec![
            ("the dashboard".to_owned(), self.dashboard()),
            ("geodns".to_owned(), self.dns()),
            ("proxy (HTTP)".to_owned(), self.http()),
            ("proxy (HTTPS)".to_owned(), self.https()),
            ("cachesrv".to_owned(), self.cache()),
            ("broker".to_owned(), self.broker()),
        ];
        all.extend((1..=WEB_SERVERS).map(|number| (format!("web{number}"), self.web(number))));
        all.extend((1..=SHARDS).map(|number| (format!("dbshard, shard {number}"), self.shard(number))));
        let processes = 6 + WEB_SERVERS;
        all.extend((1..=processes).map(|number| (format!("admin endpoint {number}"), self.admin(number))));
        all
    }

    /// Those spoken to by UDP too.
    pub(crate) fn udp(self) -> (String, SocketAddr) {
        ("geodns".to_owned(), self.dns())
    }
}

/// One process to run.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) admin: SocketAddr,
    /// What it serves and where, for the table.
    pub(crate) serves: String,
}

/// All processes, in the order in which they start; they stop in the reverse order.
pub(crate) struct Plan {
    pub(crate) processes: Vec<Process>,
    files: Vec<(PathBuf, String)>,
    ports: Ports,
    ca: PathBuf,
}

impl Plan {
    pub(crate) fn new(data: &Path, ports: &Ports, certificates: &DevCa) -> Result<Plan, Error> {
        let mut plan =
            Plan { processes: Vec::new(), files: Vec::new(), ports: *ports, ca: certificates.ca_pem.clone() };
        let folder = data.join("config");
        let text = |path: &Path| {
            path.to_str()
                .map(str::to_owned)
                .ok_or_else(|| Error(format!("the path {} is not UTF-8", path.display())))
        };
        let mut add = |name: &str, config: Option<String>, arguments: Vec<String>, serves: String| {
            let admin = ports.admin(plan.processes.len() as u16 + 1);
            let daemon = name.trim_end_matches(|last: char| last.is_ascii_digit());
            let mut all = vec![daemon.to_owned(), "--admin".to_owned(), admin.to_string()];
            all.extend(arguments);
            if let Some(config) = config {
                let path = folder.join(format!("{name}.toml"));
                all.extend(["--config".to_owned(), text(&path)?]);
                plan.files.push((path, config));
            }
            plan.processes.push(Process { name: name.to_owned(), arguments: all, admin, serves });
            Ok::<(), Error>(())
        };

        let shards = format!("RESP, Redis Cluster on {} to {}", ports.shard(1), ports.shard(SHARDS).port());
        let keep = |name: &str, listen: SocketAddr| {
            let data = text(&data.join(name))?;
            Ok(vec!["--data".to_owned(), data, "--listen".to_owned(), listen.to_string()])
        };
        add("dbshard", Some(dbshard()), keep("dbshard", ports.shard(1))?, shards)?;
        add("broker", None, keep("broker", ports.broker())?, format!("Kafka on {}", ports.broker()))?;
        let cache = [
            "-l".to_owned(),
            ports.cache().ip().to_string(),
            "-p".to_owned(),
            ports.cache().port().to_string(),
        ];
        add("cachesrv", None, cache.to_vec(), format!("memcached on {}", ports.cache()))?;
        for number in 1..=WEB_SERVERS {
            let serves = format!("HTTP on {} (behind the proxy)", ports.web(number));
            add(&format!("web{number}"), Some(web(*ports, number)), vec![], serves)?;
        }
        add("worker1", Some(worker(*ports)), vec![], "photo jobs from the broker".to_owned())?;
        let serves = format!("HTTP on {}, HTTPS on {}", ports.http(), ports.https());
        add(
            "proxy",
            Some(proxy(*ports, &text(&certificates.cert_pem)?, &text(&certificates.key_pem)?)),
            vec![],
            serves,
        )?;
        add("geodns", Some(geodns(*ports)), vec![], format!("DNS on {} (UDP and TCP)", ports.dns()))?;
        Ok(plan)
    }

    /// Writes the configuration files: what a user would write by hand to run the same daemons elsewhere.
    pub(crate) fn write_configuration(&self) -> Result<(), Error> {
        for (path, text) in &self.files {
            let folder = path.parent().expect("a file in the configuration folder");
            let written = std::fs::create_dir_all(folder).and_then(|()| {
                use std::io::Write;
                std::fs::File::create(path)?.write_all(text.as_bytes())
            });
            written.map_err(|error| Error(format!("cannot write {}: {error}", path.display())))?;
        }
        Ok(())
    }

    /// What `/config` of the whole shows.
    pub(crate) fn summary(&self) -> String {
        let mut out = String::new();
        for process in &self.processes {
            let _ = writeln!(out, "[{}]\ncommand = {:?}\n", process.name, process.arguments.join(" "));
        }
        out
    }

    pub(crate) fn welcome(&self, data: &Path, seconds: f64) -> String {
        let mut out = format!("\nThe site is ready ({seconds:.1} s). Its data is in {}.\n\n", data.display());
        let width = self.processes.iter().map(|process| process.serves.len()).max().unwrap_or(0);
        let _ = writeln!(out, "  {:<9} {:<width$}  admin endpoint", "process", "serves");
        for process in &self.processes {
            let _ =
                writeln!(out, "  {:<9} {:<width$}  http://{}", process.name, process.serves, process.admin);
        }
        let _ =
            writeln!(out, "  {:<9} {:<width$}  http://{}", "the whole", "dashboard", self.ports.dashboard());
        let (dns, http) = (self.ports.dns(), self.ports.http());
        let _ = write!(
            out,
            "\nTry:\n  dig @{} -p {} www.mysite.com +short\n  curl -s http://{http}/users/12\n  open http://{http}/ in a browser \
             (https://{} with the development CA {})\n\nCtrl-C stops everything.\n\n",
            dns.ip(),
            dns.port(),
            self.ports.https(),
            self.ca.display(),
        );
        out
    }
}

fn dbshard() -> String {
    format!(
        "# One node with {SHARDS} shards; each is one Redis instance with a port of its own.\nshards = {SHARDS}\n"
    )
}

fn stores(ports: Ports) -> String {
    let shards: Vec<String> = (1..=SHARDS).map(|number| ports.shard(number).to_string()).collect();
    format!(
        "[stores]\ndbshard = {shards:?}\ncachesrv = \"{}\"\nbroker = \"{}\"\n",
        ports.cache(),
        ports.broker()
    )
}

fn web(ports: Ports, number: u16) -> String {
    format!("name = \"web{number}\"\nlisten = \"{}\"\n\n{}", ports.web(number), stores(ports))
}

fn worker(ports: Ports) -> String {
    format!("name = \"worker1\"\n\n{}", stores(ports))
}

fn proxy(ports: Ports, cert: &str, key: &str) -> String {
    let servers: Vec<String> =
        (1..=WEB_SERVERS).map(|number| format!("    {{ address = \"{}\" }},\n", ports.web(number))).collect();
    format!(
        "[[listen]]\naddress = \"{}\"\n\n[[listen]]\naddress = \"{}\"\ntls = {{ cert = {cert:?}, key = {key:?} }}\n\n\
         [upstream.web]\npolicy = \"least_connections\"\nservers = [\n{}]\n\
         health = {{ path = \"/healthz\", interval_ms = 500, timeout_ms = 1000, rise = 1, fall = 2 }}\n\n\
         # The site takes photos of up to 16 MiB.\n[limits]\nbody_bytes_max = 20971520\n",
        ports.http(),
        ports.https(),
        servers.concat()
    )
}

fn geodns(ports: Ports) -> String {
    format!(
        "listen = [\"{}\"]\n\n\
         [[zone]]\nname = \"mysite.com\"\ntext = \"\"\"\n\
         $TTL 300\n\
         @    IN SOA ns1 hostmaster 1 7200 900 1209600 60\n\
         @    IN NS  ns1\n\
         ns1  IN A   {}\n\
         \"\"\"\n\n\
         # The data centre's proxies. Names bound to a pool are answered with its members, by weight.\n\
         [pool.proxies]\nttl_seconds = 30\nmembers = [{{ address = \"{}\", weight = 1 }}]\n\n\
         [names]\n\"mysite.com\" = \"proxies\"\n\"www.mysite.com\" = \"proxies\"\n\"api.mysite.com\" = \"proxies\"\n",
        ports.dns(),
        ports.dns().ip(),
        ports.http().ip(),
    )
}
