//! Frames: a big-endian 32-bit length, then that many bytes (<https://kafka.apache.org/protocol#protocol_common>).
//!
//! The buffer grows with what has arrived, never with what a length prefix claims. A length below the smallest
//! request head or above the limit is an error, after which the connection can't be read any further.

use bytes::{Bytes, BytesMut};

/// A request head has at least key, version, correlation id and the length of the client id.
pub const REQUEST_BYTES_MIN: usize = 10;

/// Bytes of the length prefix.
pub const PREFIX_BYTES: usize = 4;

/// Why a stream of frames can't be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length prefix is outside of what is served.
    #[error("a frame of {claimed} bytes is outside of {REQUEST_BYTES_MIN}..={bytes_max}")]
    Length {
        /// What the prefix said.
        claimed: i32,
        /// The limit in force.
        bytes_max: usize,
    },
}

/// Cuts a byte stream into frames.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    bytes_max: usize,
}

impl FrameReader {
    /// A reader that refuses frames of more than `bytes_max` bytes (prefix not counted).
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), bytes_max }
    }

    /// Takes what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes held of frames not yet taken.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes that the frame at the front has in all, as far as its prefix says so already.
    #[must_use]
    pub fn claimed_bytes(&self) -> usize {
        let prefix = self.buffer.first_chunk::<PREFIX_BYTES>();
        prefix.map_or(0, |prefix| usize::try_from(i32::from_be_bytes(*prefix)).unwrap_or(0))
    }

    /// The next whole frame without its prefix, or `None` until more has arrived.
    ///
    /// # Errors
    /// [`FrameError::Length`]; the stream is lost then.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let claimed = i32::from_be_bytes(*prefix);
        let len = usize::try_from(claimed).unwrap_or(0);
        if len < REQUEST_BYTES_MIN || len > self.bytes_max {
            return Err(FrameError::Length { claimed, bytes_max: self.bytes_max });
        }
        if self.buffer.len() < PREFIX_BYTES + len {
            return Ok(None);
        }
        let _ = self.buffer.split_to(PREFIX_BYTES);
        Ok(Some(self.buffer.split_to(len).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_whatever_the_pieces() {
        let mut stream = Vec::new();
        for len in [10_usize, 11, 500] {
            stream.extend_from_slice(&(len as u32).to_be_bytes());
            stream.extend(std::iter::repeat_n(len as u8, len));
        }
        for step in [1, 3, 7, 1000] {
            let mut reader = FrameReader::new(500);
            let mut lens = Vec::new();
            for piece in stream.chunks(step) {
                reader.push(piece);
                while let Some(frame) = reader.next_frame().unwrap() {
                    assert!(frame.iter().all(|&b| b == frame.len() as u8));
                    lens.push(frame.len());
                }
            }
            assert_eq!(lens, [10, 11, 500]);
            assert_eq!(reader.buffered_bytes(), 0);
        }
    }

    #[test]
    fn lengths_outside_the_bounds_are_refused() {
        for claimed in [-1_i32, 0, 9, 501, i32::MAX, i32::from_be_bytes(*b"aaaa")] {
            let mut reader = FrameReader::new(500);
            reader.push(&claimed.to_be_bytes());
            assert_eq!(reader.next_frame(), Err(FrameError::Length { claimed, bytes_max: 500 }));
        }
    }
}
