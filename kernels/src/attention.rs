//! Scaled dot-product attention within one sequence, head by head.

use crate::lanes::{Lanes, on_widest};
use crate::panels::PANEL;
use crate::pointwise::softmax;
use crate::product::{Finish, Tile};
use crate::{Panels, Rows, RowsMut};

/// Queries whose scores are made before they are used: what they take stays in a second-level cache up to some thousand keys.
const QUERIES: usize = 48;

/// How a layer attends.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// Heads.
    pub count: usize,
    /// Values of a head.
    pub width: usize,
    /// How far a key may be from its query, where not every one counts.
    pub window: Option<usize>,
    /// What is added to a score by distance, `[heads][2 * reach - 1]`, the key's place less the query's, from `1 - reach` on.
    pub bias: Option<&'a [f32]>,
}

/// Which tokens of a sequence are attended to.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    /// The place in the text of each token of the sequence, ascending.
    pub places: &'a [u32],
    /// Tokens that count, ascending; all where there is no list.
    pub kept: Option<&'a [u32]>,
}

impl Keys<'_> {
    fn count(&self) -> usize {
        self.kept.map_or(self.places.len(), <[u32]>::len)
    }

    fn token(&self, index: usize) -> usize {
        self.kept.map_or(index, |kept| kept[index] as usize)
    }

    fn place(&self, index: usize) -> usize {
        self.places[self.token(index)] as usize
    }

    /// The keys that a query at `place` attends to.
    fn range(&self, place: usize, window: Option<usize>) -> std::ops::Range<usize> {
        let Some(window) = window else { return 0..self.count() };
        let first_at_or_behind = |bound: usize| {
            let (mut low, mut high) = (0, self.count());
            while low < high {
                let middle = (low + high) / 2;
                if self.place(middle) < bound { low = middle + 1 } else { high = middle }
            }
            low
        };
        first_at_or_behind(place.saturating_sub(window))..first_at_or_behind(place + window + 1)
    }
}

/// Memory that attention needs, for as long as its owner has it.
pub struct AttentionScratch {
    keys: Panels,
    values: Panels,
    scores: Vec<f32>,
}

impl Default for AttentionScratch {
    fn default() -> Self {
        Self { keys: Panels::new(0, 0), values: Panels::new(0, 0), scores: Vec::new() }
    }
}

/// Attention of one sequence: `projected` has a row for each token, its queries, keys and values, each of all heads, one behind
/// the other; `out` gets what each token's queries found, of all heads. A token to which no key is within reach finds zeroes.
///
/// # Panics
/// Where the sizes do not fit.
pub fn attend(
    heads: &Heads<'_>,
    projected: Rows<'_>,
    keys: &Keys<'_>,
    scratch: &mut AttentionScratch,
    out: &mut RowsMut<'_>,
) {
    let width = heads.count * heads.width;
    assert!(projected.width == 3 * width && out.width == width, "queries, keys and values of {width}");
    assert!(projected.count == out.count && keys.places.len() == out.count, "a row for each token");
    assert!(keys.kept.is_none_or(|kept| kept.iter().all(|&token| (token as usize) < out.count)), "keys are tokens");
    on_widest!(each_head(
        heads: &Heads<'_>,
        projected: Rows<'_>,
        keys: &Keys<'_>,
        scratch: &mut AttentionScratch,
        out: &mut RowsMut<'_>,
    ));
}

#[inline(always)]
unsafe fn each_head<L: Lanes>(
    heads: &Heads<'_>,
    projected: Rows<'_>,
    keys: &Keys<'_>,
    scratch: &mut AttentionScratch,
    out: &mut RowsMut<'_>,
) {
    let count = keys.count();
    if count == 0 {
        (0..out.count).for_each(|row| out.row_mut(row).fill(0.0));
        return;
    }
    let stride = crate::stride_for(count.next_multiple_of(PANEL));
    scratch.scores.resize(QUERIES * stride, 0.0);
    for head in 0..heads.count {
        pack(heads, head, projected, keys, scratch);
        for first in (0..out.count).step_by(QUERIES) {
            let queries = first..(first + QUERIES).min(out.count);
            let block = Block { heads, head, keys, queries, stride };
            // SAFETY: the caller's promise of the processor.
            unsafe { block.compute::<L>(projected, scratch, out) };
        }
    }
}

