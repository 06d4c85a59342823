//! What a partition's replicated log holds: record batches, and the few commands beside them.
//!
//! A batch is an entry as it is, in Kafka's own format, its base offset and leader epoch set by the leader that proposed it.
//! A command is shorter than any batch can be: one byte that says which, then its fields, little-endian.

use bytes::Bytes;
use wire::kafka::batch::{BatchError, HEADER_BYTES, Header};

const DELETE_BEFORE: u8 = 1;

/// An entry, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A record batch.
    Batch(Header),
    /// DeleteRecords: nothing below this offset is read any more.
    DeleteBefore(i64),
}

/// Why an entry can't be read: it was written by another version, or is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Long enough for a batch.
    #[error("no record batch: {0}")]
    Batch(#[from] BatchError),
    /// Too short for one.
    #[error("no command that this version knows")]
    Command,
}

impl Entry {
    /// Reads an entry.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn read(entry: &[u8]) -> Result<Self, EntryError> {
        if entry.len() >= HEADER_BYTES {
            return Ok(Self::Batch(Header::parse(entry)?));
        }
        match entry.split_first() {
            Some((&DELETE_BEFORE, offset)) => {
                let offset = offset.try_into().map_err(|_| EntryError::Command)?;
                Ok(Self::DeleteBefore(i64::from_le_bytes(offset)))
            }
            _ => Err(EntryError::Command),
        }
    }

    /// The entry that deletes records below `offset`.
    #[must_use]
    pub fn delete_before(offset: i64) -> Bytes {
        let mut entry = vec![DELETE_BEFORE];
        entry.extend_from_slice(&offset.to_le_bytes());
        entry.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::kafka::batch;

    #[test]
    fn batches_and_commands_are_told_apart() {
        let bytes = batch::build(&[(1, b"x")], None);
        assert!(matches!(Entry::read(&bytes), Ok(Entry::Batch(header)) if header.total_bytes == bytes.len()));
        assert_eq!(Entry::read(&Entry::delete_before(-7)), Ok(Entry::DeleteBefore(-7)));
        assert_eq!(Entry::read(&[]), Err(EntryError::Command));
        assert_eq!(Entry::read(&[DELETE_BEFORE, 0]), Err(EntryError::Command));
        assert_eq!(Entry::read(&[9; 9]), Err(EntryError::Command));
        assert!(matches!(Entry::read(&[0; 100]), Err(EntryError::Batch(_))));
    }
}
