//! The checker refuses what no single copy could have shown, and nothing else.
//!
//! A history is written as one line for each operation: begin and end (`?`: nobody heard of it), what was asked, what was
//! answered. `r` read, `w` write, `c1>2` compare 1 and set 2, `a` add.

use histories::{Answer, Call, Histories, Operation, Violation, check};

fn operation(line: &str) -> Operation {
    let (times, what) = line.split_once(' ').unwrap();
    let (begun, ended) = times.split_once('-').unwrap();
    let number = |text: &str| text.parse::<u64>().unwrap();
    let (kind, rest) = what.split_at(1);
    let (asked, given) = rest.split_once('=').unwrap_or((rest, ""));
    let (call, answer) = match kind {
        "r" => (Call::Read, asked.parse().ok().map(Answer::Value)),
        "w" => (Call::Write(number(asked)), Some(Answer::Done)),
        "a" => (Call::Add(number(asked)), given.parse().ok().map(Answer::Value)),
        _ => {
            let (expect, new) = asked.split_once('>').unwrap();
            let answer =
                if given == "ok" { Some(Answer::Done) } else { given.parse().ok().map(Answer::Value) };
            (Call::Cas { expect: number(expect), new: number(new) }, answer)
        }
    };
    let ended = (ended != "?").then(|| (number(ended), answer.unwrap()));
    Operation { client: 0, call, begun: number(begun), ended }
}

fn history(lines: &[&str]) -> Vec<Operation> {
    let history: Vec<Operation> = lines.iter().map(|line| operation(line)).collect();
    let mut moments: Vec<u64> = history.iter().map(|operation| operation.begun).collect();
    moments.extend(history.iter().filter_map(|operation| operation.ended.map(|(ended, _)| ended)));
    moments.sort_unstable();
    assert!(moments.windows(2).all(|pair| pair[0] < pair[1]), "each moment once: {lines:?}");
    history
}

/// Planted: what is wrong, and the history.
const BAD: [(&str, &[&str]); 24] = [
    ("a stale read", &["0-1 w1", "2-3 w2", "4-5 r1"]),
    ("a lost update", &["0-1 w1", "2-3 r0"]),
    ("a value that was never written", &["0-1 w1", "2-3 r7"]),
    ("a value that was written later", &["0-1 r1", "2-3 w1"]),
    ("new, then old, while the write is under way", &["0-9 w1", "1-2 r1", "3-4 r0"]),
    ("reordered across real time", &["0-1 w1", "2-7 w2", "3-4 r2", "5-6 r1"]),
    ("two stale readers of one overwriting", &["0-1 w1", "2-3 w2", "4-5 r2", "6-7 r1"]),
    ("an unknown write seen, then unseen", &["0-? w1", "1-2 r1", "3-4 r0"]),
    ("an unknown write back from the dead", &["0-? w1", "1-2 r1", "3-4 w2", "5-6 r1"]),
    ("an unknown write seen before it began", &["0-1 r5", "2-? w5"]),
    ("a compare-and-set that succeeds twice", &["0-4 c0>1=ok", "1-5 c0>2=ok"]),
    ("one that succeeds on what was replaced", &["0-1 w1", "2-3 c1>2=ok", "4-5 c1>3=ok"]),
    ("one that succeeds on what was never there", &["0-1 w1", "2-3 c5>2=ok"]),
    ("one that fails on what it expected", &["0-1 w1", "2-3 c1>2=1"]),
    ("one that fails and has its effect", &["0-1 c5>2=0", "2-3 r2"]),
    ("an unknown one that can't have found what it expected", &["0-? c9>3", "1-2 r3"]),
    ("readers that disagree about two writes", &["0-20 w1", "1-21 w2", "2-3 r1", "4-5 r2", "6-7 r1"]),
    (
        "two readers, each at one side of a split",
        &["0-20 w1", "1-21 w2", "2-5 r1", "6-9 r2", "3-7 r2", "10-13 r1", "14-15 r2"],
    ),
    ("two increments with one result", &["0-4 a1=1", "1-5 a1=1"]),
    ("an increment from nowhere", &["0-1 a1=1", "2-3 a1=3"]),
    ("a lost increment", &["0-1 a1=1", "2-3 a1=2", "4-5 r1"]),
    ("an increment that was answered and is not there", &["0-1 a1=1", "2-3 r0"]),
    ("an unknown increment that counts twice", &["0-? a1", "1-2 r1", "3-4 r2"]),
    ("an unknown increment taken back", &["0-? a1", "1-2 a1=2", "3-4 r1"]),
];

