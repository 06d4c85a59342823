#!/usr/bin/env bash
# Fuzzes the decoders with libFuzzer on the stable toolchain.
#
#   verify/fuzz/run.sh [--build] [--seconds N] [--jobs N] [--seed N] [TARGET ...]
#
# Builds every target once with coverage counters; --build leaves it at that. Then runs each for --seconds (30), --jobs of them at a time (2): all of
# src/bin/fuzz_*.rs, or the named ones without their prefix. A seed makes a run begin as another with the same seed did; without
# one every run is new. What libFuzzer learns is kept in $CARGO_TARGET_DIR/fuzz/corpus
# and used again; corpus/ beside this script holds the seeds. Exit code 0: nothing found. 1: a crash, with the path of its
# input and how to see it again. 2: the build failed, or there is no such target.
#
# Needs a C++ compiler (c++, from Debian's g++ for one): libFuzzer's run time is built from source.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
seconds=30
jobs=2
seed=0
only_build=
targets=()
while [ $# -gt 0 ]; do
    case $1 in
        --build) only_build=yes; shift ;;
        --seconds) seconds=$2; shift 2 ;;
        --jobs) jobs=$2; shift 2 ;;
        --seed) seed=$2; shift 2 ;;
        -*) echo "unknown flag $1; see the head of $0" >&2; exit 2 ;;
        *) targets+=("$1"); shift ;;
    esac
done
if [ ${#targets[@]} -eq 0 ]; then
    for file in "$here"/src/bin/fuzz_*.rs; do
        name=$(basename "$file" .rs)
        targets+=("${name#fuzz_}")
    done
fi
for target in "${targets[@]}"; do
    [ -f "$here/src/bin/fuzz_$target.rs" ] || { echo "no target $target" >&2; exit 2; }
done
command -v c++ >/dev/null || { echo "no C++ compiler: install g++ (libFuzzer's run time is built from source)" >&2; exit 2; }

build_dir=${CARGO_TARGET_DIR:-$root/target}
triple=$(rustc -vV | sed -n 's/^host: //p')
# The passes and the options that cargo-fuzz uses, without the sanitizers, which only nightly has. With --target they leave
# build scripts and procedural macros alone.
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions"
bins=()
for target in "${targets[@]}"; do bins+=(--bin "fuzz_$target"); done
# Without debug information: a crash is looked at by replaying its input with the plain binary.
CARGO_PROFILE_RELEASE_DEBUG=0 RUSTFLAGS=$(echo $flags) cargo build --manifest-path "$root/Cargo.toml" --release --target "$triple" \
    --target-dir "$build_dir/fuzz" -p fuzz "${bins[@]}" || exit 2
[ -z "$only_build" ] || exit 0

run_one() {
    local target=$1 found=0
    local learnt=$build_dir/fuzz/corpus/$target crashes=$build_dir/fuzz/crashes/$target log=$build_dir/fuzz/$target.log
    mkdir -p "$learnt" "$crashes" "$here/corpus/$target"
    "$build_dir/fuzz/$triple/release/fuzz_$target" "$learnt" "$here/corpus/$target" -artifact_prefix="$crashes/" \
        -seed="$seed" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 >"$log" 2>&1 || found=1
    if [ $found -ne 0 ]; then
        local input
        input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
        echo "FAILED $target: input ${input:-none was written}; log $log"
        grep -E "panicked at|ERROR: libFuzzer|memory allocation" -A 2 "$log" | head -12 | sed 's/^/    /'
        echo "    again: cargo run -p fuzz --bin fuzz_$target -- $input"
        return 1
    fi
    echo "ok $target: $(sed -n 's/stat::number_of_executed_units: *//p' "$log") inputs, coverage $(sed -n 's/.*cov: \([0-9]*\).*/\1/p' "$log" | tail -1)"
}

status=0
running=0
for target in "${targets[@]}"; do
    run_one "$target" &
    running=$((running + 1))
    if [ $running -ge "$jobs" ]; then
        wait -n || status=1
        running=$((running - 1))
    fi
done
while [ $running -gt 0 ]; do
    wait -n || status=1
    running=$((running - 1))
done
exit $status
