//! Weights in the order in which products read them.

/// Columns of a panel.
pub(crate) const PANEL: usize = 32;

/// A cache line, which a panel starts at.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A matrix of `outer` columns and `inner` rows, cut into panels of 32 columns: a panel is its rows, one behind the other, zeroes
/// standing for columns that are not there. It is read front to back by [`crate::multiply`].
pub struct Panels {
    lines: Vec<Line>,
    inner: usize,
    outer: usize,
}

impl Panels {
    /// A matrix of zeroes.
    pub fn new(outer: usize, inner: usize) -> Self {
        let lines = vec![Line([0.0; 16]); outer.div_ceil(PANEL) * inner * (PANEL / 16)];
        Self { lines, inner, outer }
    }

    /// Makes a matrix of zeroes of this one's memory.
    pub(crate) fn reset(&mut self, outer: usize, inner: usize) {
        let count = outer.div_ceil(PANEL) * inner * (PANEL / 16);
        (self.outer, self.inner) = (outer, inner);
        // Only the last panel may have columns that nobody writes.
        self.lines.resize(count, Line([0.0; 16]));
        let last = count - (inner * (PANEL / 16)).min(count);
        if !outer.is_multiple_of(PANEL) {
            self.lines[last..].fill(Line([0.0; 16]));
        }
    }

    /// How many rows a product sums up over.
    pub fn inner(&self) -> usize {
        self.inner
    }

    /// How many columns a product has.
    pub fn outer(&self) -> usize {
        self.outer
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// The columns, one behind the other: what [`Panels::set_columns`] was given.
    pub fn columns(&self) -> Vec<f32> {
        let (floats, inner) = (self.floats(), self.inner);
        let column = |at: usize| {
            let panel = &floats[at / PANEL * inner * PANEL..][..inner * PANEL];
            panel.iter().skip(at % PANEL).step_by(PANEL).copied()
        };
        (0..self.outer).flat_map(column).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.outer.div_ceil(PANEL)
    }

    pub(crate) fn panel(&self, index: usize) -> &[f32] {
        &self.floats()[index * self.inner * PANEL..][..self.inner * PANEL]
    }

    fn floats(&self) -> &[f32] {
        // SAFETY: a line is sixteen floats without padding, and the vector has as many lines as it says.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * 16) }
    }

    pub(crate) fn floats_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `floats`; the borrow is this value's.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * 16) }
    }

    /// Sets the columns from `first` on: `columns` has them one behind the other, as the rows of a layer's weight `[out, in]` are.
    ///
    /// # Panics
    /// Where they are not whole columns, or more than there are.
    pub fn set_columns(&mut self, first: usize, columns: &[f32]) {
        let inner = self.inner;
        if inner == 0 || columns.is_empty() {
            return;
        }
        let count = columns.len() / inner;
        assert!(
            columns.len() == count * inner && first + count <= self.outer,
            "columns of {inner}, {first} and {count} more"
        );
        let floats = self.floats_mut();
        // In squares, so that both sides are read and written by whole cache lines.
        for block in (0..inner).step_by(16) {
            let end = (block + 16).min(inner);
            for (column, values) in columns.chunks_exact(inner).enumerate() {
                let at = first + column;
                let panel = &mut floats[at / PANEL * inner * PANEL..][..inner * PANEL];
                for row in block..end {
                    panel[row * PANEL + at % PANEL] = values[row];
                }
            }
        }
    }
}

impl std::fmt::Debug for Panels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Panels[{}, {}]", self.inner, self.outer)
    }
}
