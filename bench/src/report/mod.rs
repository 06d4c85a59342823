//! docs/PERFORMANCE.md and its charts, from the result files alone.
//!
//! What always holds: every figure on the page is in a file under bench/results/; of each scenario the newest file counts;
//! what was not measured stands there as a gap.

mod chart;

use crate::error::Error;
use crate::harness::result::{Report, Row};
use crate::harness::summary::{COLUMNS, Column, Figure, short};
use chart::{Bar, Block};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const HEAD: &str = "\
# Performance

Ours beside the peers. Made by `cargo run --release -p bench -- report` from the files under bench/results/; do not edit.

How to read it: every contestant ran the same work in turns in one run, pinned to the same CPU, the load on another. CPU per
request is user and system time of the server's processes; × is ours by the peer's (below 1 is less), the median of the pairs with
the lowest and the highest behind it. Latencies are of an open loop at 70 % of the slowest contestant's full speed, counted from
when a request was due. Only ratios travel to another machine.
";

/// Writes the page and the charts of the newest results under `root`.
pub(crate) fn write(root: &Path) -> Result<(), Error> {
    let newest = newest(&root.join("bench/results"))?;
    let mut page = HEAD.to_owned();
    for (scenario, path) in &newest {
        let report = Report::read(path)?;
        section(root, scenario, path, &report, &mut page)?;
    }
    let path = root.join("docs/PERFORMANCE.md");
    fs::write(&path, page).map_err(Error::io(format!("writing {}", path.display())))?;
    println!("written: {}", path.display());
    Ok(())
}

/// The newest file of each scenario. Folders begin with their date, so that names sort by age.
fn newest(results: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let list = |folder: &Path| -> Result<Vec<PathBuf>, Error> {
        let entries = fs::read_dir(folder).map_err(Error::io(format!("listing {}", folder.display())))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        Ok(paths)
    };
    let mut newest = BTreeMap::new();
    for folder in list(results)?.into_iter().filter(|path| path.is_dir()) {
        for file in
            list(&folder)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "json"))
        {
            let scenario = file.file_stem().expect("has an extension").to_string_lossy().into_owned();
            newest.insert(scenario, file);
        }
    }
    Ok(newest)
}

fn section(
    root: &Path,
    scenario: &str,
    path: &Path,
    report: &Report,
    page: &mut String,
) -> Result<(), Error> {
    let machine = &report.machine;
    let relative = path.strip_prefix(root).unwrap_or(path).display();
    let _ = writeln!(page, "\n## {scenario}\n");
    let _ = writeln!(
        page,
        "{}, {} ({} CPUs, {} MiB{}), Linux {}, commit {}.\nRaw rows and configurations: [{relative}](../{relative}). Again: `cargo run --release -p bench -- {}`.\n",
        machine.date,
        machine.cpu,
        machine.cores,
        machine.memory_mib,
        if machine.virtual_machine { ", virtual" } else { "" },
        machine.kernel,
        machine.commit,
        report.command,
    );
    let mut versions: Vec<String> = report
        .contestants
        .iter()
        .map(|contestant| format!("{} is {}", contestant.name, contestant.version))
        .collect();
    versions.dedup();
    let _ = writeln!(page, "Versions: {}.\n", versions.join(", "));
    for (name, title, blocks) in charts(report) {
        if blocks.is_empty() {
            continue;
        }
        let file = path.with_file_name(format!("{scenario}-{name}.svg"));
        chart::draw(&file, &format!("{scenario}: {title}"), &blocks)?;
        let relative = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        let _ = writeln!(page, "![{scenario}: {title}](../{relative})\n");
    }
    for case in report.cases() {
        table(report, case, page);
    }
    for gap in &report.gaps {
        let case = if gap.case.is_empty() { "every case" } else { &gap.case };
        let _ = writeln!(page, "- Gap: {case}, {}: {}", gap.contestant, gap.reason);
    }
    Ok(())
}

