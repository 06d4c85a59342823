//! How each proxy is configured: HTTP and HTTPS in front of the one origin, connections to it kept, X-Forwarded-For, -Proto
//! and -Host set for it, nothing logged, nothing cached.

use super::origin::{HOST, NGINX_FOLDERS, Origin, nginx_user};
use crate::error::Error;
use crate::harness::server::{Place, Server, free_addresses};
use crate::harness::{Contestant, Started};
use crate::peers::{Found, HAPROXY, NGINX};
use std::net::SocketAddr;
use std::rc::Rc;

/// Connections that the peers are told to allow: more than the case of idle ones opens.
const CONNECTIONS_MAX: usize = 12_000;
/// Connections to the origin that the peers keep: more than any case has requests under way.
const KEPT_MAX: usize = 256;

/// The proxy's server has the address of HTTP; its first other address is that of HTTPS.
pub(super) fn contestant(found: Found, origin: &Rc<Origin>) -> Contestant {
    let origin = origin.clone();
    found.contestant(move |found, place| {
        let [plain, tls] = free_addresses(2)?[..] else { unreachable!("two were asked for") };
        let wanted = Wanted { origin: &origin, place: &place, plain, tls };
        let (arguments, text) = match found.peer {
            peer if peer == NGINX.name => wanted.nginx()?,
            peer if peer == HAPROXY.name => wanted.haproxy()?,
            _ => wanted.ours()?,
        };
        let launch = found.launch(&place, arguments, plain);
        let configuration = format!("{launch}\n{text}{}", origin.configuration);
        let mut server = Server::start(place, &[launch])?;
        server.others.push(tls);
        Ok(Started { configuration, server })
    })
}

/// What a configuration is written for.
struct Wanted<'a> {
    origin: &'a Origin,
    place: &'a Place,
    plain: SocketAddr,
    tls: SocketAddr,
}

/// Arguments and the text of the file that they name.
type Configured = Result<(Vec<String>, String), Error>;

impl Wanted<'_> {
    fn ours(&self) -> Configured {
        let Wanted { origin, plain, tls, .. } = self;
        let text = format!(
            "cores = {threads}\n\n[[listen]]\naddress = \"{plain}\"\n\n[[listen]]\naddress = \"{tls}\"\n\
             tls = {{ cert = {cert:?}, key = {key:?} }}\n\n[upstream.origin]\nservers = [{{ address = \"{to}\" }}]\n",
            threads = self.place.threads,
            cert = origin.certificates.cert_pem,
            key = origin.certificates.key_pem,
            to = origin.address,
        );
        let file = self.place.file("proxy.toml", &text)?;
        Ok((["proxy", "--config", &file.display().to_string()].map(str::to_owned).into(), text))
    }

    fn nginx(&self) -> Configured {
        let Wanted { origin, plain, tls, .. } = self;
        // TLS 1.3 is not among the defaults of Debian 12's. Without temporary files large answers never touch the disk.
        let text = format!(
            "daemon off;\n{user}worker_processes {threads};\npid nginx.pid;\nerror_log stderr warn;\n\
             events {{ worker_connections {CONNECTIONS_MAX}; }}\n\
             http {{\n  access_log off;\n  {NGINX_FOLDERS}\n  keepalive_timeout 1h;\n  keepalive_requests 1000000000;\n  \
             upstream origin {{ server {to}; keepalive {KEPT_MAX}; keepalive_requests 1000000000; }}\n  \
             server {{\n    listen {plain} backlog=4096;\n    listen {tls} ssl http2 backlog=4096;\n    server_name {HOST};\n    \
             ssl_certificate {cert};\n    ssl_certificate_key {key};\n    ssl_protocols TLSv1.2 TLSv1.3;\n    \
             ssl_session_cache shared:tls:10m;\n    proxy_max_temp_file_size 0;\n    location / {{\n      \
             proxy_pass http://origin;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      \
             proxy_set_header Host $http_host;\n      proxy_set_header X-Forwarded-For $remote_addr;\n      \
             proxy_set_header X-Forwarded-Proto $scheme;\n      proxy_set_header X-Forwarded-Host $http_host;\n    }}\n  }}\n}}\n",
            user = nginx_user(),
            threads = self.place.threads,
            to = origin.address,
            cert = origin.certificates.cert_pem.display(),
            key = origin.certificates.key_pem.display(),
        );
        let file = self.place.file("nginx.conf", &text)?.display().to_string();
        let folder = self.place.path().display().to_string();
        Ok((["-p", &folder, "-e", "stderr", "-c", &file].map(str::to_owned).into(), text))
    }

    fn haproxy(&self) -> Configured {
        let Wanted { origin, plain, tls, .. } = self;
        let certificate = self.place.file("haproxy.pem", &origin.certificate_and_key()?)?;
        let text = format!(
            "global\n  nbthread {threads}\n  maxconn {CONNECTIONS_MAX}\n  no strict-limits\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  \
             timeout http-request 1h\n  timeout http-keep-alive 1h\n  http-reuse always\n\
             frontend site\n  bind {plain} backlog 4096\n  bind {tls} backlog 4096 ssl crt {certificate} alpn h2,http/1.1\n  \
             http-request set-header X-Forwarded-For %[src]\n  \
             http-request set-header X-Forwarded-Proto http\n  \
             http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}\n  \
             http-request set-header X-Forwarded-Host %[req.hdr(host)]\n  default_backend origin\n\
             backend origin\n  server origin {to} pool-max-conn {KEPT_MAX}\n",
            threads = self.place.threads,
            certificate = certificate.display(),
            to = origin.address,
        );
        let file = self.place.file("haproxy.cfg", &text)?;
        Ok((["-db", "-f", &file.display().to_string()].map(str::to_owned).into(), text))
    }
}
