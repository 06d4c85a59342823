//! The content of a file as 4096-byte pages, which two states of it can share. Pages of zeros take no memory.

use std::collections::BTreeMap;
use std::rc::Rc;

const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];

/// Content and length.
#[derive(Clone, Default)]
pub(super) struct Pages {
    pages: BTreeMap<u64, Rc<Page>>,
    len: u64,
}

impl Pages {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Up to `len` bytes from `offset` on; fewer only at the end.
    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = offset.saturating_add(len as u64).min(self.len);
        let mut bytes = vec![0; end.saturating_sub(offset) as usize];
        for_each_piece(offset, bytes.len(), |page, within, at| {
            if let Some(content) = self.pages.get(&page) {
                bytes[at.clone()].copy_from_slice(&content[within..within + at.len()]);
            }
        });
        bytes
    }

    /// Writes; the length grows as needed.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.write_within(offset, bytes);
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    /// Writes content and leaves the length: what lies behind it is seen once the length has grown.
    pub(super) fn write_within(&mut self, offset: u64, bytes: &[u8]) {
        for_each_piece(offset, bytes.len(), |page, within, at| {
            let piece = &bytes[at];
            if piece.iter().all(|byte| *byte == 0) {
                if piece.len() == PAGE as usize {
                    self.pages.remove(&page);
                    return;
                }
                if !self.pages.contains_key(&page) {
                    return;
                }
            }
            let content = self.pages.entry(page).or_insert_with(|| Rc::new([0; PAGE as usize]));
            Rc::make_mut(content)[within..within + piece.len()].copy_from_slice(piece);
        });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE));
            let within = (len % PAGE) as usize;
            if let Some(last) = self.pages.get_mut(&(len / PAGE))
                && within > 0
            {
                Rc::make_mut(last)[within..].fill(0);
            }
        }
        self.len = len;
    }

    /// Flips a bit.
    pub(super) fn flip(&mut self, offset: u64, bit: u32) {
        let content = self.pages.entry(offset / PAGE).or_insert_with(|| Rc::new([0; PAGE as usize]));
        Rc::make_mut(content)[(offset % PAGE) as usize] ^= 1 << bit;
    }
}

/// Calls `each` with a page, the place in it, and the range of bytes that falls there.
fn for_each_piece(offset: u64, len: usize, mut each: impl FnMut(u64, usize, std::ops::Range<usize>)) {
    let mut at = 0;
    while at < len {
        let position = offset + at as u64;
        let within = (position % PAGE) as usize;
        let step = (PAGE as usize - within).min(len - at);
        each(position / PAGE, within, at..at + step);
        at += step;
    }
}
