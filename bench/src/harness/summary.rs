//! Rows to medians and ratios: ours by the peer's, pair by pair.

use super::result::{Report, Row};
use crate::peers::OURS;
use std::fmt::Write;

/// A figure of several runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Figure {
    /// None of no values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Figure> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (lowest, highest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Figure { median, lowest, highest })
    }
}

/// What is compared: a column of the table.
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) of: fn(&Row) -> Option<f64>,
}

/// The share of requests that one core took and another worked on, as it is called among a row's other figures.
pub(crate) const CROSSED_CORES: &str = "crossed cores %";

/// Every figure a row may have.
pub(crate) const COLUMNS: [Column; 10] = [
    Column { title: "CPU µs/request", of: |row| Some(row.saturation.as_ref()?.cpu_us_per_request) },
    Column { title: "requests/s", of: |row| Some(row.saturation.as_ref()?.requests_per_second) },
    Column { title: "p50 µs", of: |row| Some(row.latency.as_ref()?.p50_us) },
    Column { title: "p99 µs", of: |row| Some(row.latency.as_ref()?.p99_us) },
    Column { title: "p99.9 µs", of: |row| Some(row.latency.as_ref()?.p999_us) },
    Column { title: "misses %", of: |row| row.saturation.as_ref()?.miss_percent() },
    Column { title: "bytes each", of: |row| Some(row.memory.as_ref()?.bytes_each) },
    Column { title: "syncs/s", of: |row| row.saturation.as_ref()?.syncs_per_second },
    Column {
        title: CROSSED_CORES,
        of: |row| {
            let others = &row.saturation.as_ref()?.others;
            others.iter().find(|(name, _)| name == CROSSED_CORES).map(|(_, share)| *share)
        },
    },
    Column { title: "RSS MiB", of: |row| Some(row.saturation.as_ref()?.rss_bytes as f64 / 1048576.0) },
];

