//! Glob patterns as `KEYS`, `SCAN MATCH` and `CONFIG GET` take them: `*`, `?`, `[a-z]`, `[^a]`, `\` before a literal.
//!
//! Linear in the text for each star, as only the last star is ever tried again: no pattern makes it exponential.

/// Whether the whole text matches the pattern; `fold` ignores the case of ASCII letters.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8], fold: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    // Behind the last star, and where in the text its match is tried next.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        if t == text.len() {
            return p == pattern.len();
        }
        match (p < pattern.len()).then(|| one(&pattern[p..], text[t], fold)).flatten() {
            Some(taken) => {
                p += taken;
                t += 1;
            }
            None => {
                let Some((after, at)) = retry else { return false };
                (p, t) = (after, at + 1);
                retry = Some((after, t));
            }
        }
    }
}

/// How much of the pattern matches this one byte, if it does.
fn one(pattern: &[u8], byte: u8, fold: bool) -> Option<usize> {
    let same = |a: u8, b: u8| if fold { a.eq_ignore_ascii_case(&b) } else { a == b };
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', ..] => {
            let (found, taken) = class(pattern, byte, fold);
            found.then_some(taken)
        }
        [b'\\', literal, ..] => same(*literal, byte).then_some(2),
        [literal, ..] => same(*literal, byte).then_some(1),
        [] => None,
    }
}

/// A class, and how long it is; one that is not closed ends with the pattern.
fn class(pattern: &[u8], byte: u8, fold: bool) -> (bool, usize) {
    let lower = |byte: u8| if fold { byte.to_ascii_lowercase() } else { byte };
    let mut at = 1;
    let negated = pattern.get(1) == Some(&b'^');
    if negated {
        at += 1;
    }
    let mut found = false;
    loop {
        match &pattern[at..] {
            [] => break,
            [b'\\', literal, ..] => {
                found |= lower(*literal) == lower(byte);
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [from, b'-', to, ..] => {
                let (from, to) = (lower(*from.min(to)), lower(*from.max(to)));
                found |= (from..=to).contains(&lower(byte));
                at += 3;
            }
            [literal, ..] => {
                found |= lower(*literal) == lower(byte);
                at += 1;
            }
        }
    }
    (found != negated, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let yes = |pattern: &str, text: &str| {
            assert!(matches(pattern.as_bytes(), text.as_bytes(), false), "{pattern} {text}");
        };
        let no = |pattern: &str, text: &str| {
            assert!(!matches(pattern.as_bytes(), text.as_bytes(), false), "{pattern} {text}");
        };
        yes("*", "");
        yes("h?llo", "hello");
        yes("h*llo", "heeeello");
        yes("h[ae]llo", "hallo");
        no("h[ae]llo", "hillo");
        yes("h[^e]llo", "hallo");
        no("h[^e]llo", "hello");
        yes("h[a-b]llo", "hbllo");
        yes("h\\*llo", "h*llo");
        no("h\\*llo", "hello");
        yes("a*b*c", "axxbyyc");
        no("a*b*c", "axxbyy");
        no("", "a");
    }

    #[test]
    fn case_may_be_ignored_and_stars_stay_cheap() {
        assert!(matches(b"MAX*", b"maxmemory", true));
        assert!(!matches(&b"a*".repeat(50), &[b'a'; 40], false));
        assert!(!matches(&[&b"*a".repeat(40)[..], b"b"].concat(), &[b'a'; 10_000], false));
    }
}
