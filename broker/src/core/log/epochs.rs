//! Where each leader epoch of a partition begins, told from its batches.
//!
//! A leader epoch is the term of the replicated log in which a leader gave a batch its offset; epochs never fall. An epoch
//! in which nothing was written leaves no trace.

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    /// Epoch, offset of its first batch; both ascend.
    starts: Vec<(i32, i64)>,
}

impl Epochs {
    /// A batch of `epoch` begins at `offset`.
    pub(super) fn add(&mut self, epoch: i32, offset: i64) {
        if self.starts.last().is_none_or(|(last, _)| *last < epoch) {
            self.starts.push((epoch, offset));
        }
    }

    /// Nothing below `offset` is there any more.
    pub(super) fn forget_before(&mut self, offset: i64) {
        let gone = self.starts.partition_point(|(_, start)| *start <= offset).saturating_sub(1);
        self.starts.drain(..gone);
    }

    /// As [`super::PartitionLog::end_of_epoch`]; the log ends at `end`.
    pub(super) fn end_of(&self, epoch: i32, current: i32, end: i64) -> Option<(i32, i64)> {
        if epoch < 0 || epoch > current {
            return None;
        }
        if epoch == current {
            return Some((current, end));
        }
        let after = self.starts.partition_point(|(known, _)| *known <= epoch);
        let ended = self.starts.get(after).map_or(end, |(_, start)| *start);
        // Of what came before the first epoch that is known nothing is left.
        Some((after.checked_sub(1).map_or(epoch, |at| self.starts[at].0), ended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let mut epochs = Epochs::default();
        for (epoch, offset) in [(1, 0), (1, 5), (3, 10), (4, 20)] {
            epochs.add(epoch, offset);
        }
        let end = |epochs: &Epochs, epoch| epochs.end_of(epoch, 6, 30);
        assert_eq!(end(&epochs, 0), Some((0, 0)));
        assert_eq!(end(&epochs, 1), Some((1, 10)));
        assert_eq!(end(&epochs, 2), Some((1, 10)));
        assert_eq!(end(&epochs, 3), Some((3, 20)));
        assert_eq!(end(&epochs, 5), Some((4, 30)));
        assert_eq!(end(&epochs, 6), Some((6, 30)), "the current one has no batch yet");
        assert_eq!((end(&epochs, 7), end(&epochs, -1)), (None, None));
        epochs.forget_before(15);
        assert_eq!(end(&epochs, 1), Some((1, 10)));
        assert_eq!(end(&epochs, 3), Some((3, 20)));
        epochs.forget_before(20);
        assert_eq!(end(&epochs, 3), Some((3, 20)), "as much as is still known");
    }
}
