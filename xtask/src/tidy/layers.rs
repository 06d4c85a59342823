//! Who may depend on whom: the layers, and the packages that only some crates may use.

use super::Refusal;
use crate::run::output;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The layers, lowest first. A crate may depend on crates of lower layers only.
const LAYERS: [&[&str]; 8] = [
    &["runtime", "wire"],
    &["ops"],
    &["tls"],
    &["replog"],
    &["cluster"],
    &["proxy", "geodns", "cachesrv", "dbshard", "broker", "site"],
    &["millrace"],
    &["bare_ring", "bench", "e2e", "forgetful", "fuzz", "histories", "sim", "xtask"],
];

/// Where a daemon's layer is in [`LAYERS`], and what stands beside everything.
const DAEMONS: usize = 5;
const BESIDE: usize = 7;

const DOWN: &str = "rule: arrows of dependency point down only (docs/ARCHITECTURE.md, layers); move the shared part to a lower layer";
const DAEMON: &str = "rule 3: a daemon never imports another; they meet over their public protocols";
const ASIDE: &str = "rule: nothing imports what stands beside (bench, verify, xtask)";
const KERNEL: &str = "rule 1: only base/runtime (and bench's comparison of runtimes) talks to the kernel about I/O; use the runtime's facade";
const TOKIO: &str = "rule 4: no tokio in a data path; use the runtime, or put the library on a thread and in a crate of its own";

/// Packages that talk to the kernel about I/O, and who may name them.
const KERNEL_PACKAGES: [&str; 9] =
    ["compio", "glommio", "io-uring", "libc", "mio", "monoio", "polling", "socket2", "tokio-uring"];
const KERNEL_CRATES: [&str; 4] = ["runtime", "bare_ring", "bench", "forgetful"];

/// Who may have tokio somewhere below it.
const TOKIO_CRATES: [&str; 4] = ["site", "millrace", "bench", "e2e"];

/// Packages for other systems do not count.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// One of our crates and what it names in its manifest.
struct Package {
    name: String,
    /// Dependencies that end up in the product, and all including those of tests.
    normal: BTreeSet<String>,
    all: BTreeSet<String>,
}

pub(super) fn check(root: &Path) -> Result<Vec<Refusal>, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let metadata =
        output(root, &cargo, &["metadata", "--format-version", "1", "--filter-platform", PLATFORM])?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
    let packages = ours(&metadata);
    let mut refusals: Vec<Refusal> = packages.iter().flat_map(check_package).collect();
    refusals.extend(check_tokio(&packages, &metadata));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).map_err(|error| error.to_string())?;
    refusals.extend(check_reasons(&manifest));
    Ok(refusals)
}

fn strings<'a>(value: &'a Value, key: &'a str) -> impl Iterator<Item = &'a str> {
    value[key].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn ours(metadata: &Value) -> Vec<Package> {
    let members: BTreeSet<&str> = strings(metadata, "workspace_members").collect();
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .filter(|package| package["id"].as_str().is_some_and(|id| members.contains(id)))
        .map(|package| {
            let names = |only_normal: bool| {
                let all = package["dependencies"].as_array().into_iter().flatten();
                all.filter(|dependency| !only_normal || dependency["kind"].is_null())
                    .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
                    .collect()
            };
            let name = package["name"].as_str().unwrap_or_default().to_owned();
            Package { name, normal: names(true), all: names(false) }
        })
        .collect()
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|crates| crates.contains(&name))
}

fn check_package(package: &Package) -> Vec<Refusal> {
    let place = format!("{}/Cargo.toml", package.name);
    let refusal = |what: String, why| Refusal { place: place.clone(), what, why };
    let Some(own) = layer(&package.name) else {
        return vec![refusal(
            "this crate is in no layer".to_owned(),
            "name it in LAYERS of xtask/src/tidy/layers.rs, and in docs/ARCHITECTURE.md",
        )];
    };
    let mut refusals = Vec::new();
    for other in &package.all {
        match layer(other) {
            Some(BESIDE) if own != BESIDE => refusals.push(refusal(format!("depends on {other}"), ASIDE)),
            Some(DAEMONS) if own == DAEMONS => refusals.push(refusal(format!("depends on {other}"), DAEMON)),
            Some(theirs) if theirs >= own && own != BESIDE => {
                refusals.push(refusal(format!("depends on {other}"), DOWN));
            }
            _ => {}
        }
    }
    if !KERNEL_CRATES.contains(&package.name.as_str()) {
        for other in &package.normal {
            if KERNEL_PACKAGES.contains(&other.as_str()) {
                refusals.push(refusal(format!("depends on {other}"), KERNEL));
            }
        }
    }
    refusals
}

