//! The origin behind the proxies: an nginx with one worker that answers from memory, started once for all of them.

use crate::error::Error;
use crate::harness::server::{Launch, Place, Server, free_addresses};
use crate::harness::{Case, Load, Work};
use crate::load::{Counters, Seen, http};
use crate::settings::Settings;
use std::cell::RefCell;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tempfile::TempDir;
use tls::dev::DevCa;

/// The host that clients ask for.
pub(super) const HOST: &str = "www.mysite.com";
/// The sizes that there are, in bytes; a path is a size.
const SIZES: [usize; 3] = [100, 64 << 10, 1 << 20];

/// The origin, and the certificate that all proxies show.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    pub(super) certificates: DevCa,
    /// What it runs as, for the configuration of those in front of it.
    pub(super) configuration: String,
    server: RefCell<Server>,
    _folder: TempDir,
}

/// The content of so many bytes.
pub(super) fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| b'a' + (at % 23) as u8).collect()
}

/// nginx as root would serve as another user, who can't read the folder.
pub(super) fn nginx_user() -> &'static str {
    if rustix::process::geteuid().is_root() { "user root;\n" } else { "" }
}

/// Files that nginx writes where it is told, or else where only root may.
pub(super) const NGINX_FOLDERS: &str = "client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; \
     uwsgi_temp_path uwsgi; scgi_temp_path scgi;";

impl Origin {
    /// Starts it on the CPU before the load's if no server under measurement is there, else beside the load.
    pub(super) fn start(settings: &Settings, nginx: PathBuf) -> Result<Origin, Error> {
        let place = Place::new(None, 1)?;
        let address = free_addresses(1)?[0];
        let cpu =
            if settings.load_cpu > settings.threads { settings.load_cpu - 1 } else { settings.load_cpu };
        for bytes in SIZES {
            let content = String::from_utf8(content(bytes)).expect("letters");
            place.file(&format!("files/{bytes}"), &content)?;
        }
        let small = String::from_utf8(content(SIZES[0])).expect("letters");
        let text = format!(
            "daemon off;\n{user}worker_processes 1;\npid nginx.pid;\nerror_log stderr warn;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n  access_log off;\n  {NGINX_FOLDERS}\n  sendfile on;\n  open_file_cache max=16;\n  keepalive_timeout 1h;\n  \
             keepalive_requests 1000000000;\n  server {{\n    listen {address} backlog=4096;\n    root files;\n    \
             location = /100 {{ return 200 {small}; }}\n  }}\n}}\n",
            user = nginx_user(),
        );
        let file = place.file("nginx.conf", &text)?;
        let folder = place.path().display().to_string();
        let launch = Launch {
            name: "the origin".to_owned(),
            program: nginx,
            arguments: ["-p", &folder, "-e", "stderr", "-c", &file.display().to_string()]
                .map(str::to_owned)
                .into(),
            cpus: cpu.to_string(),
            ready: address,
        };
        let configuration = format!("the origin: {launch}\n{text}");
        let server = RefCell::new(Server::start(place, &[launch])?);
        let folder = tempfile::tempdir().map_err(Error::io("making a folder for certificates"))?;
        let certificates = tls::dev::ensure(folder.path(), &[HOST]);
        let certificates = certificates.map_err(|error| Error::Usage(error.to_string()))?;
        Ok(Origin { address, certificates, configuration, server, _folder: folder })
    }

    /// Certificate and key in one file, as haproxy wants them.
    pub(super) fn certificate_and_key(&self) -> Result<String, Error> {
        let read = |path: &PathBuf| {
            fs::read_to_string(path).map_err(Error::io(format!("reading {}", path.display())))
        };
        Ok(read(&self.certificates.cert_pem)? + &read(&self.certificates.key_pem)?)
    }

    /// An error when it has ended.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.server.borrow_mut().check("the run of a proxy in front of it")
    }

    /// Runs a load in front of the origin and notes what the origin used of its CPU. Full, it is the limit as the load's
    /// would be.
    pub(super) fn watched(
        &self,
        counters: &dyn Fn() -> Counters,
        run: impl FnOnce(&dyn Fn() -> Counters) -> Result<Seen, Error>,
    ) -> Result<Seen, Error> {
        // The counters are read when the counted part of the run begins and when it ends.
        let used: RefCell<Vec<Duration>> = RefCell::default();
        let result = run(&|| {
            used.borrow_mut().push(self.server.borrow().cpu_time());
            counters()
        });
        // An origin that died explains every other error.
        self.check()?;
        let mut seen = result?;
        let used = used.borrow();
        let used = used.last().copied().unwrap_or_default() - used.first().copied().unwrap_or_default();
        seen.counted.load_core_busy = seen.counted.load_core_busy.max(used);
        let percent = used.as_secs_f64() / seen.elapsed.as_secs_f64() * 100.0;
        seen.others.push(("origin, % of a CPU".to_owned(), percent));
        http::few_refusals(&seen.tally)?;
        Ok(seen)
    }

    /// The case, its loads [`watched`](Origin::watched).
    pub(super) fn watch(self: &Rc<Origin>, case: Case) -> Case {
        let Work::Requests { prepare, load, latency, ask } = case.work else { return case };
        let origin = self.clone();
        let load: Load = Box::new(move |server, settings, rate, counters| {
            origin.watched(counters, |counters| load(server, settings, rate, counters))
        });
        Case { work: Work::Requests { prepare, load, latency, ask }, ..case }
    }
}