impl Report {
    /// The cases in the order in which they ran.
    pub(crate) fn cases(&self) -> Vec<&str> {
        let mut cases: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !cases.contains(&row.case.as_str()) {
                cases.push(&row.case);
            }
        }
        cases
    }

    /// Who ran in a case, ours first if it did.
    pub(crate) fn contestants_of(&self, case: &str) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in self.rows.iter().filter(|row| row.case == case) {
            if !names.contains(&row.contestant.as_str()) {
                names.push(&row.contestant);
            }
        }
        names
    }

    /// A contestant's figure in a case.
    pub(crate) fn figure(&self, case: &str, contestant: &str, column: &Column) -> Option<Figure> {
        let rows = self.rows.iter().filter(|row| row.case == case && row.contestant == contestant);
        Figure::of(rows.filter_map(column.of))
    }

    /// Whether ours can't do the case: the first contestant is a peer then.
    pub(crate) fn lacks_ours(&self, case: &str) -> bool {
        self.gaps.iter().any(|gap| gap.case == case && gap.contestant == OURS)
    }

    /// `ours` by `peer`, in each pair by itself; none where ours can't do the case.
    pub(crate) fn ratio(&self, case: &str, ours: &str, peer: &str, column: &Column) -> Option<Figure> {
        if self.lacks_ours(case) {
            return None;
        }
        let of = |contestant: &str, pair: usize| {
            let mut rows = self.rows.iter().filter(|row| row.case == case && row.contestant == contestant);
            rows.find_map(|row| (column.of)(row).filter(|_| row.pair == pair))
        };
        let pairs = self.rows.iter().map(|row| row.pair).max()? + 1;
        Figure::of((0..pairs).filter_map(|pair| Some(of(ours, pair)? / of(peer, pair)?)))
    }

    /// The terminal's table: for each case a line for each contestant, and ours by theirs.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        for case in self.cases() {
            self.case_table(case, &mut out);
        }
        for gap in &self.gaps {
            let case = if gap.case.is_empty() { "every case" } else { &gap.case };
            let _ = writeln!(out, "gap: {case}, {}: {}", gap.contestant, gap.reason);
        }
        out
    }

    fn case_table(&self, case: &str, out: &mut String) {
        let rows = || self.rows.iter().filter(move |row| row.case == case);
        let columns: Vec<&Column> =
            COLUMNS.iter().filter(|column| rows().any(|row| (column.of)(row).is_some())).collect();
        let contestants = self.contestants_of(case);
        let ours = contestants.first().copied().unwrap_or_default();
        let durability = rows().map(|row| row.durability.as_str()).find(|text| !text.is_empty());
        let _ = writeln!(out, "{case}{}", durability.map(|text| format!(" [{text}]")).unwrap_or_default());
        let _ = write!(out, "  {:<20}", "");
        columns.iter().for_each(|column| _ = write!(out, "  {:<24}", column.title));
        out.push('\n');
        for contestant in &contestants {
            let _ = write!(out, "  {contestant:<20}");
            for column in &columns {
                let median = self.figure(case, contestant, column).map(|figure| short(figure.median));
                let mut text = median.unwrap_or_else(|| "-".to_owned());
                let ratio = self.ratio(case, ours, contestant, column).filter(|_| *contestant != ours);
                if let Some(Figure { median, lowest, highest }) = ratio {
                    let _ = write!(text, " ×{median:.2} ({lowest:.2}–{highest:.2})");
                }
                let _ = write!(out, "  {text:<24}");
            }
            let mine = || rows().filter(|row| row.contestant == *contestant);
            if mine().any(|row| row.saturation.as_ref().is_some_and(|seen| seen.load_was_the_limit)) {
                let _ = write!(out, "  [the load was the limit]");
            }
            if mine().any(|row| row.latency.as_ref().is_some_and(|seen| seen.suspect)) {
                let _ = write!(out, "  [the load was late]");
            }
            let lost: u64 = mine().map(Row::lost).sum();
            if lost > 0 {
                let _ = write!(out, "  [{lost} requests lost]");
            }
            out.push('\n');
        }
        if contestants.len() > 1 && !self.lacks_ours(case) {
            let _ = writeln!(
                out,
                "  × is {ours} by the other: the median of the pairs, the lowest and the highest\n"
            );
        }
    }
}

/// Three digits that matter.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        0.0..1.0 => format!("{value:.3}"),
        1.0..100.0 => format!("{value:.2}"),
        100.0..10_000.0 => format!("{value:.0}"),
        10_000.0..1_000_000.0 => format!("{:.1}k", value / 1e3),
        _ => format!("{:.2}M", value / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::{Gap, Memory};
    use super::*;

    #[test]
    fn peers_without_ours_have_no_ratio() {
        let row = |case: &str, contestant: &str| Row {
            case: case.to_owned(),
            contestant: contestant.to_owned(),
            memory: Some(Memory { bytes_each: 2.0, ..Memory::default() }),
            ..Row::default()
        };
        let gap = Gap { case: "new".to_owned(), contestant: OURS.to_owned(), reason: "not yet".to_owned() };
        let rows = vec![row("old", OURS), row("old", "a"), row("new", "a"), row("new", "b")];
        let report = Report { rows, gaps: vec![gap], ..Report::default() };
        let bytes = COLUMNS.iter().find(|column| column.title == "bytes each").unwrap();
        assert_eq!(report.ratio("old", OURS, "a", bytes).map(|ratio| ratio.median), Some(1.0));
        assert_eq!(report.ratio("new", "a", "b", bytes), None);
    }

    #[test]
    fn a_median_is_the_middle_or_between_two() {
        let median = |values: &[f64]| Figure::of(values.iter().copied()).map(|figure| figure.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn figures_are_written_with_what_matters() {
        assert_eq!(
            [0.3271, 5.184, 512.4, 54321.0, 1_234_567.0].map(short),
            ["0.327", "5.18", "512", "54.3k", "1.23M"]
        );
    }
}
