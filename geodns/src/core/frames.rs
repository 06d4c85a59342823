//! Messages on a stream: each behind its length in two octets (RFC 1035 §4.2.2, RFC 7766 §8).
//!
//! What always holds: whatever way the stream is cut into pieces, the same messages come out; less than one message is kept
//! between pieces.

/// Octets of the length before each message.
pub const LENGTH_BYTES: usize = 2;

/// What has come of a stream and is not answered yet.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    taken: usize,
}

impl Frames {
    /// Adds what came next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message; none until more has come.
    pub fn next_message(&mut self) -> Option<&[u8]> {
        let rest = &self.bytes[self.taken..];
        let length = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
        let message = rest.get(LENGTH_BYTES..LENGTH_BYTES + length)?;
        self.taken += LENGTH_BYTES + length;
        Some(message)
    }
}

/// Appends to `out` what `write` appends, behind its length. Gives what `write` gives; writes nothing when that appends
/// nothing.
///
/// # Panics
/// When `write` appends more than 65,535 octets.
pub fn write_frame<T>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let given = write(out);
    let length = out.len() - start - LENGTH_BYTES;
    if length == 0 {
        out.truncate(start);
    } else {
        let length = u16::try_from(length).expect("a message has at most 65,535 octets");
        out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_gives_the_same_messages() {
        let mut stream = Vec::new();
        let messages = [&b"one"[..], b"", &[7; 300], b"last"];
        for message in messages {
            stream.extend_from_slice(&(message.len() as u16).to_be_bytes());
            stream.extend_from_slice(message);
        }
        for size in 1..=stream.len() {
            let mut frames = Frames::default();
            let mut have = Vec::new();
            for piece in stream.chunks(size) {
                frames.push(piece);
                while let Some(message) = frames.next_message() {
                    have.push(message.to_vec());
                }
            }
            assert_eq!(have, messages, "pieces of {size}");
        }
    }

    #[test]
    fn frames_are_written_behind_their_length_and_empty_ones_not_at_all() {
        let mut out = b"x".to_vec();
        write_frame(&mut out, |out| out.extend_from_slice(b"abc"));
        write_frame(&mut out, |_| ());
        assert_eq!(out, b"x\x00\x03abc");
    }
}
