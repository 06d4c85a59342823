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

    /// The sum of a metric over all its labels' values; none when there is no such metric: another build may lack it, and a
    /// sum of nothing would be a wrong figure.
    pub(crate) fn sum(&self, name: &str) -> Option<f64> {
        let family = name.strip_suffix("_total").unwrap_or(name);
        self.0.lines().find(|line| {
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split(' ').next()) == Some(family)
        })?;
        let values = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = match rest.strip_prefix('{') {
                Some(rest) => rest.split_once("} ")?.1,
                None => rest.strip_prefix(' ')?,
            };
            value.trim().parse::<f64>().ok()
        });
        Some(values.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_over_all_labels() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# HELP a_b Things.\n# TYPE a_b counter\na_b_total{k=\"x\"} 3\na_b_total{k=\"y\"} 4\n# TYPE a_b_c gauge\na_b_c 5\n# TYPE none counter\n# EOF\n";
        let metrics = Metrics(text.to_owned());
        let sums = ["a_b_total", "a_b_c", "none_total", "a_total"].map(|name| metrics.sum(name));
        assert_eq!(sums, [Some(7.0), Some(5.0), Some(0.0), None]);
    }
}
