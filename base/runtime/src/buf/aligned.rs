//! Memory aligned for O_DIRECT.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// The alignment of direct I/O, of addresses, lengths and file offsets alike, bytes.
pub const BLOCK_BYTES: usize = 4096;

/// A zeroed buffer whose address and length are multiples of [`BLOCK_BYTES`]. It never moves, so that the kernel may
/// hold its address while the owner moves the handle.
pub struct AlignedBuf {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is owned by this handle alone, as a Box<[u8]>'s is.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// `len` zero bytes.
    ///
    /// # Panics
    /// If `len` is zero or no multiple of [`BLOCK_BYTES`].
    pub fn zeroed(len: usize) -> AlignedBuf {
        let layout = AlignedBuf::layout(len);
        // SAFETY: the layout's size is not zero, as `layout` asserts.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        AlignedBuf { start, len }
    }

    fn layout(len: usize) -> Layout {
        assert!(
            len > 0 && len.is_multiple_of(BLOCK_BYTES),
            "an aligned buffer of {len} bytes: no multiple of {BLOCK_BYTES}"
        );
        Layout::from_size_align(len, BLOCK_BYTES).expect("a length that fits the address space")
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this very layout, and freed only here.
        unsafe { dealloc(self.start.as_ptr(), AlignedBuf::layout(self.len)) }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` owns `len` initialised bytes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: `start` owns `len` initialised bytes, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len)
    }
}
