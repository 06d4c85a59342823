//! Idempotent producers of one partition: which sequence numbers were taken (KIP-98).
//!
//! Per producer id the last [`BATCHES_KEPT`] batches are known. A batch that repeats one of them is answered as done
//! with its first offset; one that doesn't follow is refused; a producer that isn't known may begin anywhere (its
//! records may have been deleted by retention, KIP-360).
//!
//! At [`PRODUCERS_MAX`] the producer that wrote longest ago is forgotten.
//!
//! A leader asks before it proposes a batch, so what it has proposed and not seen applied counts too: see
//! [`crate::core::ahead`]. What is applied is recorded without a question, the same on every replica.

use std::collections::{HashMap, VecDeque};

use wire::kafka::batch::{Header, advance_sequence};

/// Batches remembered per producer: as many as a client may have in flight.
pub const BATCHES_KEPT: usize = 5;

/// Producers remembered per partition.
pub const PRODUCERS_MAX: usize = 10_000;

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Append it.
    Append,
    /// It was appended before.
    Duplicate {
        /// Its first offset then.
        base_offset: i64,
        /// Its last offset then.
        last_offset: i64,
    },
}

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// OUT_OF_ORDER_SEQUENCE_NUMBER (45).
    #[error("sequence {sequence} does not follow {last}")]
    OutOfOrder {
        /// The batch's first sequence number.
        sequence: i32,
        /// The last one taken.
        last: i32,
    },
    /// INVALID_PRODUCER_EPOCH (47): a newer epoch of this producer has written.
    #[error("producer epoch {epoch} is older than {current}")]
    Epoch {
        /// The batch's.
        epoch: i16,
        /// The newest seen.
        current: i16,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Taken {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    last_offset: i64,
}

/// What is known of one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Producer {
    epoch: i16,
    taken: VecDeque<Taken>,
}

impl Producer {
    /// One whose first batch this will be.
    pub(super) fn beginning(header: &Header) -> Self {
        Self { epoch: header.producer_epoch, taken: VecDeque::with_capacity(1) }
    }

    /// What to do with its next batch.
    pub(super) fn check(&self, header: &Header) -> Result<Verdict, SequenceError> {
        if header.producer_epoch < self.epoch {
            return Err(SequenceError::Epoch { epoch: header.producer_epoch, current: self.epoch });
        }
        let last = self.taken.back().map_or(-1, |t| t.last_sequence);
        let sequence = header.base_sequence;
        if header.producer_epoch > self.epoch {
            return if sequence == 0 {
                Ok(Verdict::Append)
            } else {
                Err(SequenceError::OutOfOrder { sequence, last })
            };
        }
        let repeated = self
            .taken
            .iter()
            .find(|t| t.first_sequence == sequence && t.last_sequence == header.last_sequence());
        if let Some(taken) = repeated {
            return Ok(Verdict::Duplicate { base_offset: taken.base_offset, last_offset: taken.last_offset });
        }
        if sequence == advance_sequence(last, 1) {
            Ok(Verdict::Append)
        } else {
            Err(SequenceError::OutOfOrder { sequence, last })
        }
    }

    /// A batch of it; the header carries its offset.
    pub(super) fn record(&mut self, header: &Header) {
        if self.epoch != header.producer_epoch {
            self.epoch = header.producer_epoch;
            self.taken.clear();
        }
        if self.taken.len() == BATCHES_KEPT {
            self.taken.pop_front();
        }
        self.taken.push_back(Taken {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
        });
    }
}

/// The producers of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: HashMap<i64, Producer>,
}

impl Producers {
    /// How many are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// What to do with a batch.
    ///
    /// # Errors
    /// [`SequenceError`].
    pub fn check(&self, header: &Header) -> Result<Verdict, SequenceError> {
        if header.producer_id < 0 {
            return Ok(Verdict::Append);
        }
        let Some(known) = self.by_id.get(&header.producer_id) else {
            return Ok(Verdict::Append);
        };
        known.check(header)
    }

    /// One producer.
    pub(super) fn get(&self, id: i64) -> Option<&Producer> {
        self.by_id.get(&id)
    }

