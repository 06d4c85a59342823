//! Random numbers: quick ones for jitter and identifiers, and the operating system's for secrets.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<u64> = Cell::new({
        let mut seed = [0; 8];
        random_bytes(&mut seed);
        u64::from_le_bytes(seed)
    });
}

/// A quick random number (splitmix64, seeded per thread by the operating system): jitter, weights, identifiers. Never for secrets.
pub fn random_u64() -> u64 {
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mut z = next;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Fills `out` with bytes fit for secrets (getrandom(2)).
pub fn random_bytes(out: &mut [u8]) {
    let mut filled = 0;
    while filled < out.len() {
        let rest = &mut out[filled..];
        // SAFETY: the pointer and the length describe `rest`, which is writable for the whole call.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        if got > 0 {
            filled += got as usize;
        } else {
            let error = std::io::Error::last_os_error();
            assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "getrandom failed: {error}");
        }
    }
}
