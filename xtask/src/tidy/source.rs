//! What a source file may name, and how it begins. Works on text: comments and the contents of strings do not count.

use super::Refusal;

/// Names that say nothing (docs/ARCHITECTURE.md, style).
const EMPTY_NAMES: [&str; 6] = ["common", "helper", "helpers", "manager", "misc", "util"];

/// Lines of a file, at most: towards 500 one looks for the second idea in it.
const LINES_MAX: usize = 900;

/// Crates whose root need not forbid unsafe code.
const UNSAFE_CRATES: [&str; 2] = ["base/runtime/", "bench/bare_ring/"];

/// What a `core/` folder may not name, and what it would be.
const IMPURE: [(&str, &str); 21] = [
    ("std::net::Tcp", "sockets"),
    ("std::net::Udp", "sockets"),
    ("std::os::", "descriptors"),
    ("std::fs", "files"),
    ("std::env", "the environment"),
    ("std::process", "processes"),
    ("std::thread", "threads"),
    ("std::sync::Mutex", "locks"),
    ("std::sync::Condvar", "locks"),
    ("thread::spawn", "threads"),
    ("Instant::now", "clocks"),
    ("SystemTime", "clocks"),
    ("UNIX_EPOCH", "clocks"),
    ("runtime::", "the runtime"),
    ("ops::", "the operator's side"),
    ("tokio", "an executor"),
    ("rand::", "randomness"),
    ("async fn", "futures"),
    ("async move", "futures"),
    (".await", "futures"),
    ("std::future", "futures"),
];

/// Sockets of std, which block a core.
const BLOCKING_SOCKETS: [&str; 5] =
    ["net::TcpStream", "net::TcpListener", "net::UdpSocket", "net::UnixStream", "net::UnixListener"];

/// Where they may be named: the runtime itself, where sockets are handed over, tests, what stands beside, and `up`, which is no data path.
const MAY_BLOCK: [&str; 6] =
    ["base/runtime/", "base/ops/src/sockets.rs", "bench/", "verify/", "xtask/", "millrace/src/up/"];

const CORE: &str = "rule 2: a core/ folder is pure: it takes bytes, events and `now`, and returns decisions; move this to shell/";
const UNSAFE: &str = "rule 1: every crate but base/runtime has #![forbid(unsafe_code)] in its root; a measured exception gets a module and a line in UNSAFE_CRATES";
const SOCKETS: &str = "rule 1: only base/runtime makes socket calls; use runtime::net";
const HEAD: &str = "style: a file opens with //! lines: what this is, what always holds, what it leaves out";
const LENGTH: &str = "style: towards 500 lines, look for the second idea in the file";
const NAME: &str = "style: a name teaches what is inside; this one says nothing";
const SIMULATOR: &str =
    "rule: only base/runtime has a cfg(sim): everything else runs unmodified in the simulator";
const MACHINE: &str = "the project names no path of somebody's machine";

pub(super) fn check_name(name: &str) -> Vec<Refusal> {
    let stem = name.rsplit('/').next().and_then(|file| file.split('.').next()).unwrap_or_default();
    let folders = name.split('/');
    if name.ends_with(".rs") && folders.chain([stem]).any(|part| EMPTY_NAMES.contains(&part)) {
        return vec![Refusal { place: name.to_owned(), what: "an empty name".to_owned(), why: NAME }];
    }
    Vec::new()
}

pub(super) fn check_text(name: &str, text: &str) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut refuse = |line: usize, what: String, why| {
        refusals.push(Refusal { place: format!("{name}:{line}"), what, why });
    };
    if let Some((number, path)) = machine_path(name, text) {
        refuse(number, format!("names {path}"), MACHINE);
    }
    if !name.ends_with(".rs") {
        return refusals;
    }
    if !text.starts_with("//!") {
        refuse(1, "no //! head".to_owned(), HEAD);
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        refuse(lines, format!("{lines} lines, at most {LINES_MAX}"), LENGTH);
    }
    let is_root = ["src/lib.rs", "src/main.rs"].iter().any(|root| name.ends_with(root));
    let may_be_unsafe = UNSAFE_CRATES.iter().any(|prefix| name.starts_with(prefix));
    if is_root && !may_be_unsafe && !text.contains("#![forbid(unsafe_code)]") {
        refuse(1, "no #![forbid(unsafe_code)]".to_owned(), UNSAFE);
    }
    let is_core = name.split('/').any(|part| part == "core") || name.starts_with("base/wire/src/");
    let may_block = MAY_BLOCK.iter().any(|prefix| name.starts_with(prefix)) || name.contains("/tests/");
    let mut in_tests = name.ends_with("tests.rs");
    for (index, line) in text.lines().enumerate() {
        let code = code_of(line);
        in_tests |= code.contains("#[cfg(test)]");
        if is_core {
            for (named, what) in IMPURE {
                // A test has to begin its time somewhere.
                let begins_time = in_tests && what == "clocks";
                if names(&code, named) && !begins_time {
                    refuse(index + 1, format!("names {what} (`{named}`) in a pure folder"), CORE);
                }
            }
        }
        if !may_block && !in_tests {
            for named in BLOCKING_SOCKETS {
                if code.contains(named) && !name.starts_with("site/") {
                    refuse(index + 1, format!("names `{named}`"), SOCKETS);
                }
            }
        }
        // verify/sim builds itself with it.
        let may_be_sim = name.starts_with("base/runtime/") || name.starts_with("verify/sim/");
        if code.contains("cfg(sim)") && !may_be_sim {
            refuse(index + 1, "names cfg(sim)".to_owned(), SIMULATOR);
        }
    }
    refusals
}

