//! The dimensions of a tensor.

use std::fmt;
use std::ops::Deref;

use smallvec::SmallVec;

/// Dimensions, outermost first. Empty for a scalar; a zero dimension makes a tensor without elements.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(SmallVec<[usize; 4]>);

impl Shape {
    /// A shape of `dims`.
    pub fn new(dims: impl IntoIterator<Item = usize>) -> Self {
        Self(dims.into_iter().collect())
    }

    /// The number of elements; `None` where it does not fit `usize`. A scalar has one.
    pub fn elements(&self) -> Option<usize> {
        // A zero dimension makes the product zero whatever the others are, so it must win over their overflow.
        if self.0.contains(&0) {
            return Some(0);
        }
        self.0.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))
    }

    /// The number of elements behind one step on dimension 0; `None` on overflow or for a scalar.
    pub fn elements_per_row(&self) -> Option<usize> {
        let (_, row) = self.0.split_first()?;
        if row.contains(&0) {
            return Some(0);
        }
        row.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))
    }

    /// The same shape with `rows` on dimension 0. A scalar stays a scalar.
    #[must_use]
    pub fn with_rows(&self, rows: usize) -> Self {
        let mut dims = self.0.clone();
        if let Some(first) = dims.first_mut() {
            *first = rows;
        }
        Self(dims)
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(dims: I) -> Self {
        Self::new(dims)
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self::new(dims)
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Self(SmallVec::from_slice(dims))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.0.iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { "," })?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
