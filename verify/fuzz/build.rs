//! Makes `--cfg fuzzing`, which `run.sh` passes, a known condition.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(fuzzing)");
    println!("cargo::rerun-if-changed=build.rs");
}
