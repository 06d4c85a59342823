//! Which upstream a request goes to: the first rule whose host and path fit.
//!
//! What always holds: a host is compared without its port and without regard to case; a path as the client sent it, by whole
//! segments, its query aside. What it leaves out: decoding and `..`, which are the server's to understand.

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `www.mysite.com`, or `*.mysite.com` for any name below; any host if absent.
    pub host: Option<String>,
    /// The path it is for, and all below it.
    pub path: String,
    /// The upstream's index.
    pub upstream: usize,
}

/// The rules, in order.
#[derive(Clone, Debug, Default)]
pub struct Routes(pub Vec<Rule>);

impl Routes {
    /// The upstream for a request with this host (as in Host) and target (path and query, or `*`).
    pub fn find(&self, host: &str, target: &str) -> Option<usize> {
        let rules = &self.0;
        rules.iter().find(|rule| rule.fits_host(host) && rule.fits_path(target)).map(|rule| rule.upstream)
    }
}

impl Rule {
    fn fits_host(&self, host: &str) -> bool {
        let Some(pattern) = &self.host else { return true };
        let name = without_port(host);
        match pattern.strip_prefix('*') {
            Some(suffix) => {
                name.len() > suffix.len()
                    && name.as_bytes()[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
            }
            None => name.eq_ignore_ascii_case(pattern),
        }
    }

    fn fits_path(&self, target: &str) -> bool {
        let prefix = self.path.strip_suffix('/').unwrap_or(&self.path);
        match target.strip_prefix(prefix) {
            Some(rest) => prefix.is_empty() || rest.is_empty() || rest.starts_with(['/', '?']),
            None => false,
        }
    }
}

/// A host without its port, `[v6]` with its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(rules: &[(Option<&str>, &str)]) -> Routes {
        let rule = |(upstream, &(host, path)): (usize, &(Option<&str>, &str))| Rule {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            upstream,
        };
        Routes(rules.iter().enumerate().map(rule).collect())
    }

    #[test]
    fn the_first_that_fits() {
        let routes = routes(&[
            (Some("api.mysite.com"), "/"),
            (Some("*.img.mysite.com"), "/"),
            (None, "/photos"),
            (Some("[::1]"), "/"),
            (None, "/down/"),
        ]);
        for (host, target, upstream) in [
            ("api.mysite.com", "/photos", Some(0)),
            ("API.mysite.com:8080", "/", Some(0)),
            ("a.img.mysite.com", "/", Some(1)),
            ("a.IMG.mysite.com:80", "/", Some(1)),
            ("img.mysite.com", "/", None),
            ("other", "/photos", Some(2)),
            ("other", "/photos/1?x", Some(2)),
            ("other", "/photos?x", Some(2)),
            ("other", "/photosets", None),
            ("other", "/", None),
            ("[::1]:8080", "/", Some(3)),
            ("[::1]", "/", Some(3)),
            ("", "/down", Some(4)),
            ("", "/down/x", Some(4)),
        ] {
            assert_eq!(routes.find(host, target), upstream, "{host} {target}");
        }
    }

    #[test]
    fn the_root_takes_everything() {
        let routes = routes(&[(None, "/")]);
        assert_eq!(routes.find("x", "*"), Some(0));
        assert_eq!(routes.find("", "/?x"), Some(0));
    }
}
