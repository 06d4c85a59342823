//! Photo jobs are done at least once, whatever becomes of the worker.
#![forbid(unsafe_code)]

use e2e::client::{python, python_command, run};
use e2e::process::{self, Process};
use e2e::site::Site;
use e2e::wait_for;
use rustix::process::Signal;

#[test]
fn all_jobs_are_done_though_the_worker_is_killed_among_them() {
    let site = Site::start();
    let url = site.url("");
    let locations = python("photos.py", &["upload", &url, "20"]);
    let locations: Vec<&str> = locations.lines().collect();
    assert_eq!(locations.len(), 20);
    let about = |what| [vec![what, url.as_str()], locations.clone()].concat();
    for _ in 0..2 {
        let pending: usize = python("photos.py", &about("pending")).trim().parse().unwrap();
        assert!((2..20).contains(&pending), "killed in the middle of the jobs, with {pending} of 20 to do");
        let before = site.process("worker1");
        site.kill("worker1");
        wait_for("its successor", || (site.process("worker1") != before).then_some(()));
    }
    python("photos.py", &about("wait"));
    let ttls: Vec<String> = stored(&site).iter().map(|key| ttl(&site, key)).collect();
    assert_eq!(ttls.len(), 3 * 20, "record, original and result of each");
    assert!(ttls.iter().all(|ttl| ttl == "-1"), "none of them goes by itself: {ttls:?}");
}

#[test]
fn a_photo_whose_job_was_never_published_goes_by_itself() {
    let site = Site::start();
    // The web server dies while it waits for the broker's word.
    let _broker = Stopped::new(site.process("broker"));
    let url = format!("http://{}", site.address(9101));
    let mut upload = Process::start("the upload", &mut python_command("photos.py", &["upload", &url, "1"]));
    wait_for("the photo's record", || (stored(&site).len() == 2).then_some(()));
    site.kill("web1");
    assert!(!upload.wait().success(), "nobody was told that it was taken");
    for key in stored(&site) {
        let ttl: u32 = ttl(&site, &key).parse().expect("a time to live");
        assert!((1..=3600).contains(&ttl), "{key}: {ttl}");
    }
}

/// The keys of photos in the database.
fn stored(site: &Site) -> Vec<String> {
    let shards = [7001, 7002, 7003].map(|port| site.address(port).port().to_string());
    let scan = |port: &String| run("redis-cli", &["-p", port, "--scan", "--pattern", "photo:*"]);
    shards.iter().flat_map(|port| scan(port).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn ttl(site: &Site, key: &str) -> String {
    let port = site.address(7001).port().to_string();
    run("redis-cli", &["-c", "-p", &port, "TTL", key]).trim().to_owned()
}

/// A process that does nothing until this is dropped.
struct Stopped(u32);

impl Stopped {
    fn new(process: u32) -> Stopped {
        process::send(process, Signal::STOP);
        Stopped(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        process::send(self.0, Signal::CONT);
    }
}
