//! What is known of all nodes and clients, outside of the simulated machines, and what must hold of it at every moment.

use super::Place;
use super::registers::Registers;
use histories::{Answer, Call, Histories, Open};
use replog::{GroupId, Index, Members};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What whoever makes things go wrong wishes the leader of a group to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Hand the leadership over.
    Transfer,
    /// Change the members.
    Change,
}

#[derive(Default)]
pub(super) struct Books {
    /// What was applied at an index by whichever node was first: the write's serial number, and the key's value after it.
    applied: BTreeMap<(GroupId, Index), (u64, u64)>,
    /// Who leads in a term, by group and term.
    pub(super) leaders: BTreeMap<(GroupId, u64), u64>,
    /// The latest effect that an operation that has ended has had or seen, by key.
    pub(super) floors: BTreeMap<Place, Index>,
    pub(super) histories: Histories<Place>,
    serial: u64,
    pub(super) operations: u64,
    /// Operations that have ended well, by group.
    pub(super) ended: BTreeMap<GroupId, u64>,
    pub(super) states: BTreeMap<(u64, GroupId), Rc<RefCell<Registers>>>,
    /// The members of each group, as its latest leader knows them, with its term.
    pub(super) members: BTreeMap<GroupId, (u64, Members)>,
    pub(super) wishes: BTreeMap<GroupId, Wish>,
    /// Nodes that found their log damaged.
    pub(super) refused: BTreeMap<u64, String>,
    /// And those of them whose log does not tell who a group's other members are, so that it can't ask them.
    pub(super) untold: BTreeSet<u64>,
    /// Nodes whose disk did not let them open their log.
    pub(super) not_opened: BTreeSet<u64>,
    /// Misfortunes and changes that came about, by name.
    pub(super) did: BTreeMap<&'static str, u64>,
    pub(super) notes: BTreeSet<&'static str>,
    pub(super) failure: Option<String>,
}

pub(super) type Shared = Rc<RefCell<Books>>;

/// An operation under way.
pub(super) struct Asked {
    open: Open<Place>,
    place: Place,
    /// The index that its effect has to be behind, or to be seen.
    floor: Index,
}

impl Books {
    pub(super) fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    pub(super) fn did(&mut self, what: &'static str) {
        *self.did.entry(what).or_default() += 1;
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn applied(&mut self, node: u64, group: GroupId, index: Index, entry: (u64, u64)) {
        let first = *self.applied.entry((group, index)).or_insert(entry);
        if first != entry {
            let ((serial, value), (other, before)) = (entry, first);
            self.fail(format!(
                "node {node} applies write {serial} as entry {index} of group {group} and has {value}, another \
                 {other} and had {before}"
            ));
        }
    }

    pub(super) fn leads(&mut self, node: u64, group: GroupId, term: u64) {
        let first = *self.leaders.entry((group, term)).or_insert(node);
        if first != node {
            self.fail(format!("nodes {first} and {node} both lead group {group} in term {term}"));
        }
    }

    /// Who led a group last.
    pub(super) fn leader(&self, group: GroupId) -> Option<u64> {
        let terms = (group, 0)..=(group, u64::MAX);
        self.leaders.range(terms).next_back().map(|(_, node)| *node)
    }

    pub(super) fn knows_members(&mut self, group: GroupId, term: u64, members: Members) {
        let known = self.members.get(&group).map_or(0, |(term, _)| *term);
        if term >= known {
            self.members.insert(group, (term, members));
        }
    }

    pub(super) fn ask(&mut self, client: u64, place: Place, call: Call) -> Asked {
        self.operations += 1;
        let floor = self.floors.get(&place).copied().unwrap_or_default();
        Asked { open: self.histories.begin(client, place, call), place, floor }
    }

    /// A write, acknowledged at `index`.
    pub(super) fn wrote(&mut self, asked: Asked, index: Index, serial: u64, answer: Answer) {
        let Asked { open, place, floor } = asked;
        if index <= floor {
            self.fail(format!(
                "write {serial} of {place:?} was put at {index}, behind {floor}, which had ended before it began"
            ));
        }
        if self.applied.get(&(place.0, index)).is_none_or(|(applied, _)| *applied != serial) {
            self.fail(format!(
                "write {serial} of {place:?} was acknowledged at {index}, where another one is"
            ));
        }
        self.end(place, index);
        self.histories.end(open, answer);
    }

    /// A read that saw `value`, the effect of entry `seen`.
    pub(super) fn read(&mut self, asked: Asked, seen: Index, value: u64) {
        let Asked { open, place, floor } = asked;
        if seen < floor {
            self.fail(format!("a read of {place:?} saw entry {seen}, and {floor} had ended before it began"));
        }
        self.end(place, seen);
        self.histories.end(open, Answer::Value(value));
    }

    /// A write of which it was said that it is not, and will never be.
    pub(super) fn refused(&mut self, asked: Asked) {
        self.histories.never_happened(asked.open);
    }

    fn end(&mut self, (group, key): Place, index: Index) {
        *self.ended.entry(group).or_default() += 1;
        let floor = self.floors.entry((group, key)).or_default();
        *floor = (*floor).max(index);
    }

    /// What no single copy could have told the clients.
    pub(super) fn unlawful(&self) -> Option<String> {
        self.histories.check().err().map(|unlawful| unlawful.to_string())
    }
}
