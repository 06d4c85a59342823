//! A zone file cut into entries and their tokens: comments, quotes and parentheses end here (RFC 1035 §5.1).
//!
//! Tokens are slices of the text, their escapes still in them: what an escape means differs between names and strings.

use super::ZoneFileError;

/// What stands between white space, or in quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    /// Without its quotes, with its escapes.
    pub(super) text: &'a str,
    /// Whether it stood in quotes.
    pub(super) quoted: bool,
}

/// One entry: a line, or several held together by parentheses. It has at least one token.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// The line it begins at, from 1.
    pub(super) line: usize,
    /// Whether white space comes first, so that the owner is the last one named.
    pub(super) starts_blank: bool,
    pub(super) tokens: Vec<Token<'a>>,
}

#[derive(Debug)]
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Tokens<'a> {
        Tokens { text: text.strip_prefix('\u{feff}').unwrap_or(text), at: 0, line: 1 }
    }

    /// The next entry that is not empty; none at the end.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry<'a>>, ZoneFileError> {
        while self.at < self.text.len() {
            let line = self.line;
            let starts_blank = matches!(self.peek(), Some(b' ' | b'\t'));
            let tokens =
                self.take_entry().map_err(|problem| ZoneFileError { line, problem: problem.into() })?;
            if !tokens.is_empty() {
                return Ok(Some(Entry { line, starts_blank, tokens }));
            }
        }
        Ok(None)
    }

    fn take_entry(&mut self) -> Result<Vec<Token<'a>>, &'static str> {
        let mut tokens = Vec::new();
        let mut depth = 0usize;
        loop {
            match self.peek() {
                None if depth > 0 => return Err("a ( that nothing closes"),
                None => return Ok(tokens),
                Some(b'\n') => {
                    self.at += 1;
                    self.line += 1;
                    if depth == 0 {
                        return Ok(tokens);
                    }
                }
                Some(b' ' | b'\t' | b'\r') => self.at += 1,
                Some(b';') => self.skip_comment(),
                Some(b'(') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b')') => {
                    depth = depth.checked_sub(1).ok_or("a ) without its (")?;
                    self.at += 1;
                }
                Some(b'"') => tokens.push(self.take_quoted()?),
                Some(_) => tokens.push(self.take_word()?),
            }
        }
    }

    fn skip_comment(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    }

    fn take_quoted(&mut self) -> Result<Token<'a>, &'static str> {
        let start = self.at + 1;
        self.skip_quoted()?;
        Ok(Token { text: &self.text[start..self.at - 1], quoted: true })
    }

    /// A word ends at white space, a parenthesis or a comment; a quote inside it (`alpn="h2,h3"`) reaches to its end.
    fn take_word(&mut self) -> Result<Token<'a>, &'static str> {
        let start = self.at;
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b'(' | b')' | b';' => break,
                b'"' => self.skip_quoted()?,
                b'\\' => self.skip_escape()?,
                _ => self.at += 1,
            }
        }
        Ok(Token { text: &self.text[start..self.at], quoted: false })
    }

    /// Moves from an opening quote behind its closing one.
    fn skip_quoted(&mut self) -> Result<(), &'static str> {
        self.at += 1;
        loop {
            match self.peek() {
                None | Some(b'\n') => return Err("a quoted string that its line does not close"),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.skip_escape()?,
                Some(_) => self.at += 1,
            }
        }
    }

    /// Moves behind a backslash and the ASCII character that it escapes, so that `at` stays on a character's boundary.
    fn skip_escape(&mut self) -> Result<(), &'static str> {
        match self.text.as_bytes().get(self.at + 1) {
            Some(escaped) if escaped.is_ascii() && *escaped != b'\n' => {
                self.at += 2;
                Ok(())
            }
            _ => Err("a backslash that escapes nothing"),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}
