//! Products of rows with packed weights.

use crate::lanes::{Lanes, on_widest};
use crate::panels::PANEL;
use crate::pointwise::{Activation, activate_row};
use crate::{Panels, Rows, RowsMut};

/// Vectors of a tile's row.
const ACROSS: usize = 2;

/// Floats of the rows that are multiplied with one panel after the other before the next rows are: a quarter of a second-level
/// cache of 1 MiB, where both they and the panel stay.
const BLOCK_FLOATS: usize = 1 << 16;

/// What becomes of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It is written.
    Write,
    /// It is added to what is there.
    Add,
    /// It is written as this function of it.
    Activate(Activation),
}

/// `out = rows x weights + bias`, and then as `finish` says.
///
/// # Panics
/// Where the sizes do not fit.
pub fn multiply(rows: Rows<'_>, weights: &Panels, bias: Option<&[f32]>, out: &mut RowsMut<'_>, finish: Finish) {
    assert_eq!((rows.width, rows.count), (weights.inner(), out.count), "rows to multiply and to write");
    assert_eq!(out.width, weights.outer(), "columns to write");
    assert!(bias.is_none_or(|bias| bias.len() == weights.outer()), "a bias for each column");
    on_widest!(product(rows: Rows<'_>, weights: &Panels, bias: Option<&[f32]>, out: &mut RowsMut<'_>, finish: Finish));
}

#[inline(always)]
unsafe fn product<L: Lanes>(
    rows: Rows<'_>,
    weights: &Panels,
    bias: Option<&[f32]>,
    out: &mut RowsMut<'_>,
    finish: Finish,
) {
    let block = (BLOCK_FLOATS * 4 / rows.width.max(1)).next_multiple_of(L::ROWS);
    for first in (0..rows.count).step_by(block) {
        let end = (first + block).min(rows.count);
        for panel in 0..weights.count() {
            let column = panel * PANEL;
            let columns = PANEL.min(out.width - column);
            let bias = bias.map(|bias| &bias[column..column + columns]);
            for row in (first..end).step_by(L::ROWS) {
                let count = L::ROWS.min(end - row);
                let from = &rows.data[row * rows.stride..];
                let to = &mut out.data[row * out.stride + column..];
                // The next panel comes while this one is used: a line of it with each row of the panel, the first half with one
                // tile and the second with the next.
                let ahead = weights.panel((panel + 1).min(weights.count() - 1)).as_ptr();
                let ahead = ahead.wrapping_add((row - first) / L::ROWS % 2 * rows.width * (PANEL / 2));
                let (from_stride, to_stride) = (rows.stride, out.stride);
                let tile = Tile { from, from_stride, count, depth: rows.width, to_stride, columns, ahead };
                // SAFETY: the processor is the caller's promise; `Rows` and the assertions of `multiply` hold that `count` rows
                // of `depth` floats are there, and as many of `columns` to write.
                unsafe { tile.compute::<L>(weights.panel(panel), bias, to, finish) };
            }
        }
    }
}

/// Some rows times one panel.
pub(crate) struct Tile<'a> {
    pub(crate) from: &'a [f32],
    pub(crate) from_stride: usize,
    /// Rows, at most [`Lanes::ROWS`].
    pub(crate) count: usize,
    pub(crate) depth: usize,
    pub(crate) to_stride: usize,
    /// Columns that are written, at most [`PANEL`].
    pub(crate) columns: usize,
    /// What is read soon.
    pub(crate) ahead: *const f32,
}

impl Tile<'_> {
    #[inline(always)]
    pub(crate) unsafe fn compute<L: Lanes>(&self, panel: &[f32], bias: Option<&[f32]>, to: &mut [f32], finish: Finish) {
        let whole = self.columns == PANEL;
        let mut spare = [0.0_f32; 12 * PANEL];
        debug_assert!(self.count <= 12 && panel.len() >= self.depth * PANEL);
        let (target, stride) = if whole { (to.as_mut_ptr(), self.to_stride) } else { (spare.as_mut_ptr(), PANEL) };
        let mut wide_bias = [0.0_f32; PANEL];
        if let Some(bias) = bias {
            wide_bias[..bias.len()].copy_from_slice(bias);
        }
        let adds = finish == Finish::Add && whole;
        // SAFETY: the caller's promise of the processor and of rows; a panel has `depth` times 32 floats.
        unsafe {
            for column in (0..PANEL).step_by(ACROSS * L::WIDTH) {
                let (panel, bias, target) =
                    (panel.as_ptr().add(column), wide_bias.as_ptr().add(column), target.add(column));
                let ends = Ends { from: self.from.as_ptr(), panel, bias, target, stride, adds };
                match self.count {
                    12 => self.rows::<L, 12>(&ends),
                    11 => self.rows::<L, 11>(&ends),
                    10 => self.rows::<L, 10>(&ends),
                    9 => self.rows::<L, 9>(&ends),
                    8 => self.rows::<L, 8>(&ends),
                    7 => self.rows::<L, 7>(&ends),
                    6 => self.rows::<L, 6>(&ends),
                    5 => self.rows::<L, 5>(&ends),
                    4 => self.rows::<L, 4>(&ends),
                    3 => self.rows::<L, 3>(&ends),
                    2 => self.rows::<L, 2>(&ends),
                    1 => self.rows::<L, 1>(&ends),
                    _ => {}
                }
            }
        }
        if !whole {
            for row in 0..self.count {
                let (to, made) =
                    (&mut to[row * self.to_stride..][..self.columns], &spare[row * PANEL..][..self.columns]);
                match finish {
                    Finish::Add => to.iter_mut().zip(made).for_each(|(to, made)| *to += made),
                    Finish::Write | Finish::Activate(_) => to.copy_from_slice(made),
                }
            }
        }
        if let Finish::Activate(activation) = finish {
            for row in 0..self.count {
                // SAFETY: the caller's promise of the processor.
                unsafe { activate_row::<L>(&mut to[row * self.to_stride..][..self.columns], activation) };
            }
        }
    }

    /// Sums of `R` rows, all in registers.
    #[inline(always)]
    unsafe fn rows<L: Lanes, const R: usize>(&self, ends: &Ends) {
        if R > L::ROWS {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[L::splat(0.0); ACROSS]; R];
            let mut panel = ends.panel;
            for depth in 0..self.depth {
                let weights = [L::load(panel), L::load(panel.add(L::WIDTH))];
                panel = panel.add(PANEL);
                L::prefetch(self.ahead.wrapping_add(depth * (PANEL / ACROSS)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let value = L::splat(*ends.from.add(row * self.from_stride + depth));
                    sums[0] = L::fma(value, weights[0], sums[0]);
                    sums[1] = L::fma(value, weights[1], sums[1]);
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for (across, &sum) in sums.iter().enumerate() {
                    let to = ends.target.add(row * ends.stride + across * L::WIDTH);
                    let sum = L::add(sum, L::load(ends.bias.add(across * L::WIDTH)));
                    L::store(to, if ends.adds { L::add(sum, L::load(to)) } else { sum });
                }
            }
        }
    }
}

/// Where a tile reads and writes.
struct Ends {
    from: *const f32,
    panel: *const f32,
    bias: *const f32,
    target: *mut f32,
    stride: usize,
    adds: bool,
}
