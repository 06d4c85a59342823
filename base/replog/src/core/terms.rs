//! The terms of a group's entries, by runs: from an index on, up to the next run.

use crate::{Index, Term};

/// Runs of equal terms, ascending by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    runs: Vec<(Index, Term)>,
}

impl Terms {
    /// The entry at `index` has `term`; whatever was at and behind it is gone.
    pub(crate) fn set(&mut self, index: Index, term: Term) {
        while self.runs.last().is_some_and(|(from, _)| *from >= index) {
            self.runs.pop();
        }
        if self.runs.last().is_none_or(|(_, last)| *last != term) {
            self.runs.push((index, term));
        }
    }

    /// Begins anew behind `index`, whose term is known.
    pub(crate) fn restart(&mut self, index: Index, term: Term) {
        self.runs = vec![(index, term)];
    }

    /// The term at `index`, if a run covers it. The caller knows where the log ends.
    pub(crate) fn at(&self, index: Index) -> Option<Term> {
        let after = self.runs.partition_point(|(from, _)| *from <= index);
        after.checked_sub(1).map(|at| self.runs[at].1)
    }

    /// Forgets what only concerns entries in front of `index`.
    pub(crate) fn forget_before(&mut self, index: Index) {
        let after = self.runs.partition_point(|(from, _)| *from <= index);
        if after > 1 {
            self.runs.drain(..after - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_found_by_their_runs() {
        let mut terms = Terms::default();
        assert_eq!(terms.at(Index(1)), None);
        for (index, term) in [(3, 1), (4, 1), (5, 2), (6, 2), (7, 4)] {
            terms.set(Index(index), Term(term));
        }
        let at = |terms: &Terms, index| terms.at(Index(index)).map(|term| term.0);
        assert_eq!(
            (2..=8).map(|index| at(&terms, index)).collect::<Vec<_>>(),
            [None, Some(1), Some(1), Some(2), Some(2), Some(4), Some(4)]
        );
        terms.set(Index(6), Term(5));
        assert_eq!(
            (4..=7).map(|index| at(&terms, index)).collect::<Vec<_>>(),
            [Some(1), Some(2), Some(5), Some(5)]
        );
        terms.forget_before(Index(5));
        assert_eq!((4..=6).map(|index| at(&terms, index)).collect::<Vec<_>>(), [None, Some(2), Some(5)]);
        terms.restart(Index(9), Term(6));
        assert_eq!((at(&terms, 8), at(&terms, 9)), (None, Some(6)));
    }
}