    /// A batch was appended; its header carries its offset.
    pub fn record(&mut self, header: &Header) {
        if header.producer_id < 0 {
            return;
        }
        let producer = self.by_id.entry(header.producer_id).or_insert_with(|| Producer::beginning(header));
        producer.record(header);
        if self.by_id.len() > PRODUCERS_MAX {
            let last_write = |p: &Producer| p.taken.back().map_or(-1, |t| t.last_offset);
            if let Some((&oldest, _)) = self.by_id.iter().min_by_key(|(_, p)| last_write(p)) {
                self.by_id.remove(&oldest);
            }
        }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.by_id.len() as u64).to_le_bytes());
        for (id, producer) in &self.by_id {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&producer.epoch.to_le_bytes());
            out.push(producer.taken.len() as u8);
            for taken in &producer.taken {
                out.extend_from_slice(&taken.first_sequence.to_le_bytes());
                out.extend_from_slice(&taken.last_sequence.to_le_bytes());
                out.extend_from_slice(&taken.base_offset.to_le_bytes());
                out.extend_from_slice(&taken.last_offset.to_le_bytes());
            }
        }
    }

    /// Reads the stored form; it must be all of `stored`.
    #[must_use]
    pub fn decode(stored: &[u8]) -> Option<Self> {
        let mut rest = stored;
        let mut producers = Self::default();
        for _ in 0..u64::from_le_bytes(take(&mut rest)?) {
            let id = i64::from_le_bytes(take(&mut rest)?);
            let epoch = i16::from_le_bytes(take(&mut rest)?);
            let [count] = take(&mut rest)?;
            let mut taken = VecDeque::new();
            for _ in 0..count {
                taken.push_back(Taken {
                    first_sequence: i32::from_le_bytes(take(&mut rest)?),
                    last_sequence: i32::from_le_bytes(take(&mut rest)?),
                    base_offset: i64::from_le_bytes(take(&mut rest)?),
                    last_offset: i64::from_le_bytes(take(&mut rest)?),
                });
            }
            producers.by_id.insert(id, Producer { epoch, taken });
        }
        rest.is_empty().then_some(producers)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::kafka::batch;

    fn header(id: i64, epoch: i16, base_sequence: i32, records: usize, offset: i64) -> Header {
        let records: Vec<(i64, &[u8])> = (0..records).map(|_| (1, &b"x"[..])).collect();
        let mut bytes = batch::build(&records, Some(batch::Producer { id, epoch, base_sequence }));
        batch::set_base_offset(&mut bytes, offset);
        Header::parse(&bytes).unwrap()
    }

    #[test]
    fn repeats_are_known_and_gaps_refused() {
        let mut producers = Producers::default();
        for i in 0..7 {
            let h = header(1, 0, 10 * i, 10, 100 + 10 * i64::from(i));
            assert_eq!(producers.check(&h), Ok(Verdict::Append));
            producers.record(&h);
        }
        let again = producers.check(&header(1, 0, 60, 10, 0));
        assert_eq!(again, Ok(Verdict::Duplicate { base_offset: 160, last_offset: 169 }));
        assert!(matches!(
            producers.check(&header(1, 0, 20, 10, 0)),
            Ok(Verdict::Duplicate { base_offset: 120, .. })
        ));
        let old = producers.check(&header(1, 0, 10, 10, 0));
        assert_eq!(old, Err(SequenceError::OutOfOrder { sequence: 10, last: 69 }));
        let gap = producers.check(&header(1, 0, 71, 1, 0));
        assert_eq!(gap, Err(SequenceError::OutOfOrder { sequence: 71, last: 69 }));
        assert_eq!(producers.check(&header(2, 0, 500, 1, 0)), Ok(Verdict::Append), "not known: anywhere");
        assert_eq!(producers.check(&header(-1, -1, -1, 1, 0)), Ok(Verdict::Append));
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old() {
        let mut producers = Producers::default();
        producers.record(&header(1, 0, 0, 5, 0));
        assert!(producers.check(&header(1, 1, 5, 1, 0)).is_err());
        let fresh = header(1, 1, 0, 1, 5);
        assert_eq!(producers.check(&fresh), Ok(Verdict::Append));
        producers.record(&fresh);
        assert_eq!(
            producers.check(&header(1, 0, 5, 1, 0)),
            Err(SequenceError::Epoch { epoch: 0, current: 1 })
        );
        assert_eq!(producers.check(&header(1, 1, 1, 1, 0)), Ok(Verdict::Append));
    }

    #[test]
    fn sequences_wrap_and_the_stored_form_survives() {
        let mut producers = Producers::default();
        producers.record(&header(9, 3, i32::MAX - 1, 2, 0));
        assert_eq!(producers.check(&header(9, 3, 0, 1, 0)), Ok(Verdict::Append));
        let mut stored = Vec::new();
        producers.encode(&mut stored);
        assert_eq!(Producers::decode(&stored), Some(producers));
        assert_eq!(Producers::decode(&stored[1..]), None);
    }

    #[test]
    fn producers_are_bounded() {
        let mut producers = Producers::default();
        for id in 0..=PRODUCERS_MAX as i64 {
            producers.record(&header(id, 0, 0, 1, id));
        }
        assert_eq!(producers.len(), PRODUCERS_MAX);
        assert_eq!(producers.check(&header(0, 0, 77, 1, 0)), Ok(Verdict::Append), "the oldest is forgotten");
        assert!(producers.check(&header(1, 0, 77, 1, 0)).is_err());
    }
}
