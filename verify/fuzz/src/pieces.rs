//! Ways to cut an input, for decoders that must not care.

/// Cuts `input` into pieces of the sizes that `sizes` gives in turn, over and over; 0 counts as 256. Without sizes it stays
/// whole.
pub fn cut<'a>(input: &'a [u8], sizes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = input;
    let mut turn = 0;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let size = match sizes {
            [] => rest.len(),
            _ => match sizes[turn % sizes.len()] {
                0 => 256,
                size => usize::from(size),
            },
        };
        turn += 1;
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        Some(piece)
    })
}

/// Takes from the front of `data` how to cut what follows: a count of up to 7, then so many sizes.
pub fn take_cuts(data: &[u8]) -> (&[u8], &[u8]) {
    match data {
        [count, rest @ ..] => rest.split_at(usize::from(count % 8).min(rest.len())),
        [] => (&[], &[]),
    }
}