/// Tricky, and lawful.
const GOOD: [(&str, &[&str]); 16] = [
    ("nothing", &[]),
    ("a read before everything", &["0-1 r0", "2-3 w1", "4-5 r1"]),
    ("new and old while the write is under way", &["0-9 w1", "1-2 r0", "3-4 r1"]),
    ("overlapping reads of one write, either way", &["0-9 w1", "1-5 r1", "2-6 r0"]),
    ("two writes at once, the first asked wins", &["0-5 w1", "1-4 w2", "6-7 r1"]),
    ("an unknown write that never happens", &["0-? w1", "1-2 r0", "3-4 w2", "5-6 r2"]),
    ("an unknown write that happens very late", &["0-? w1", "1-2 w2", "3-4 r2", "5-6 r1"]),
    ("an unknown write that is overwritten unseen", &["0-? w1", "1-9 w2", "2-3 r0", "4-5 r2"]),
    ("an unknown compare-and-set seen by another", &["0-? c0>1", "1-2 c1>2=ok", "3-4 r2"]),
    ("a chain of unknown ones in the wrong order", &["0-? c2>3", "1-? c1>2", "2-? w1", "3-4 r0", "5-6 r3"]),
    ("a compare-and-set that fails between two writes", &["0-1 w1", "2-9 w2", "3-8 c5>6=1", "4-7 r2"]),
    ("one value written twice", &["0-1 w1", "2-3 w2", "4-9 w1", "5-6 r2", "7-8 r1"]),
    ("unknown increments, one of which counted", &["0-? a1", "1-? a1", "2-3 r1", "4-5 a1=2", "6-7 r2"]),
    ("an unknown increment that counts at the end", &["0-? a1", "1-2 a1=1", "3-4 a1=2", "5-6 a1=4"]),
    ("increments answered out of order", &["0-9 a1=3", "1-8 a1=1", "2-7 a1=2", "10-11 r3"]),
    ("an unknown read", &["0-? r", "1-2 w1", "3-4 r1"]),
];

#[test]
fn planted_histories_are_refused() {
    for (what, lines) in BAD {
        let verdict = check(&history(lines));
        assert!(matches!(verdict, Err(Violation::Impossible { .. })), "{what}: {verdict:?}");
    }
}

#[test]
fn tricky_histories_are_accepted() {
    for (what, lines) in GOOD {
        assert_eq!(check(&history(lines)), Ok(()), "{what}");
    }
}

#[test]
fn the_report_says_what_could_not_come_next() {
    let violation = check(&history(&["0-1 w1", "2-3 w2", "4-5 r1"])).unwrap_err();
    assert_eq!(
        violation.to_string(),
        "2 of 3 operations have an order, then the key holds 2, and next come only Read answered Value(1)"
    );
}

#[test]
fn what_never_happened_must_not_show() {
    let mut histories = Histories::default();
    let write = histories.begin(1, "key", Call::Write(5));
    histories.never_happened(write);
    let read = histories.begin(2, "key", Call::Read);
    histories.end(read, Answer::Value(0));
    assert_eq!(histories.check(), Ok(()));
    let shape = histories.shape();
    assert_eq!((shape.operations, shape.reads, shape.unknown, shape.contended), (1, 1, 0, 0));
    let read = histories.begin(2, "key", Call::Read);
    histories.end(read, Answer::Value(5));
    assert_eq!(histories.check().unwrap_err().key, "key");
}

#[test]
fn keys_are_judged_apart() {
    let mut histories = Histories::default();
    for key in 0..3 {
        let write = histories.begin(1, key, Call::Write(key + 1));
        let read = histories.begin(2, key, Call::Read);
        histories.end(write, Answer::Done);
        histories.end(read, Answer::Value(if key == 1 { 9 } else { 0 }));
    }
    assert_eq!(histories.check().unwrap_err().key, 1);
    assert_eq!(histories.shape().contended, 3);
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) % bound
    }
}