/// The first absolute path of a person's or a checkout's folder.
fn machine_path<'a>(name: &str, text: &'a str) -> Option<(usize, &'a str)> {
    const FOLDERS: [&str; 3] = ["/home/", "/root/", "/work/"];
    if name == "xtask/src/tidy/source.rs" {
        return None; // they are named here
    }
    text.lines().enumerate().find_map(|(index, line)| {
        FOLDERS.iter().find_map(|folder| {
            let at = line.find(folder)?;
            let starts_path =
                !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-}*$/".contains(before));
            starts_path.then(|| (index + 1, &line[at..line.len().min(at + folder.len())]))
        })
    })
}

/// Whether `code` names `named`, not merely as the end of a longer name.
fn names(code: &str, named: &str) -> bool {
    code.match_indices(named).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        named.starts_with('.')
            || !before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':')
    })
}

/// A line without its comment and without what stands in its strings.
fn code_of(line: &str) -> String {
    let mut code = String::with_capacity(line.len());
    let mut in_string = false;
    let mut before = ' ';
    let mut rest = line.chars().peekable();
    while let Some(this) = rest.next() {
        match this {
            '"' if before != '\\' && before != '\'' => {
                in_string = !in_string;
                code.push('"');
            }
            _ if in_string => {}
            '/' if rest.peek() == Some(&'/') => break,
            _ => code.push(this),
        }
        before = if before == '\\' { ' ' } else { this };
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whys(name: &str, text: &str) -> Vec<&'static str> {
        check_text(name, text).into_iter().map(|refusal| refusal.why).collect()
    }

    #[test]
    fn a_core_that_looks_at_a_clock_is_refused() {
        assert_eq!(whys("proxy/src/core/x.rs", "//! x\nlet now = Instant::now();\n"), [CORE]);
        assert_eq!(whys("proxy/src/core/x.rs", "//! x\nuse runtime::net;\n"), [CORE]);
        assert_eq!(whys("proxy/src/core/x.rs", "//! x\nasync fn f() {}\n"), [CORE]);
        assert_eq!(whys("base/wire/src/x.rs", "//! x\nuse std::fs;\n"), [CORE]);
        assert_eq!(whys("proxy/src/shell/x.rs", "//! x\nuse runtime::net;\n"), [""; 0]);
    }

    #[test]
    fn comments_and_strings_do_not_count() {
        let text = "//! x\n// Instant::now\nlet a = \"std::fs // \\\" runtime::\"; // tokio\nlet crate_runtime::x;\n";
        assert_eq!(whys("proxy/src/core/x.rs", text), [""; 0]);
    }

    #[test]
    fn roots_forbid_unsafe_code() {
        assert_eq!(whys("proxy/src/lib.rs", "//! x\n"), [UNSAFE]);
        assert_eq!(whys("base/runtime/src/lib.rs", "//! x\n"), [""; 0]);
        assert_eq!(whys("proxy/src/lib.rs", "//! x\n#![forbid(unsafe_code)]\n"), [""; 0]);
    }

    #[test]
    fn sockets_of_std_are_refused_in_daemons() {
        assert_eq!(whys("proxy/src/shell/x.rs", "//! x\nuse std::net::TcpStream;\n"), [SOCKETS]);
        assert_eq!(whys("proxy/tests/x.rs", "//! x\nuse std::net::TcpStream;\n"), [""; 0]);
    }

    #[test]
    fn heads_names_and_lengths() {
        assert_eq!(whys("proxy/src/shell/x.rs", "fn x() {}\n"), [HEAD]);
        assert_eq!(check_name("proxy/src/util.rs").len(), 1);
        assert_eq!(check_name("proxy/src/common/x.rs").len(), 1);
        assert_eq!(check_name("proxy/src/pool.rs").len(), 0);
        let long = "//! x\n".repeat(LINES_MAX + 1);
        assert_eq!(whys("proxy/src/shell/x.rs", &long), [LENGTH]);
    }

    #[test]
    fn paths_of_a_machine_are_refused() {
        assert_eq!(whys("README.md", "see /home/somebody/x\n"), [MACHINE]);
        assert_eq!(whys("README.md", "see docs/home/page\n"), [""; 0]);
    }
}