/// Whether tokio is somewhere below a crate that may not have it, and through whom.
fn check_tokio(packages: &[Package], metadata: &Value) -> Vec<Refusal> {
    let nodes = metadata["resolve"]["nodes"].as_array().into_iter().flatten();
    let mut below: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in nodes {
        let Some(id) = node["id"].as_str() else { continue };
        let normal = node["deps"].as_array().into_iter().flatten().filter(|dependency| {
            dependency["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"].is_null())
        });
        below.insert(id, normal.filter_map(|dependency| dependency["pkg"].as_str()).collect());
    }
    let name = |id: &str| -> String {
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let mut named = packages.filter(|package| package["id"].as_str() == Some(id));
        named.next().and_then(|package| package["name"].as_str()).unwrap_or(id).to_owned()
    };
    let mut refusals = Vec::new();
    for member in strings(metadata, "workspace_members") {
        let crate_name = name(member);
        let is_ours = packages.iter().any(|package| package.name == crate_name);
        if !is_ours || TOKIO_CRATES.contains(&crate_name.as_str()) {
            continue;
        }
        let mut waiting = vec![vec![member]];
        let mut seen = BTreeSet::from([member]);
        while let Some(path) = waiting.pop() {
            let last = path[path.len() - 1];
            for next in below.get(last).into_iter().flatten() {
                if name(next) == "tokio" {
                    let through: Vec<String> = path.iter().map(|id| name(id)).collect();
                    refusals.push(Refusal {
                        place: format!("{crate_name}/Cargo.toml"),
                        what: format!("has tokio below it: {} > tokio", through.join(" > ")),
                        why: TOKIO,
                    });
                } else if seen.insert(next) {
                    waiting.push(path.iter().copied().chain([*next]).collect());
                }
            }
        }
    }
    refusals
}

/// Every package of others has its reason beside it.
fn check_reasons(manifest: &str) -> Vec<Refusal> {
    let mut in_table = false;
    let mut refusals = Vec::new();
    for (number, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            in_table = line == "[workspace.dependencies]";
        } else if in_table && line.contains(" = ") && !line.contains("path = ") && !line.contains(" # ") {
            refusals.push(Refusal {
                place: format!("Cargo.toml:{}", number + 1),
                what: format!("`{line}` gives no reason"),
                why: "style: one line beside each dependency says why it is here",
            });
        }
    }
    refusals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        let names: BTreeSet<String> = dependencies.iter().map(|name| (*name).to_owned()).collect();
        Package { name: name.to_owned(), normal: names.clone(), all: names }
    }

    fn reasons(name: &str, dependencies: &[&str]) -> Vec<&'static str> {
        check_package(&package(name, dependencies)).into_iter().map(|refusal| refusal.why).collect()
    }

    #[test]
    fn arrows_point_down() {
        assert_eq!(reasons("proxy", &["runtime", "wire", "ops", "tls", "bytes"]), [""; 0]);
        assert_eq!(reasons("runtime", &["ops"]), [DOWN]);
        assert_eq!(reasons("tls", &["replog"]), [DOWN]);
        assert_eq!(reasons("dbshard", &["broker"]), [DAEMON]);
        assert_eq!(reasons("broker", &["millrace"]), [DOWN]);
        assert_eq!(reasons("site", &["e2e"]), [ASIDE]);
        assert_eq!(reasons("bench", &["proxy", "e2e"]), [""; 0]);
    }

    #[test]
    fn only_the_runtime_talks_to_the_kernel() {
        assert_eq!(reasons("proxy", &["socket2"]), [KERNEL]);
        assert_eq!(reasons("dbshard", &["libc", "io-uring"]), [KERNEL, KERNEL]);
        assert_eq!(reasons("runtime", &["libc", "io-uring"]), [""; 0]);
    }

    #[test]
    fn tokio_is_found_however_deep() {
        let metadata = serde_json::json!({
            "workspace_members": ["proxy-id", "site-id"],
            "packages": [
                {"id": "proxy-id", "name": "proxy", "dependencies": []},
                {"id": "site-id", "name": "site", "dependencies": []},
                {"id": "other-id", "name": "other"},
                {"id": "tokio-id", "name": "tokio"},
            ],
            "resolve": {"nodes": [
                {"id": "proxy-id", "deps": [{"pkg": "other-id", "dep_kinds": [{"kind": null}]}]},
                {"id": "site-id", "deps": [{"pkg": "tokio-id", "dep_kinds": [{"kind": null}]}]},
                {"id": "other-id", "deps": [{"pkg": "tokio-id", "dep_kinds": [{"kind": null}]}]},
                {"id": "tokio-id", "deps": []},
            ]},
        });
        let refusals = check_tokio(&ours(&metadata), &metadata);
        assert_eq!(refusals.len(), 1);
        assert_eq!(refusals[0].what, "has tokio below it: proxy > other > tokio");
    }

    #[test]
    fn a_dependency_without_a_reason_is_refused() {
        let manifest = "[workspace.dependencies]\nruntime = { path = \"base/runtime\" }\na = \"1\" # why\nb = \"2\"\n[x]\nc = \"3\"\n";
        let refusals = check_reasons(manifest);
        assert_eq!(refusals.len(), 1);
        assert_eq!(refusals[0].place, "Cargo.toml:4");
    }
}
