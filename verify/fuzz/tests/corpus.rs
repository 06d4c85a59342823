//! Replays the seeds of every target, and some inputs made of them: the decoders' tests that need no fuzzer.

use std::path::Path;

type Target = fn(&[u8]);

/// All in one test, so in one thread: the ceiling on memory counts the whole process.
#[test]
fn every_seed_and_every_prefix_of_it() {
    let targets: [(&str, Target); 9] = [
        ("config", fuzz::config::run),
        ("dns", fuzz::dns::run),
        ("geodns", fuzz::geodns::run),
        ("http1", fuzz::http1::run),
        ("kafka", fuzz::kafka::run),
        ("memcached", fuzz::memcached::run),
        ("replog", fuzz::replog::run),
        ("resp", fuzz::resp::run),
        ("zone", fuzz::zone::run),
    ];
    for (name, run) in targets {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut seeds = 0;
        for file in std::fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display())) {
            let data = std::fs::read(file.unwrap().path()).unwrap();
            run(&data);
            for part in 1..16 {
                run(&data[..data.len() * part / 16]);
            }
            seeds += 1;
        }
        assert!(seeds > 0, "{name} has seeds");
    }
}
