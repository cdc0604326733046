//! Matrices whose rows may lie apart.

/// Floats of a cache line: what a stride is a multiple of.
const LINE: usize = 16;

/// A stride for rows of `width` floats: whole cache lines, and an odd number of them, so that the same places of neighbouring
/// rows do not all fall into the same few sets of a cache.
pub fn stride_for(width: usize) -> usize {
    (width.div_ceil(LINE) | 1) * LINE
}

/// Rows to read: `count` of `width` floats, each `stride` behind the last.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) count: usize,
    pub(crate) width: usize,
}

impl<'a> Rows<'a> {
    /// Rows in `data`, the first at its start.
    ///
    /// # Panics
    /// Where `data` does not hold them, or they overlap.
    pub fn new(data: &'a [f32], count: usize, width: usize, stride: usize) -> Self {
        check(data.len(), count, width, stride);
        Self { data, stride, count, width }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The row at `index`.
    ///
    /// # Panics
    /// Where there is none.
    pub fn row(&self, index: usize) -> &'a [f32] {
        assert!(index < self.count, "a row of {} has no index {index}", self.count);
        &self.data[index * self.stride..][..self.width]
    }
}

/// Rows to write.
#[derive(Debug)]
pub struct RowsMut<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) count: usize,
    pub(crate) width: usize,
}

impl<'a> RowsMut<'a> {
    /// Rows in `data`, the first at its start; panics as [`Rows::new`] does.
    pub fn new(data: &'a mut [f32], count: usize, width: usize, stride: usize) -> Self {
        check(data.len(), count, width, stride);
        Self { data, stride, count, width }
    }

    /// The row at `index`; panics as [`Rows::row`] does.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        assert!(index < self.count, "a row of {} has no index {index}", self.count);
        &mut self.data[index * self.stride..][..self.width]
    }
}

fn check(length: usize, count: usize, width: usize, stride: usize) {
    assert!(width <= stride || count <= 1, "rows of {width} overlap at a stride of {stride}");
    let needed =
        if count == 0 { Some(0) } else { (count - 1).checked_mul(stride).and_then(|last| last.checked_add(width)) };
    assert!(needed.is_some_and(|needed| needed <= length), "{count} rows of {width} are not within {length} floats");
}
