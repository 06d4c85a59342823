//! Misfortunes with a plan, around elections and leases: each makes ready what a promise that is not kept would need to show.

use super::books::Wish;
use super::nemesis::Nemesis;
use runtime::sim::Crash;
use std::path::Path;
use std::time::Duration;

/// Longer than any election timeout at the default settings.
const ELECTION: Duration = Duration::from_millis(1500);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Elections under way on slow links, while whoever may have voted dies and is back at once.
pub(super) fn on_slow_links(nemesis: &mut Nemesis<'_>) -> Result<(), String> {
    for (one, other) in pairs(nemesis) {
        let delay = ms(nemesis.world.random_below(250));
        nemesis.world.delay(one, other, delay);
    }
    let nodes = nemesis.shuffled();
    nemesis.world.partition_groups(&nodes[..1], &nodes[1..2]);
    for _ in 0..5 + nemesis.world.random_below(10) {
        nemesis.run_up_to_ms(400)?;
        let node = if nemesis.world.random_below(4) == 0 { nemesis.any() } else { nodes[2] };
        let how = if nemesis.world.random_below(2) == 0 { Crash::Kill } else { Crash::PowerLoss };
        nemesis.world.crash(node, how);
        nemesis.world.restart(node);
    }
    nemesis.mend_all();
    nemesis.did("elections on slow links");
    Ok(())
}

fn pairs(nemesis: &Nemesis<'_>) -> Vec<(usize, usize)> {
    let all = nemesis.nodes.iter().flat_map(|one| nemesis.nodes.iter().map(move |other| (*one, *other)));
    all.filter(|(one, other)| one != other).collect()
}

/// Two who can't hear of each other ask a third for its vote in one term. It dies when it has given it to the first, whom that
/// reaches late, and is back at once; the second asks when it votes again. Were its vote forgotten, both would lead.
pub(super) fn two_candidates_of_one_term(nemesis: &mut Nemesis<'_>) -> Result<(), String> {
    let votes = Path::new(super::node::LOG).join("VOTES");
    for _ in 0..3 {
        let Some((_, second)) = nemesis.leader() else { return Ok(()) };
        nemesis.mend_all();
        nemesis.run(ms(200))?;
        let others: Vec<usize> = nemesis.shuffled().into_iter().filter(|node| *node != second).collect();
        // A majority of five needs more than these: then it is chance.
        let (first, voter) = (others[0], others[1]);
        nemesis.world.partition_groups(&[first], &[second]);
        nemesis.world.delay(second, voter, ms(400));
        nemesis.world.crash(second, Crash::Kill);
        nemesis.world.restart(second);
        let before = nemesis.world.file(voter, &votes);
        nemesis.run_until(ELECTION, |world| world.file(voter, &votes) != before)?;
        let late = ms(450 + nemesis.world.random_below(300));
        nemesis.world.delay(voter, first, late);
        nemesis.run(Duration::from_micros(500 + nemesis.world.random_below(2500)))?;
        nemesis.world.crash(voter, Crash::Kill);
        nemesis.world.restart(voter);
        nemesis.world.delay(second, voter, Duration::ZERO);
        nemesis.run(late + ms(nemesis.world.random_below(100)))?;
        nemesis.world.delay(voter, first, Duration::ZERO);
        nemesis.run(ms(400))?;
    }
    nemesis.mend_all();
    nemesis.did("a voter dies between two candidates");
    Ok(())
}

/// A leader's peers answer later and later, and then do not hear it any more: they elect another while their last answers
/// are still on their way to it.
pub(super) fn late_answers(nemesis: &mut Nemesis<'_>) -> Result<(), String> {
    let Some((_, leader)) = nemesis.leader() else { return Ok(()) };
    nemesis.mend_all();
    let others = nemesis.others(leader);
    let steps = 3 + nemesis.world.random_below(4);
    for step in 1..=steps {
        others.iter().for_each(|other| nemesis.world.delay(*other, leader, ms(150 * step)));
        nemesis.run(ms(300))?;
    }
    others.iter().for_each(|other| nemesis.world.partition(leader, *other));
    nemesis.run(ELECTION)?;
    nemesis.mend_all();
    nemesis.did("answers come late, then never");
    Ok(())
}

/// A leader hands over, and hears nothing of what comes of it for a while.
pub(super) fn silent_transfer(nemesis: &mut Nemesis<'_>) -> Result<(), String> {
    let Some((group, leader)) = nemesis.leader() else { return Ok(()) };
    nemesis.mend_all();
    nemesis.wish_of(group, Wish::Transfer);
    let shared = nemesis.shared.clone();
    nemesis.run_until(ms(200), |_| !shared.borrow().wishes.contains_key(&group))?;
    nemesis.run(Duration::from_micros(nemesis.world.random_below(3000)))?;
    let late = ms(400 + nemesis.world.random_below(400));
    nemesis.others(leader).iter().for_each(|other| nemesis.world.delay(*other, leader, late));
    nemesis.run(ms(800))?;
    nemesis.mend_all();
    nemesis.did("leadership handed over in silence");
    Ok(())
}

/// One follower does not hear its leader any more and campaigns; the other, which has just answered the leader, dies, is back at
/// once and is asked for its vote, while the leader hears of nothing.
pub(super) fn forgetful_follower(nemesis: &mut Nemesis<'_>) -> Result<(), String> {
    let Some((_, leader)) = nemesis.leader() else { return Ok(()) };
    nemesis.mend_all();
    nemesis.run(ms(300))?;
    let others: Vec<usize> = nemesis.shuffled().into_iter().filter(|node| *node != leader).collect();
    let (lost, faithful) = others.split_at(1);
    nemesis.world.partition_groups(&[leader], lost);
    nemesis.run(ms(400 + nemesis.world.random_below(800)))?;
    for node in faithful {
        nemesis.world.crash(*node, Crash::Kill);
        nemesis.world.restart(*node);
    }
    nemesis.world.partition_groups(&[leader], faithful);
    nemesis.run(ms(600))?;
    nemesis.mend_all();
    nemesis.did("followers die and are asked for their votes");
    Ok(())
}