/// Clients of one copy, each operation of which takes effect at some moment while it is under way; some answers get lost, and
/// some operations with them. Each value is written once if `unique`.
fn of_one_copy(
    random: &mut Random,
    clients: u64,
    operations: u64,
    counter: bool,
    unique: bool,
) -> Vec<Operation> {
    struct Client {
        at: Option<usize>,
        given: Option<Answer>,
    }
    let mut history: Vec<Operation> = Vec::new();
    let mut clients: Vec<Client> = (0..clients).map(|_| Client { at: None, given: None }).collect();
    let (mut state, mut now, mut value) = (0u64, 0, 0);
    while clients.iter().any(|client| client.at.is_some()) || (history.len() as u64) < operations {
        now += 1;
        let number = random.below(clients.len() as u64) as usize;
        let client = &mut clients[number];
        let Some(at) = client.at else {
            if history.len() as u64 == operations {
                continue;
            }
            value += 1;
            let new = if unique { value } else { 1 + random.below(3) };
            let call = match random.below(4) {
                0 | 1 => Call::Read,
                _ if counter => Call::Add(1),
                2 => Call::Write(new),
                _ => Call::Cas { expect: if unique { state } else { random.below(4) }, new },
            };
            client.at = Some(history.len());
            history.push(Operation { client: number as u64, call, begun: now, ended: None });
            continue;
        };
        match client.given {
            None if random.below(20) == 0 => *client = Client { at: None, given: None },
            None => {
                let (answer, after) = match history[at].call {
                    Call::Read => (Answer::Value(state), state),
                    Call::Write(value) => (Answer::Done, value),
                    Call::Cas { expect, new } if expect == state => (Answer::Done, new),
                    Call::Cas { .. } => (Answer::Value(state), state),
                    Call::Add(value) => (Answer::Value(state + value), state + value),
                };
                (client.given, state) = (Some(answer), after);
            }
            Some(_) if random.below(20) == 0 => *client = Client { at: None, given: None },
            Some(answer) => {
                history[at].ended = Some((now, answer));
                *client = Client { at: None, given: None };
            }
        }
    }
    history
}

/// All orders, without any thought.
fn has_an_order(history: &[Operation], placed: &mut Vec<bool>, state: u64) -> bool {
    let left = |at: usize, placed: &[bool]| !placed[at];
    if (0..history.len()).all(|at| placed[at] || history[at].ended.is_none()) {
        return true;
    }
    let limit = (0..history.len())
        .filter(|at| left(*at, placed))
        .filter_map(|at| history[at].ended.map(|(ended, _)| ended))
        .min()
        .unwrap_or(u64::MAX);
    for at in 0..history.len() {
        let operation = history[at];
        if placed[at] || operation.begun > limit {
            continue;
        }
        let (answer, after) = match operation.call {
            Call::Read => (Answer::Value(state), state),
            Call::Write(value) => (Answer::Done, value),
            Call::Cas { expect, new } if expect == state => (Answer::Done, new),
            Call::Cas { .. } => (Answer::Value(state), state),
            Call::Add(value) => (Answer::Value(state + value), state + value),
        };
        if operation.ended.is_some_and(|(_, given)| given != answer) {
            continue;
        }
        placed[at] = true;
        if has_an_order(history, placed, after) {
            return true;
        }
        placed[at] = false;
    }
    false
}

/// Small histories, every second with one answer changed: the verdict is that of trying all orders.
#[test]
fn verdicts_are_those_of_trying_everything() {
    let mut random = Random(1);
    let (mut good, mut bad) = (0, 0);
    for round in 0..6_000 {
        let (counter, unique) = (round % 3 == 0, round % 3 == 1);
        let mut history = of_one_copy(&mut random, 3, 7, counter, unique);
        if round % 2 == 0 {
            let at = random.below(history.len() as u64) as usize;
            let other = random.below(8);
            if let Some((_, Answer::Value(value))) = &mut history[at].ended {
                *value = other;
            }
        }
        let expected = has_an_order(&history, &mut vec![false; history.len()], 0);
        assert_eq!(check(&history).is_ok(), expected, "{history:#?}");
        *(if expected { &mut good } else { &mut bad }) += 1;
    }
    assert!(good > 1500 && bad > 300, "{good} good, {bad} bad");
}

#[test]
fn long_histories_are_decided() {
    let mut random = Random(2);
    for counter in [true, false] {
        let mut history = of_one_copy(&mut random, 8, 4_000, counter, true);
        assert!(history.iter().filter(|operation| operation.ended.is_none()).count() > 50);
        assert_eq!(check(&history), Ok(()));
        // A read near the end that saw what was long gone.
        let read = history.iter_mut().rev().find(|operation| {
            operation.call == Call::Read && matches!(operation.ended, Some((_, Answer::Value(1..))))
        });
        read.unwrap().ended.as_mut().unwrap().1 = Answer::Value(0);
        assert!(check(&history).is_err());
    }
}