fn table(report: &Report, case: &str, page: &mut String) {
    let rows = || report.rows.iter().filter(move |row| row.case == case);
    let columns: Vec<&Column> =
        COLUMNS.iter().filter(|column| rows().any(|row| (column.of)(row).is_some())).collect();
    let contestants = report.contestants_of(case);
    let Some(ours) = contestants.first() else { return };
    let durability = rows().map(|row| row.durability.as_str()).find(|text| !text.is_empty());
    let _ = writeln!(page, "**{case}**{}\n", durability.map(|text| format!(" ({text})")).unwrap_or_default());
    let titles: Vec<&str> = columns.iter().map(|column| column.title).collect();
    let _ = writeln!(page, "| | {} | |\n|---|{}---|", titles.join(" | "), "---|".repeat(columns.len()));
    for contestant in &contestants {
        let _ = write!(page, "| {contestant} |");
        for column in &columns {
            let text = match report.figure(case, contestant, column) {
                Some(figure) if contestant == ours => {
                    format!("{} ({})", short(figure.median), spread(figure))
                }
                Some(figure) => match report.ratio(case, ours, contestant, column) {
                    Some(ratio) => {
                        format!("{}, ×{:.2} ({})", short(figure.median), ratio.median, spread(ratio))
                    }
                    None => short(figure.median),
                },
                None => "–".to_owned(),
            };
            let _ = write!(page, " {text} |");
        }
        let mine = || rows().filter(|row| row.contestant == *contestant);
        let mut notes = Vec::new();
        if mine().any(|row| row.saturation.as_ref().is_some_and(|seen| seen.load_was_the_limit)) {
            notes.push("the load was the limit of the throughput".to_owned());
        }
        if mine().any(|row| row.latency.as_ref().is_some_and(|seen| seen.suspect)) {
            notes.push("latencies are partly the load's own".to_owned());
        }
        match mine().map(Row::lost).sum() {
            0_u64 => {}
            lost => notes.push(format!("{lost} requests lost")),
        }
        notes.extend(others(mine().filter_map(|row| row.saturation.as_ref()).flat_map(|seen| &seen.others)));
        let _ = writeln!(page, " {} |", notes.join("; "));
    }
    page.push('\n');
}

/// What the scenario counted besides: the median of each.
fn others<'a>(counted: impl Iterator<Item = &'a (String, f64)>) -> Vec<String> {
    let mut by_name: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, value) in counted {
        by_name.entry(name).or_default().push(*value);
    }
    let median = |values: Vec<f64>| Figure::of(values).expect("not empty").median;
    by_name.into_iter().map(|(name, values)| format!("{name}: {}", short(median(values)))).collect()
}

fn spread(figure: Figure) -> String {
    format!("{} to {}", short(figure.lowest), short(figure.highest))
}

/// A chart's file name, title and blocks.
fn charts(report: &Report) -> [(&'static str, &'static str, Vec<Block>); 3] {
    let [cpu, throughput, p50, p99, p999, ..] = &COLUMNS;
    let single = |column: &'static Column| {
        blocks(report, |case, contestant| {
            let figure = report.figure(case, contestant, column)?;
            Some((figure.median, figure.median, short(figure.median)))
        })
    };
    let latency = blocks(report, |case, contestant| {
        let median = |column| Some(report.figure(case, contestant, column)?.median);
        let (p50, p99, p999) = (median(p50)?, median(p99)?, median(p999)?);
        Some((p99, p50.min(p99), format!("{} / {} / {}", short(p50), short(p99), short(p999))))
    });
    [
        ("cpu", "CPU µs per request (less is better)", single(cpu)),
        ("throughput", "requests per second (more is better)", single(throughput)),
        ("latency", "latency, µs: p50 dark, p99 light (p50 / p99 / p99.9)", latency),
    ]
}

/// For each case the bars of those who have one: value, darker part, label.
fn blocks(report: &Report, bar: impl Fn(&str, &str) -> Option<(f64, f64, String)>) -> Vec<Block> {
    let block = |case: &str| {
        let contestants = report.contestants_of(case);
        let bars = contestants.iter().enumerate().filter_map(|(number, contestant)| {
            let (value, dark, label) = bar(case, contestant)?;
            Some(Bar {
                name: (*contestant).to_owned(),
                value,
                dark,
                label,
                is_ours: number == 0 && !report.lacks_ours(case),
            })
        });
        Block { case: case.to_owned(), bars: bars.collect() }
    };
    report.cases().into_iter().map(block).filter(|block| !block.bars.is_empty()).collect()
}
