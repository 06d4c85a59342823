//! Photo jobs are done at least once, whatever becomes of the worker.
#![forbid(unsafe_code)]

use e2e::client::python;
use e2e::site::Site;
use e2e::wait_for;

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
}
