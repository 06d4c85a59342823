//! `cargo xtask tidy`: the rules of docs/ARCHITECTURE.md, checked on the dependency graph and on the source text.
//!
//! | module | what |
//! |---|---|
//! | [`layers`] | who may depend on whom; where tokio, rings and system calls may be |
//! | [`source`] | what a file may name, and how it begins |
//!
//! What always holds: each refusal names the place, the rule and the way out.

mod layers;
mod source;

use crate::run::output;
use std::fmt;
use std::path::Path;

/// One refusal.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    place: String,
    what: String,
    why: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    {}", self.place, self.what, self.why)
    }
}

pub(crate) fn run(root: &Path) -> Result<(), String> {
    let mut refusals = layers::check(root)?;
    let files = output(root, "git", &["ls-files", "--cached", "--others", "--exclude-standard"])?;
    let mut checked = 0;
    for name in files.lines() {
        let path = root.join(name);
        // A file that git still lists and that has been deleted.
        if !path.is_file() {
            continue;
        }
        refusals.extend(source::check_name(name));
        if let Ok(text) = std::fs::read_to_string(&path) {
            refusals.extend(source::check_text(name, &text));
            checked += 1;
        }
    }
    if refusals.is_empty() {
        println!("tidy: {checked} files, nothing to refuse");
        return Ok(());
    }
    refusals.iter().for_each(|refusal| println!("{refusal}"));
    Err(format!("tidy refuses {} things", refusals.len()))
}
