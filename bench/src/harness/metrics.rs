//! What a server of ours says of itself: its admin endpoint's `/metrics`.

use crate::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a scrape may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The text of one scrape.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// # Errors
    /// When nobody answers at `admin`, or not with the metrics.
    pub(crate) fn of(admin: SocketAddr) -> Result<Metrics, Error> {
        let exchange = || {
            let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().map_err(Error::io(format!("asking {admin} for metrics")))?;
        if !answer.starts_with("HTTP/1.1 200") {
            let line = answer.lines().next().unwrap_or_default();
            return Err(Error::WrongAnswer(format!("{admin} was asked for metrics: {line}")));
        }
        Ok(Metrics(answer))
    }

    /// The sum of a metric over those of its labels' values of which `chosen` is true. `chosen` is given what is between the
    /// braces.
    ///
    /// # Errors
    /// When there is no such metric: a sum of nothing would be a wrong figure.
    pub(crate) fn sum(&self, name: &str, chosen: impl Fn(&str) -> bool) -> Result<f64, Error> {
        let described = self.0.lines().any(|line| {
            let mut words = line.split(' ');
            words.next() == Some("#")
                && words.next() == Some("TYPE")
                && words.next().is_some_and(|word| name.strip_suffix("_total").unwrap_or(name) == word)
        });
        if !described {
            return Err(Error::WrongAnswer(format!("the server has no metric {name}")));
        }
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.split_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            chosen(labels).then(|| value.trim().parse::<f64>().ok())?
        });
        Ok(values.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_over_the_chosen_labels() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# HELP a_b Things.\n# TYPE a_b counter\na_b_total{k=\"x\"} 3\na_b_total{k=\"y\"} 4\n# TYPE a_b_c gauge\na_b_c 5\n# TYPE none counter\n# EOF\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!(metrics.sum("a_b_total", |_| true).unwrap(), 7.0);
        assert_eq!(metrics.sum("a_b_total", |labels| labels == "k=\"y\"").unwrap(), 4.0);
        assert_eq!(metrics.sum("a_b_c", |_| true).unwrap(), 5.0);
        assert_eq!(metrics.sum("none_total", |_| true).unwrap(), 0.0);
        assert!(metrics.sum("a_total", |_| true).is_err());
    }
}
