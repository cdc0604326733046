//! Aligned memory, and the casts between bytes and elements: all `unsafe` of this room.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use bytes::Bytes;

use super::datatype::Element;
use super::element::ElementBytes;

/// Where buffers start: a cache line, which is also the widest vector register that kernels load.
pub const TENSOR_ALIGNMENT: usize = 64;

// A view is a cast of little-endian wire bytes, so the machine's order has to be the wire's.
const _: () = assert!(cfg!(target_endian = "little"), "tensorgate's tensors need a little-endian machine");

/// Writable memory of a fixed capacity that starts at a multiple of [`TENSOR_ALIGNMENT`]. It is filled once, front to back,
/// and then frozen into [`Bytes`] without a copy.
pub struct AlignedBuffer {
    start: NonNull<u8>,
    capacity: usize,
    len: usize,
}

// SAFETY: the buffer owns its memory alone, as a Vec<u8> does.
unsafe impl Send for AlignedBuffer {}
// SAFETY: a shared reference gives reads only.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// A buffer for at most `capacity` bytes, empty.
    ///
    /// # Panics
    /// Where `capacity` exceeds `isize::MAX`; tensor sizes are checked below that.
    pub fn with_capacity(capacity: usize) -> Self {
        if capacity == 0 {
            return Self { start: NonNull::dangling(), capacity, len: 0 };
        }
        let layout = layout(capacity);
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(memory) else { handle_alloc_error(layout) };
        Self { start, capacity, len: 0 }
    }

    /// A full buffer with a copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buffer = Self::with_capacity(bytes.len());
        buffer.extend(bytes);
        buffer
    }

    /// Appends `bytes`.
    ///
    /// # Panics
    /// Where they do not fit: a buffer is made for what goes into it.
    pub fn extend(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.capacity - self.len, "an aligned buffer never grows");
        // SAFETY: the range from len on has room for the bytes (asserted), is ours alone, and so cannot overlap them.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(self.len), bytes.len()) };
        self.len += bytes.len();
    }

    /// Appends `count` zero bytes; panics as [`AlignedBuffer::extend`] does.
    pub fn extend_zeroes(&mut self, count: usize) {
        assert!(count <= self.capacity - self.len, "an aligned buffer never grows");
        // SAFETY: as in `extend`.
        unsafe { std::ptr::write_bytes(self.start.as_ptr().add(self.len), 0, count) };
        self.len += count;
    }

    /// Appends `count` elements that are all `element`; panics as [`AlignedBuffer::extend`] does.
    pub fn extend_repeated(&mut self, element: &ElementBytes, count: usize) {
        let element = element.as_slice();
        let bytes = count * element.len();
        if element.iter().all(|&byte| byte == 0) {
            return self.extend_zeroes(bytes);
        }
        // Elements are of 1, 2, 4 or 8 bytes, so that whole ones fill the pattern.
        let mut pattern = [0; TENSOR_ALIGNMENT];
        pattern.chunks_exact_mut(element.len()).for_each(|place| place.copy_from_slice(element));
        let mut rest = bytes;
        while rest > 0 {
            let next = rest.min(pattern.len());
            self.extend(&pattern[..next]);
            rest -= next;
        }
    }

    /// The bytes written so far.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the first len bytes are initialised; a dangling start has len 0 and is aligned enough for u8.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Shares the buffer as [`Bytes`], without a copy.
    pub fn freeze(self) -> Bytes {
        if self.len == 0 { Bytes::new() } else { Bytes::from_owner(self) }
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: allocated in `with_capacity` with this layout.
            unsafe { dealloc(self.start.as_ptr(), layout(self.capacity)) };
        }
    }
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, TENSOR_ALIGNMENT).expect("tensor sizes are checked to be below isize::MAX")
}

/// The memory of `values`.
pub(super) fn bytes_of<T: Element>(values: &[T]) -> &[u8] {
    // SAFETY: Element is sealed to plain numbers: no padding, every byte initialised, and u8 has no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// `bytes` seen as elements; `None` where they are not aligned or not a whole number of elements.
pub(super) fn elements_of<T: Element>(bytes: &[u8]) -> Option<&[T]> {
    if bytes.is_empty() {
        return Some(&[]);
    }
    let whole = bytes.len().is_multiple_of(size_of::<T>()) && bytes.as_ptr().addr().is_multiple_of(align_of::<T>());
    // SAFETY: alignment and length are checked, and Element is sealed to numbers, for which every bit pattern is valid.
    whole.then(|| unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) })
}
