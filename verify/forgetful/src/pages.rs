//! The content of a file as 4096-byte pages that two states of it can share.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];

/// Content and length. Pages of zeros are not kept, so a file that was zero-filled in advance takes no memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    pages: BTreeMap<u64, Arc<Page>>,
    pub(crate) len: u64,
}

impl Pages {
    /// How many pages take memory.
    pub(crate) fn held(&self) -> u64 {
        self.pages.len() as u64
    }

    pub(crate) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = offset.saturating_add(len as u64).min(self.len);
        let mut bytes = vec![0; end.saturating_sub(offset) as usize];
        for_each_piece(offset, bytes.len(), |page, within, at| {
            if let Some(content) = self.pages.get(&page) {
                bytes[at.clone()].copy_from_slice(&content[within..within + at.len()]);
            }
        });
        bytes
    }

    /// Writes, and gives the pages touched.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Vec<u64> {
        let mut touched = Vec::new();
        for_each_piece(offset, bytes.len(), |page, within, at| {
            let mut content = self.pages.get(&page).map_or([0; PAGE as usize], |page| **page);
            content[within..within + at.len()].copy_from_slice(&bytes[at]);
            self.set(page, &content);
            touched.push(page);
        });
        self.len = self.len.max(offset + bytes.len() as u64);
        touched
    }

    /// Cuts or extends, and gives the pages touched.
    pub(crate) fn set_len(&mut self, len: u64) -> Vec<u64> {
        let last = len / PAGE;
        let mut touched: Vec<u64> = self.pages.range(last..).map(|(page, _)| *page).collect();
        for page in touched.clone() {
            let keep = if page == last { (len % PAGE) as usize } else { 0 };
            let mut content = [0; PAGE as usize];
            content[..keep].copy_from_slice(&self.pages[&page][..keep]);
            self.set(page, &content);
        }
        if len > self.len {
            touched.clear();
        }
        self.len = len;
        touched
    }

    /// Takes a page over from `other`.
    pub(crate) fn take(&mut self, page: u64, other: &Pages) {
        match other.pages.get(&page) {
            Some(content) => drop(self.pages.insert(page, content.clone())),
            None => drop(self.pages.remove(&page)),
        }
    }

    /// Takes over those 512-byte sectors of a page that `survives` picks, one call for each.
    pub(crate) fn take_some(&mut self, page: u64, other: &Pages, mut survives: impl FnMut() -> bool) {
        let zeros = [0; PAGE as usize];
        let mut content = self.pages.get(&page).map_or(zeros, |page| **page);
        let new = other.pages.get(&page).map_or(zeros, |page| **page);
        for (old, new) in content.chunks_exact_mut(512).zip(new.chunks_exact(512)) {
            if survives() {
                old.copy_from_slice(new);
            }
        }
        self.set(page, &content);
    }

    fn set(&mut self, page: u64, content: &Page) {
        if *content == [0; PAGE as usize] {
            self.pages.remove(&page);
        } else {
            self.pages.insert(page, Arc::new(*content));
        }
    }
}

/// For each page in a range: its number, where in it the range's piece begins, and which bytes of the range that is.
fn for_each_piece(offset: u64, len: usize, mut each: impl FnMut(u64, usize, std::ops::Range<usize>)) {
    let mut at = 0;
    while at < len {
        let place = offset + at as u64;
        let within = (place % PAGE) as usize;
        let end = len.min(at + PAGE as usize - within);
        each(place / PAGE, within, at..end);
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_give_what_was_written() {
        let mut pages = Pages::default();
        assert_eq!(pages.write(4000, &[7; 200]), [0, 1]);
        assert_eq!(pages.len, 4200);
        assert_eq!(pages.read(3999, 1000), [&[0][..], &[7; 200]].concat());
        assert_eq!(pages.read(5000, 10), []);
        pages.write(4000, &[0; 200]);
        assert_eq!(pages.held(), 0, "zeros take no memory");
        assert_eq!(pages.len, 4200);
    }

    #[test]
    fn a_cut_forgets_what_was_behind() {
        let mut pages = Pages::default();
        pages.write(0, &[7; 10_000]);
        assert_eq!(pages.set_len(4100), [1, 2]);
        pages.set_len(10_000);
        assert_eq!(pages.read(4096, 10), [7, 7, 7, 7, 0, 0, 0, 0, 0, 0]);
        assert_eq!(pages.held(), 2);
    }
}
