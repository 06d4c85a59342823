//! Reads the blocks of a segment in order, with several reads under way at once, so that a disk is kept busy while what came
//! is looked at.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;

use runtime::AlignedBuf;
use runtime::fs::File;

use crate::limits::BLOCK_BYTES;

/// Blocks read at once.
const READ_BLOCKS: u32 = 256;
/// How many such reads are under way.
const READS_AHEAD: usize = 6;

type Read = io::Result<(AlignedBuf, usize)>;

enum Ahead<'a> {
    UnderWay(Pin<Box<dyn Future<Output = Read> + 'a>>),
    Done(Read),
}

/// Gives blocks `from` to `to` (not included) to `each`, one by one.
///
/// # Errors
/// `UnexpectedEof` when the file ends before; what read(2) says.
pub(super) async fn read_blocks(
    file: &File,
    from: u32,
    to: u32,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let (mut ahead, mut free) = (VecDeque::new(), Vec::new());
    let (mut asked, mut next) = (from, from);
    while next < to {
        while asked < to && ahead.len() < READS_AHEAD {
            let buffer = free.pop().unwrap_or_else(buffer);
            ahead.push_back(Ahead::UnderWay(Box::pin(file.read_direct(offset(asked), buffer))));
            asked = asked.saturating_add(READ_BLOCKS).min(to);
        }
        let end = next.saturating_add(READ_BLOCKS).min(to);
        let (read, bytes) = first(&mut ahead).await?;
        let blocks = (end - next) as usize;
        if bytes / BLOCK_BYTES < blocks {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read.chunks_exact(BLOCK_BYTES).take(blocks).for_each(&mut each);
        next = end;
        free.push(read);
    }
    Ok(())
}

fn buffer() -> AlignedBuf {
    AlignedBuf::zeroed(READ_BLOCKS as usize * BLOCK_BYTES)
}

fn offset(block: u32) -> u64 {
    u64::from(block) * BLOCK_BYTES as u64
}

/// Waits for the oldest read, and lets all go on.
async fn first(ahead: &mut VecDeque<Ahead<'_>>) -> Read {
    poll_fn(|context| {
        for read in ahead.iter_mut() {
            if let Ahead::UnderWay(reading) = read
                && let Poll::Ready(done) = reading.as_mut().poll(context)
            {
                *read = Ahead::Done(done);
            }
        }
        match ahead.front() {
            Some(Ahead::UnderWay(_)) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
    match ahead.pop_front() {
        Some(Ahead::Done(read)) => read,
        _ => unreachable!("it is done, and there is one"),
    }
}
