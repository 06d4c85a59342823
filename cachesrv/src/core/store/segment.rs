//! A segment: one piece of memory that items are appended to.
//!
//! What always holds: `data` never grows past `capacity`, which was taken from the allocator at once; items stand in
//! it without a gap, the dead among them, so that it can be walked.

use super::item::Head;

/// One piece of item memory.
#[derive(Debug)]
pub(super) struct Segment {
    data: Vec<u8>,
    /// Bytes taken from the allocator.
    pub(super) capacity: usize,
    /// Bytes of items that are gone, and of a tail that nothing will be put in.
    pub(super) dead_bytes: usize,
    /// Items that are not gone.
    pub(super) live_items: usize,
    /// Whether it was made for one large item.
    pub(super) single: bool,
}

impl Segment {
    /// An empty segment on `memory`, which is cleared.
    pub(super) fn on(mut memory: Vec<u8>) -> Segment {
        memory.clear();
        Segment { capacity: memory.capacity(), data: memory, dead_bytes: 0, live_items: 0, single: false }
    }

    /// A segment that is one item, laid out already.
    pub(super) fn of_one_item(item: Vec<u8>) -> Segment {
        Segment { capacity: item.capacity(), data: item, dead_bytes: 0, live_items: 1, single: true }
    }

    pub(super) fn into_memory(self) -> Vec<u8> {
        self.data
    }

    pub(super) fn room(&self) -> usize {
        self.capacity - self.data.len()
    }

    /// Appends an item and gives its offset.
    pub(super) fn append(&mut self, head: &Head, key: &[u8], value: &[u8]) -> usize {
        assert!(head.item_bytes() <= self.room(), "room was made for this item");
        let offset = self.data.len();
        self.data.resize(offset + super::item::HEAD_BYTES, 0);
        head.write(&mut self.data[offset..]);
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
        self.live_items += 1;
        offset
    }

    /// Appends an item as it stands in another segment and gives its offset.
    pub(super) fn append_raw(&mut self, item: &[u8]) -> usize {
        assert!(item.len() <= self.room(), "room was made for this item");
        let offset = self.data.len();
        self.data.extend_from_slice(item);
        self.live_items += 1;
        offset
    }

    pub(super) fn head(&self, offset: usize) -> Head {
        Head::read(&self.data[offset..])
    }

    pub(super) fn set_head(&mut self, offset: usize, head: &Head) {
        head.write(&mut self.data[offset..]);
    }

    pub(super) fn key(&self, offset: usize) -> &[u8] {
        let start = offset + super::item::HEAD_BYTES;
        let length = usize::from(self.data[offset + 13]);
        &self.data[start..start + length]
    }

    pub(super) fn value(&self, offset: usize, head: &Head) -> &[u8] {
        let start = offset + super::item::HEAD_BYTES + usize::from(head.key_bytes);
        &self.data[start..start + head.value_bytes as usize]
    }

    pub(super) fn value_mut(&mut self, offset: usize, head: &Head) -> &mut [u8] {
        let start = offset + super::item::HEAD_BYTES + usize::from(head.key_bytes);
        &mut self.data[start..start + head.value_bytes as usize]
    }

    pub(super) fn item(&self, offset: usize, head: &Head) -> &[u8] {
        &self.data[offset..offset + head.item_bytes()]
    }

    /// All items in order, the dead among them.
    pub(super) fn walk(&self) -> impl Iterator<Item = (usize, Head)> + '_ {
        let mut offset = 0;
        std::iter::from_fn(move || {
            if offset == self.data.len() {
                return None;
            }
            let head = self.head(offset);
            let at = offset;
            offset += head.item_bytes();
            Some((at, head))
        })
    }

    /// Nothing more will be appended.
    pub(super) fn seal(&mut self) {
        self.dead_bytes += self.room();
    }

    /// Forgets all items of a segment in which all are dead.
    pub(super) fn restart(&mut self) {
        assert_eq!(self.live_items, 0);
        self.data.clear();
        self.dead_bytes = 0;
    }
}
