//! An item's bytes: a fixed head, the key, the value, one after the other with nothing between.
//!
//! | bytes | what |
//! |---|---|
//! | 0–7 | CAS value |
//! | 8–12 | expiry in milliseconds of the store's clock, 0 for never |
//! | 13 | key length |
//! | 14 | marks |
//! | 15 | how often it was asked for since it was last spared, at most [`HEAT_MAX`] |
//! | 16–19 | value length |
//! | 20–23 | the client's flags |
//! | 24–27 | last access in seconds of the store's clock |

/// The length of the head.
pub(crate) const HEAD_BYTES: usize = 28;

/// Where [`Head::heat`] stops counting.
pub(super) const HEAT_MAX: u8 = 3;

/// What is known of an item beside its key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The version.
    pub(crate) cas: u64,
    /// When it ends, in milliseconds of the store's clock; 0 for never.
    pub(crate) expiry_ms: u64,
    /// The client's own 32 bits.
    pub(crate) client_flags: u32,
    /// When it was last asked for or written, in seconds of the store's clock.
    pub(crate) last_access_s: u32,
    /// Whether it was ever asked for.
    pub(crate) fetched: bool,
    /// Whether it was marked stale (`md I`, `ms I`).
    pub(crate) stale: bool,
    /// Whether somebody was told to refill it.
    pub(crate) token_sent: bool,
    /// Whether the key was given in base64.
    pub(crate) binary_key: bool,
    pub(super) dead: bool,
    pub(super) heat: u8,
    pub(super) key_bytes: u8,
    pub(super) value_bytes: u32,
}

impl Head {
    /// The head of a new item.
    pub(crate) fn new(client_flags: u32, expiry_ms: u64, cas: u64) -> Head {
        Head {
            cas,
            expiry_ms,
            client_flags,
            last_access_s: 0,
            fetched: false,
            stale: false,
            token_sent: false,
            binary_key: false,
            dead: false,
            heat: 0,
            key_bytes: 0,
            value_bytes: 0,
        }
    }

    /// Notes a use at `now_s`, which counts when the item's turn to be evicted comes.
    pub(crate) fn warm(&mut self, now_s: u32) {
        self.heat = (self.heat + 1).min(HEAT_MAX);
        self.last_access_s = now_s;
    }

    /// The length of the whole item.
    pub(super) fn item_bytes(&self) -> usize {
        HEAD_BYTES + usize::from(self.key_bytes) + self.value_bytes as usize
    }

    pub(super) fn is_expired(&self, now_ms: u64) -> bool {
        self.expiry_ms != 0 && self.expiry_ms <= now_ms
    }

    pub(super) fn read(bytes: &[u8]) -> Head {
        let bytes: &[u8; HEAD_BYTES] = bytes[..HEAD_BYTES].try_into().expect("a whole head");
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let marks = bytes[14];
        Head {
            cas: u64::from(word(0)) | u64::from(word(4)) << 32,
            expiry_ms: u64::from(word(8)) | u64::from(bytes[12]) << 32,
            key_bytes: bytes[13],
            heat: bytes[15],
            value_bytes: word(16),
            client_flags: word(20),
            last_access_s: word(24),
            dead: marks & 1 != 0,
            fetched: marks & 2 != 0,
            stale: marks & 4 != 0,
            token_sent: marks & 8 != 0,
            binary_key: marks & 16 != 0,
        }
    }

    pub(super) fn write(&self, bytes: &mut [u8]) {
        let bytes = &mut bytes[..HEAD_BYTES];
        assert!(self.expiry_ms >> 40 == 0, "an expiry fits in 40 bits of milliseconds, 34 years");
        bytes[..8].copy_from_slice(&self.cas.to_le_bytes());
        bytes[8..13].copy_from_slice(&self.expiry_ms.to_le_bytes()[..5]);
        bytes[13] = self.key_bytes;
        bytes[14] = u8::from(self.dead)
            | u8::from(self.fetched) << 1
            | u8::from(self.stale) << 2
            | u8::from(self.token_sent) << 3
            | u8::from(self.binary_key) << 4;
        bytes[15] = self.heat;
        bytes[16..20].copy_from_slice(&self.value_bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.client_flags.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.last_access_s.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_survives_its_bytes() {
        let head = Head {
            last_access_s: 77,
            fetched: true,
            token_sent: true,
            heat: 2,
            key_bytes: 250,
            value_bytes: 1 << 29,
            ..Head::new(u32::MAX, (1 << 40) - 1, u64::MAX - 1)
        };
        let mut bytes = [0; HEAD_BYTES];
        head.write(&mut bytes);
        assert_eq!(Head::read(&bytes), head);
        let head = Head { stale: true, binary_key: true, dead: true, ..Head::new(0, 0, 0) };
        head.write(&mut bytes);
        assert_eq!(Head::read(&bytes), head);
    }
}
