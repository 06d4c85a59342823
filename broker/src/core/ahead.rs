//! What the leader of a partition has proposed and not seen applied: offsets and sequence numbers that are taken already.
//!
//! Nothing of it is shown to anybody. It comes to be when this node begins to lead, with everything that earlier leaders have
//! committed applied, and is dropped whole when it leads no more.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use wire::kafka::batch::Header;

use super::producers::{Producer, Producers, SequenceError, Verdict};

/// A batch on its way; `W` is told what becomes of it.
#[derive(Debug)]
struct InFlight<W> {
    /// Its place in the partition's replicated log.
    index: u64,
    header: Header,
    bytes: Bytes,
    waiting: Vec<W>,
}

/// See the module.
#[derive(Debug)]
pub struct Ahead<W> {
    /// The term in which this node leads, as the epoch of its batches.
    epoch: i32,
    next_offset: i64,
    in_flight: VecDeque<InFlight<W>>,
    /// Producers with batches in flight, these included, and how many those are.
    producers: HashMap<i64, (Producer, usize)>,
}

impl<W> Ahead<W> {
    /// This node leads in `epoch`; the log ends at `end`.
    #[must_use]
    pub fn new(epoch: i32, end: i64) -> Self {
        Self { epoch, next_offset: end, in_flight: VecDeque::new(), producers: HashMap::new() }
    }

    /// The leader epoch of batches.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The offset of the next batch.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Whether a produced batch is to be appended, was already (or is about to be), or is out of order.
    ///
    /// # Errors
    /// [`SequenceError`].
    pub fn check(&self, applied: &Producers, header: &Header) -> Result<Verdict, SequenceError> {
        match self.producers.get(&header.producer_id) {
            Some((producer, _)) => producer.check(header),
            None => applied.check(header),
        }
    }

    /// A batch was proposed as entry `index`; its header carries [`next_offset`](Self::next_offset).
    pub fn proposed(&mut self, applied: &Producers, index: u64, header: Header, bytes: Bytes, waiting: W) {
        assert_eq!(header.base_offset, self.next_offset, "offsets are without gaps");
        self.next_offset = header.last_offset() + 1;
        if header.producer_id >= 0 {
            let known = || applied.get(header.producer_id).cloned();
            let (producer, batches) = self
                .producers
                .entry(header.producer_id)
                .or_insert_with(|| (known().unwrap_or_else(|| Producer::beginning(&header)), 0));
            producer.record(&header);
            *batches += 1;
        }
        self.in_flight.push_back(InFlight { index, header, bytes, waiting: vec![waiting] });
    }

    /// Has `waiting` told, too, what becomes of the batch that holds `offset`. It is given back when none in flight does.
    pub fn wait_for(&mut self, offset: i64, waiting: W) -> Option<W> {
        let at = self.in_flight.partition_point(|batch| batch.header.last_offset() < offset);
        match self.in_flight.get_mut(at) {
            Some(batch) if batch.header.base_offset <= offset => {
                batch.waiting.push(waiting);
                None
            }
            _ => Some(waiting),
        }
    }

    /// Entry `index` was committed. If it is the oldest that is in flight, gives its batch, and who waits.
    ///
    /// `None`: it is somebody else's, so what is in flight will never be applied under this leader.
    pub fn applied(&mut self, index: u64, entry: &Bytes) -> Option<(Header, Bytes, Vec<W>)> {
        let own = |batch: &InFlight<W>| {
            let same_memory = (batch.bytes.as_ptr(), batch.bytes.len()) == (entry.as_ptr(), entry.len());
            batch.index == index && (same_memory || batch.bytes == *entry)
        };
        self.in_flight.front().filter(|batch| own(batch))?;
        let batch = self.in_flight.pop_front()?;
        if let Some((_, batches)) = self.producers.get_mut(&batch.header.producer_id) {
            *batches -= 1;
            if *batches == 0 {
                self.producers.remove(&batch.header.producer_id);
            }
        }
        Some((batch.header, batch.bytes, batch.waiting))
    }

    /// Whoever waits for what will not be applied, or not under this leader.
    pub fn give_up(self) -> impl Iterator<Item = W> {
        self.in_flight.into_iter().flat_map(|batch| batch.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::kafka::batch;

    fn batch(sequence: i32, offset: i64) -> (Header, Bytes) {
        let producer = batch::Producer { id: 1, epoch: 0, base_sequence: sequence };
        let mut bytes = batch::build(&[(1, b"x"), (1, b"y")], Some(producer));
        batch::set_base_offset(&mut bytes, offset);
        (Header::parse(&bytes).unwrap(), Bytes::from(bytes))
    }

    #[test]
    fn sequences_in_flight_count_and_are_gone_when_leadership_is() {
        let mut applied = Producers::default();
        let mut ahead = Ahead::new(3, 10);
        for (index, sequence) in [(5, 0), (6, 2)] {
            let (header, bytes) = batch(sequence, ahead.next_offset());
            assert_eq!(ahead.check(&applied, &header), Ok(Verdict::Append));
            ahead.proposed(&applied, index, header, bytes, index);
        }
        let again = ahead.check(&applied, &batch(2, 0).0);
        assert_eq!(again, Ok(Verdict::Duplicate { base_offset: 12, last_offset: 13 }));
        assert_eq!(ahead.wait_for(13, 60), None);
        assert_eq!(ahead.wait_for(9, 61), Some(61));
        assert_eq!(ahead.wait_for(14, 62), Some(62));
        assert!(ahead.check(&applied, &batch(6, 0).0).is_err());

        let (header, bytes) = batch(0, 10);
        assert!(ahead.applied(6, &bytes).is_none() && ahead.applied(5, &Bytes::new()).is_none());
        let (applied_header, _, waiting) = ahead.applied(5, &bytes).unwrap();
        assert_eq!((applied_header, waiting), (header, vec![5]));
        applied.record(&header);
        assert_eq!(ahead.check(&applied, &batch(4, 0).0), Ok(Verdict::Append));
        assert_eq!(ahead.give_up().collect::<Vec<_>>(), [6, 60]);
        // The next leader knows only what was applied.
        let next = Ahead::<u64>::new(4, 12);
        assert_eq!(next.check(&applied, &batch(2, 0).0), Ok(Verdict::Append));
        assert!(next.check(&applied, &batch(4, 0).0).is_err());
    }
}