/// Keys of a head as columns, values as rows.
fn pack(heads: &Heads<'_>, head: usize, projected: Rows<'_>, keys: &Keys<'_>, scratch: &mut AttentionScratch) {
    let (count, width, all) = (keys.count(), heads.width, heads.count * heads.width);
    scratch.keys.reset(count, width);
    scratch.values.reset(width, count);
    let (key_floats, value_floats) = (scratch.keys.floats_mut(), scratch.values.floats_mut());
    for index in 0..count {
        let row = projected.row(keys.token(index));
        let key = &row[all + head * width..][..width];
        let panel = &mut key_floats[index / PANEL * width * PANEL..][..width * PANEL];
        for (place, &value) in panel[index % PANEL..].iter_mut().step_by(PANEL).zip(key) {
            *place = value;
        }
        let value = &row[2 * all + head * width..][..width];
        for (panel, part) in value.chunks(PANEL).enumerate() {
            value_floats[(panel * count + index) * PANEL..][..part.len()].copy_from_slice(part);
        }
    }
}

/// Some queries of one head.
struct Block<'a> {
    heads: &'a Heads<'a>,
    head: usize,
    keys: &'a Keys<'a>,
    queries: std::ops::Range<usize>,
    /// Of rows of scores.
    stride: usize,
}

impl Block<'_> {
    #[inline(always)]
    unsafe fn compute<L: Lanes>(&self, projected: Rows<'_>, scratch: &mut AttentionScratch, out: &mut RowsMut<'_>) {
        let Heads { width, window, .. } = *self.heads;
        let place = |query: usize| self.keys.places[query] as usize;
        let first = self.keys.range(place(self.queries.start), window).start / PANEL * PANEL;
        let end = self.keys.range(place(self.queries.end - 1), window).end.max(first);
        // SAFETY: the caller's promise of the processor; a row of scores has room for whole panels, and tiles are within rows.
        unsafe {
            for query in self.queries.clone().step_by(L::ROWS) {
                let count = L::ROWS.min(self.queries.end - query);
                let from = &projected.data[query * projected.stride + self.head * width..];
                let scores = &mut scratch.scores[(query - self.queries.start) * self.stride..];
                let tile = |columns| Tile {
                    from,
                    from_stride: projected.stride,
                    count,
                    depth: width,
                    to_stride: self.stride,
                    columns,
                    ahead: from.as_ptr(),
                };
                for panel in first / PANEL..end.div_ceil(PANEL) {
                    let to = &mut scores[panel * PANEL..];
                    tile(PANEL).compute::<L>(scratch.keys.panel(panel), None, to, Finish::Write);
                }
                for row in 0..count {
                    self.weigh::<L>(query + row, first, end, &mut scores[row * self.stride..][..end]);
                }
                for column in (0..width).step_by(PANEL) {
                    let tile = Tile {
                        from: &scores[first..],
                        from_stride: self.stride,
                        count,
                        depth: end - first,
                        to_stride: out.stride,
                        columns: PANEL.min(width - column),
                        ahead: scores.as_ptr(),
                    };
                    let to = &mut out.data[query * out.stride + self.head * width + column..];
                    let values = &scratch.values.panel(column / PANEL)[first * PANEL..];
                    tile.compute::<L>(values, None, to, Finish::Write);
                }
            }
        }
    }

    /// Scores of a query, of the keys from `first` to `end`, into weights; those of keys out of its reach are 0.
    #[inline(always)]
    unsafe fn weigh<L: Lanes>(&self, query: usize, first: usize, end: usize, scores: &mut [f32]) {
        let place = self.keys.places[query] as usize;
        let reached = self.keys.range(place, self.heads.window);
        scores[first..reached.start.clamp(first, end)].fill(0.0);
        scores[reached.end.clamp(first, end)..].fill(0.0);
        let scale = 1.0 / (self.heads.width as f32).sqrt();
        let scores = &mut scores[reached.clone()];
        scores.iter_mut().for_each(|score| *score *= scale);
        if let Some(bias) = self.heads.bias {
            let distances = bias.len() / self.heads.count;
            let (bias, reach) = (&bias[self.head * distances..][..distances], distances.div_ceil(2));
            for (score, key) in scores.iter_mut().zip(reached) {
                *score += bias[self.keys.place(key) + reach - 1 - place];
            }
        }
        if !scores.is_empty() {
            // SAFETY: the caller's promise of the processor.
            unsafe { softmax::<L>(scores) };
        }
    }
}
