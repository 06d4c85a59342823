//! The aligned buffers that batches are written from, used again and again.
//!
//! A batch of n blocks is put together from buffers whose sizes are powers of two, so that a few sizes serve all.

use runtime::AlignedBuf;

use crate::limits::BLOCK_BYTES;

/// Sizes: 1, 2, 4, … 64 blocks.
const CLASSES: usize = 7;
/// Buffers above this are freed when they come back, bytes.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Buffers {
    free: [Vec<AlignedBuf>; CLASSES],
    kept_bytes: usize,
}

impl Buffers {
    /// Buffers of `blocks` blocks in all, the large ones first. What they hold is arbitrary.
    pub(super) fn take(&mut self, blocks: u32) -> Vec<AlignedBuf> {
        let mut left = blocks as usize;
        let mut taken = Vec::new();
        while left > 0 {
            let class = (left.ilog2() as usize).min(CLASSES - 1);
            left -= 1 << class;
            taken.push(match self.free[class].pop() {
                Some(buffer) => {
                    self.kept_bytes -= buffer.len();
                    buffer
                }
                None => AlignedBuf::zeroed(BLOCK_BYTES << class),
            });
        }
        taken
    }

    pub(super) fn give_back(&mut self, buffers: Vec<AlignedBuf>) {
        for buffer in buffers {
            if self.kept_bytes + buffer.len() <= KEPT_BYTES_MAX {
                self.kept_bytes += buffer.len();
                let class = (buffer.len() / BLOCK_BYTES).ilog2() as usize;
                self.free[class].push(buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffers_add_up_and_come_back() {
        let mut buffers = Buffers::default();
        for blocks in [1, 3, 64, 65, 200, 5000] {
            let taken = buffers.take(blocks);
            assert_eq!(taken.iter().map(|buffer| buffer.len()).sum::<usize>(), blocks as usize * BLOCK_BYTES);
            buffers.give_back(taken);
            assert!(buffers.kept_bytes <= KEPT_BYTES_MAX);
        }
        let kept = buffers.kept_bytes;
        let taken = buffers.take(64);
        assert!(buffers.kept_bytes < kept, "used again");
        buffers.give_back(taken);
        assert_eq!(buffers.kept_bytes, kept);
    }
}
