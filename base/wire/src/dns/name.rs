//! Names in their uncompressed wire form: length-prefixed labels, the root's empty label last (RFC 1035 §3.1).
//!
//! What always holds: a [`Name`] has labels of 1 to 63 octets, one root label at its end and at most 255 octets in all.
//! Case is kept as it was given and ignored when names are compared (RFC 4343). Left out: IDNA; an operator writes
//! `xn--` names.

use std::fmt;

/// The longest name, its root label included, in octets (RFC 1035 §2.3.4).
pub const NAME_BYTES_MAX: usize = 255;
/// The longest label in octets, without its length.
pub const LABEL_BYTES_MAX: usize = 63;
/// The most labels that fit a name, the root's not counted.
pub const LABELS_MAX: usize = 127;

/// A name that owns its octets.
#[derive(Clone)]
pub struct Name(Box<[u8]>);

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing between two dots, or no text at all.
    #[error("an empty label")]
    EmptyLabel,
    /// A label above [`LABEL_BYTES_MAX`].
    #[error("a label of more than 63 octets")]
    LabelTooLong,
    /// A name above [`NAME_BYTES_MAX`].
    #[error("a name of more than 255 octets")]
    NameTooLong,
    /// A backslash without what it escapes, or a decimal escape above 255.
    #[error("a backslash escape that is neither \\X nor \\DDD")]
    Escape,
    /// Letters beyond ASCII.
    #[error("a letter outside ASCII (write the xn-- form)")]
    NotAscii,
    /// A relative name where no origin is known.
    #[error("a relative name without an origin")]
    Relative,
    /// Octets that are no uncompressed name.
    #[error("not an uncompressed name")]
    Wire,
}

impl Name {
    /// The root.
    pub fn root() -> Name {
        Name(Box::new([0]))
    }

    /// Reads a name as zone files write it: labels between dots, `\.` and `\DDD` escapes, `@` for `origin`, and a name
    /// without a final dot relative to `origin` (RFC 1035 §5.1).
    pub fn from_text(text: &str, origin: Option<&Name>) -> Result<Name, NameError> {
        if text == "@" {
            return origin.cloned().ok_or(NameError::Relative);
        }
        if text == "." {
            return Ok(Name::root());
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        let mut rest = text.as_bytes();
        loop {
            let (after, dotted) = take_label(rest, &mut wire)?;
            rest = after;
            if rest.is_empty() {
                if dotted {
                    wire.push(0);
                } else {
                    wire.extend_from_slice(origin.ok_or(NameError::Relative)?.as_wire());
                }
                break;
            }
        }
        if wire.len() > NAME_BYTES_MAX {
            return Err(NameError::NameTooLong);
        }
        Ok(Name(wire.into_boxed_slice()))
    }

    /// A name that is absolute whether or not it ends with a dot, as configurations write it.
    pub fn from_absolute_text(text: &str) -> Result<Name, NameError> {
        Name::from_text(text, Some(&Name::root()))
    }

    /// Takes `wire` for a name when it is exactly one uncompressed name.
    pub fn from_wire(wire: &[u8]) -> Result<Name, NameError> {
        match uncompressed_len(wire) {
            Some(len) if len == wire.len() => Ok(Name(wire.into())),
            _ => Err(NameError::Wire),
        }
    }

    /// The octets, root label included: 1 to 255 of them.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The same name in lower case: what equal names have in common.
    pub fn to_lower(&self) -> Name {
        Name(self.0.to_ascii_lowercase().into_boxed_slice())
    }

    /// Whether this name is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &Name) -> bool {
        suffixes(&self.0).any(|suffix| suffix.eq_ignore_ascii_case(&ancestor.0))
    }

    /// The name without its first label; none for the root.
    pub fn parent(&self) -> Option<Name> {
        parent(&self.0).map(|wire| Name(wire.into()))
    }

    /// This name with one more label in front: for `*`, the wildcard below it.
    pub fn child(&self, label: &[u8]) -> Result<Name, NameError> {
        if label.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(NameError::LabelTooLong);
        }
        let mut wire = vec![label.len() as u8];
        wire.extend_from_slice(label);
        wire.extend_from_slice(&self.0);
        if wire.len() > NAME_BYTES_MAX {
            return Err(NameError::NameTooLong);
        }
        Ok(Name(wire.into_boxed_slice()))
    }

    /// Whether the first label is `*` alone (RFC 4592 §2.1.1).
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }

    /// How many labels, the root's not counted.
    pub fn labels(&self) -> usize {
        suffixes(&self.0).count() - 1
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display_wire(&self.0, f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display_wire(&self.0, f)
    }
}

fn display_wire(wire: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use fmt::Write;
    if wire == [0] {
        return f.write_char('.');
    }
    for suffix in suffixes(wire) {
        let label = &suffix[1..1 + usize::from(suffix[0])];
        for &octet in label {
            match octet {
                b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => write!(f, "\\{}", octet as char)?,
                0x21..=0x7e => f.write_char(octet as char)?,
                _ => write!(f, "\\{octet:03}")?,
            }
        }
        if !label.is_empty() {
            f.write_char('.')?;
        }
    }
    Ok(())
}

/// How many octets the uncompressed name at the start of `bytes` has; none when there is no such name (a pointer, an
/// unknown label type, more than 255 octets, or the end of the bytes first).
pub fn uncompressed_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        if length == 0 {
            return Some(at + 1);
        }
        if length > LABEL_BYTES_MAX {
            return None;
        }
        at += 1 + length;
        if at >= NAME_BYTES_MAX {
            return None;
        }
    }
}

/// The valid uncompressed name `wire`, then it without its first label, and so on to the root.
pub fn suffixes(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(wire), |name| parent(name))
}

