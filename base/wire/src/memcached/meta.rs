//! The meta commands' flags and keys.
//!
//! As in memcached every command takes every flag and looks only at its own; a flag given twice or not at all known
//! refuses the line.

use data_encoding::BASE64;

use super::number::{parse_i32, parse_u32, parse_u64};
use super::request::Tokens;
use super::{KEY_BYTES_MAX, META_TOKENS_MAX, OPAQUE_BYTES_MAX, answer};

/// The most flags that fit beside a name and a key.
const FLAGS_MAX: usize = META_TOKENS_MAX - 2;

/// The longest key that base64 of [`KEY_BYTES_MAX`] bytes can hold.
const DECODED_BYTES_MAX: usize = KEY_BYTES_MAX / 4 * 3 + 3;

/// The key of a meta command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetaKey<'a> {
    sent: &'a [u8],
    decoded: Option<([u8; DECODED_BYTES_MAX], u8)>,
}

impl<'a> MetaKey<'a> {
    pub(super) fn plain(sent: &'a [u8]) -> MetaKey<'a> {
        MetaKey { sent, decoded: None }
    }

    /// The key of a `b` command. `None` if it is no base64 or empty.
    pub(super) fn base64(sent: &'a [u8]) -> Option<MetaKey<'a>> {
        let length = BASE64.decode_len(sent.len()).ok()?;
        let mut decoded = [0; DECODED_BYTES_MAX];
        let length = BASE64.decode_mut(sent, decoded.get_mut(..length)?).ok()?;
        let length = u8::try_from(length).ok().filter(|length| *length > 0)?;
        Some(MetaKey { sent, decoded: Some((decoded, length)) })
    }

    /// The key as it is stored.
    pub fn bytes(&self) -> &[u8] {
        match &self.decoded {
            Some((bytes, length)) => &bytes[..usize::from(*length)],
            None => self.sent,
        }
    }

    /// The key as the client wrote it.
    pub fn as_sent(&self) -> &'a [u8] {
        self.sent
    }

    /// Whether the client wrote it in base64.
    pub fn is_binary(&self) -> bool {
        self.decoded.is_some()
    }
}

/// A meta command's key and flags.
#[derive(Debug, PartialEq, Eq)]
pub struct Meta<'a> {
    /// The key.
    pub key: MetaKey<'a>,
    /// What the flags mean.
    pub flags: MetaFlags,
    tokens: [&'a [u8]; FLAGS_MAX],
    count: usize,
}

/// What a meta command's flags ask for. `mode` is the letter of `M`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // each is its flag's letter, see protocol.txt
pub struct MetaFlags {
    pub value_v: bool,
    pub no_update_u: bool,
    pub quiet_q: bool,
    pub invalidate_i: bool,
    pub remove_value_x: bool,
    pub vivify_n: Option<i32>,
    pub recache_r: Option<i32>,
    pub ttl_t: Option<i32>,
    pub client_flags_f: u32,
    pub compare_cas_c: Option<u64>,
    pub new_cas_e: Option<u64>,
    pub initial_j: u64,
    pub delta_d: Option<u64>,
    pub mode_m: Option<u8>,
}

impl<'a> Meta<'a> {
    /// The flags in the order they came, since answers keep it.
    pub fn tokens(&self) -> &[&'a [u8]] {
        &self.tokens[..self.count]
    }

    /// Reads the flags that follow `key`. `Err` is the answer.
    pub(super) fn parse(key: &'a [u8], flags: Tokens<'a>) -> Result<Meta<'a>, &'static str> {
        let mut meta = Meta {
            key: MetaKey::plain(key),
            flags: MetaFlags::default(),
            tokens: [&[]; FLAGS_MAX],
            count: 0,
        };
        for token in flags {
            *meta.tokens.get_mut(meta.count).ok_or(answer::FLAGS_TOO_LONG)? = token;
            meta.count += 1;
        }
        let mut seen: u128 = 0;
        let mut failure = None;
        for token in &meta.tokens[..meta.count] {
            let letter = token[0];
            if letter >= 127 || seen & (1 << letter) != 0 {
                return Err(answer::DUPLICATE_FLAG);
            }
            seen |= 1 << letter;
            if let Err(text) = read_flag(&mut meta.flags, &mut meta.key, letter, &token[1..]) {
                if text == answer::INVALID_FLAG {
                    return Err(text);
                }
                failure = Some(text);
            }
        }
        match failure {
            Some(text) => Err(text),
            None => Ok(meta),
        }
    }
}

fn read_flag(
    flags: &mut MetaFlags,
    key: &mut MetaKey<'_>,
    letter: u8,
    text: &[u8],
) -> Result<(), &'static str> {
    let time = || parse_i32(text).ok_or(answer::BAD_TOKEN);
    let number = |failure| parse_u64(text).ok_or(failure);
    match letter {
        b'k' | b's' | b't' | b'c' | b'f' | b'l' | b'h' | b'P' | b'L' => {}
        b'O' if text.len() < OPAQUE_BYTES_MAX => {}
        b'O' => return Err(answer::OPAQUE_TOO_LONG),
        b'b' => *key = MetaKey::base64(key.sent).ok_or(answer::BAD_BASE64)?,
        b'v' => flags.value_v = true,
        b'u' => flags.no_update_u = true,
        b'q' => flags.quiet_q = true,
        b'I' => flags.invalidate_i = true,
        b'x' => flags.remove_value_x = true,
        b'N' => flags.vivify_n = Some(time()?),
        b'R' => flags.recache_r = Some(time()?),
        b'T' => flags.ttl_t = Some(time()?),
        b'F' => flags.client_flags_f = parse_u32(text).ok_or(answer::BAD_FORMAT)?,
        b'C' => flags.compare_cas_c = Some(number(answer::BAD_TOKEN)?),
        b'E' => flags.new_cas_e = Some(number(answer::BAD_TOKEN)?),
        b'J' => flags.initial_j = number(answer::BAD_INITIAL)?,
        b'D' => flags.delta_d = Some(number(answer::BAD_META_DELTA)?),
        b'M' if text.len() == 1 => flags.mode_m = Some(text[0]),
        b'M' => return Err(answer::BAD_MODE_LENGTH),
        _ => return Err(answer::INVALID_FLAG),
    }
    Ok(())
}