/// The valid uncompressed name `wire` without its first label; none for the root.
pub fn parent(wire: &[u8]) -> Option<&[u8]> {
    match wire.first() {
        None | Some(0) => None,
        Some(&length) => wire.get(1 + usize::from(length)..),
    }
}

/// Moves one label from `text` to `wire`; gives what follows it and whether a dot ended it.
fn take_label<'a>(text: &'a [u8], wire: &mut Vec<u8>) -> Result<(&'a [u8], bool), NameError> {
    let start = wire.len();
    wire.push(0);
    let mut at = 0;
    let mut dotted = false;
    while at < text.len() {
        match text[at] {
            b'.' => {
                dotted = true;
                at += 1;
                break;
            }
            b'\\' => {
                let (octet, used) = unescape(&text[at..]).ok_or(NameError::Escape)?;
                wire.push(octet);
                at += used;
            }
            octet if octet.is_ascii() => {
                wire.push(octet);
                at += 1;
            }
            _ => return Err(NameError::NotAscii),
        }
        if wire.len() - start - 1 > LABEL_BYTES_MAX {
            return Err(NameError::LabelTooLong);
        }
    }
    let length = wire.len() - start - 1;
    if length == 0 {
        return Err(NameError::EmptyLabel);
    }
    if wire.len() > NAME_BYTES_MAX {
        return Err(NameError::NameTooLong);
    }
    wire[start] = length as u8;
    Ok((&text[at..], dotted))
}

/// The octet that the escape at the start of `text` stands for and how long the escape is: `\DDD` is decimal, `\X` is X
/// itself (RFC 1035 §5.1).
pub(crate) fn unescape(text: &[u8]) -> Option<(u8, usize)> {
    let first = *text.get(1)?;
    if !first.is_ascii_digit() {
        return first.is_ascii().then_some((first, 2));
    }
    let digits = text.get(1..4)?;
    let mut value = 0u16;
    for digit in digits {
        value = value * 10 + u16::from(char::from(*digit).to_digit(10)? as u8);
    }
    Some((u8::try_from(value).ok()?, 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> String {
        Name::from_text(name, Some(&Name::from_absolute_text("example.com").unwrap())).unwrap().to_string()
    }

    #[test]
    fn rfc1035_5_1_relative_absolute_and_at() {
        assert_eq!(text("www"), "www.example.com.");
        assert_eq!(text("www.example.org."), "www.example.org.");
        assert_eq!(text("@"), "example.com.");
        assert_eq!(text("."), ".");
        assert_eq!(Name::from_text("www", None), Err(NameError::Relative));
    }

    #[test]
    fn rfc1035_5_1_escapes_are_decimal() {
        let name = Name::from_text(r"a\.b\046c.example.", None).unwrap();
        assert_eq!(name.as_wire(), b"\x05a.b.c\x07example\x00");
        assert_eq!(name.to_string(), r"a\.b\.c.example.");
        let odd = Name::from_text(r"\000\255.x.", None).unwrap();
        assert_eq!(odd.as_wire(), b"\x02\x00\xff\x01x\x00");
        assert_eq!(Name::from_text(&odd.to_string(), None).unwrap().as_wire(), odd.as_wire());
        for bad in [r"\256.", r"\25", r"a\", r"\1x3."] {
            assert_eq!(Name::from_text(bad, None), Err(NameError::Escape), "{bad}");
        }
    }

    #[test]
    fn rfc1035_2_3_4_lengths() {
        let label = "a".repeat(63);
        assert!(Name::from_text(&format!("{label}."), None).is_ok());
        assert_eq!(Name::from_text(&format!("{label}a."), None), Err(NameError::LabelTooLong));
        // 3 × 64 + 62 + 1 = 255.
        let longest = format!("{label}.{label}.{label}.{}.", "b".repeat(61));
        assert_eq!(Name::from_text(&longest, None).unwrap().as_wire().len(), 255);
        let longer = format!("{label}.{label}.{label}.{}.", "b".repeat(62));
        assert_eq!(Name::from_text(&longer, None), Err(NameError::NameTooLong));
        assert_eq!(Name::from_text("a..b.", None), Err(NameError::EmptyLabel));
        assert_eq!(Name::from_text("", Some(&Name::root())), Err(NameError::EmptyLabel));
        assert_eq!(Name::from_text("bücher.", None), Err(NameError::NotAscii));
    }

    #[test]
    fn wire_names_end_at_the_root_and_at_255_octets() {
        assert_eq!(uncompressed_len(b"\x01a\x00rest"), Some(3));
        assert_eq!(uncompressed_len(b"\x01a"), None);
        assert_eq!(uncompressed_len(b"\xc0\x0c"), None);
        let mut long = Vec::new();
        for _ in 0..127 {
            long.extend_from_slice(b"\x01a");
        }
        long.push(0);
        assert_eq!(uncompressed_len(&long), Some(255));
        assert_eq!(Name::from_wire(&long).unwrap().labels(), LABELS_MAX);
        long.splice(0..0, *b"\x01a");
        assert_eq!(uncompressed_len(&long), None);
    }

    #[test]
    fn rfc4343_case_is_kept_and_ignored() {
        let a = Name::from_absolute_text("WWW.Example.com").unwrap();
        let b = Name::from_absolute_text("www.example.COM.").unwrap();
        assert_eq!(a, b);
        assert_eq!(a.to_string(), "WWW.Example.com.");
        assert!(a.is_within(&Name::from_absolute_text("EXAMPLE.com").unwrap()));
        assert!(!a.is_within(&Name::from_absolute_text("ample.com").unwrap()));
        assert!(a.is_within(&Name::root()));
    }
}
