//! What is made of the values behind the last layer: classes of a row or of its tokens, words, one vector for the row.

use tensorgate_kernels::{Activation, Finish, RowsMut};

use super::encoder::{Dense, Matrix, Norm};
use super::forward::{Part, Scratch, Sequence};

/// Which values a head starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Select {
    /// Those of each token.
    Each,
    /// One of a row's: its first token's.
    First,
    /// The mean of a row's tokens that count.
    Mean,
    /// The largest of each value, of a row's tokens that count.
    Largest,
    /// The sum of a row's tokens that count, by the root of their number.
    MeanByRoot,
}

/// What becomes of a row of values next.
pub(super) enum Step {
    /// A linear layer and a function of what it gives.
    Dense(Dense, Activation),
    Norm(Norm),
    /// Scaled to length 1.
    Unit,
}

/// A head.
pub(super) struct Head {
    /// One row of values for each, one behind the other.
    pub(super) select: Vec<Select>,
    pub(super) steps: Vec<Step>,
    /// Values of a row of its output.
    pub(super) width: usize,
}

impl Head {
    /// A head of these parts over values of `width`.
    pub(super) fn new(select: Vec<Select>, steps: Vec<Step>, width: usize) -> Self {
        let start = width * select.len();
        let width = steps.iter().fold(start, |width, step| match step {
            Step::Dense(dense, _) => dense.weight.outer(),
            Step::Norm(_) | Step::Unit => width,
        });
        Self { select, steps, width }
    }

    /// Bytes of its weights.
    pub(super) fn bytes(&self) -> usize {
        let of = |step: &Step| if let Step::Dense(dense, _) = step { dense.bytes() } else { 0 };
        self.steps.iter().map(of).sum()
    }

    /// Whether it answers each token.
    pub(super) fn is_of_tokens(&self) -> bool {
        self.select.contains(&Select::Each)
    }

    /// Writes the answers to the rows of `scratch.part` into `out`, one behind the other.
    pub(super) fn apply(&self, scratch: &mut Scratch, out: &mut [f32]) {
        let Scratch { part, values, head: [one, other], .. } = scratch;
        let rows = if self.is_of_tokens() { part.tokens() } else { part.sequences.len() };
        // Which of the two matrices has what was made last, if one does.
        let mut held = None;
        if !self.is_of_tokens() {
            one.reset(rows, values.width() * self.select.len());
            for (row, sequence) in part.sequences.iter().enumerate() {
                let parts = one.row_mut(row).chunks_exact_mut(values.width()).zip(&self.select);
                parts.for_each(|(to, select)| select.pool(part, sequence, values, to));
            }
            held = Some(0);
        }
        for (position, step) in self.steps.iter().enumerate() {
            match step {
                Step::Dense(dense, activation) => {
                    let (from, to, next) = match held {
                        None => (&*values, &mut *one, 0),
                        Some(0) => (&*one, &mut *other, 1),
                        Some(_) => (&*other, &mut *one, 0),
                    };
                    let finish = Finish::Activate(*activation);
                    if position + 1 == self.steps.len() {
                        let mut out = RowsMut::new(out, rows, self.width, self.width);
                        return dense.apply(from.rows(), &mut out, finish);
                    }
                    to.reset(rows, dense.weight.outer());
                    dense.apply(from.rows(), &mut to.rows_mut(), finish);
                    held = Some(next);
                }
                Step::Norm(_) | Step::Unit => {
                    if held.is_none() {
                        one.reset(rows, values.width());
                        (0..rows).for_each(|row| one.row_mut(row).copy_from_slice(values.row(row)));
                        held = Some(0);
                    }
                    let rows = if held == Some(0) { &mut *one } else { &mut *other };
                    step.apply_in_place(rows);
                }
            }
        }
        let made = match held {
            None => values,
            Some(0) => one,
            Some(_) => other,
        };
        out.chunks_exact_mut(self.width).enumerate().for_each(|(row, to)| to.copy_from_slice(made.row(row)));
    }
}

impl Step {
    fn apply_in_place(&self, rows: &mut Matrix) {
        match self {
            Step::Norm(norm) => norm.apply_in_place(&mut rows.rows_mut()),
            Step::Unit => (0..rows.count()).for_each(|row| scale_to_unit(rows.row_mut(row))),
            Step::Dense(..) => {}
        }
    }
}

/// Below which length a vector is not made longer (torch.nn.functional.normalize).
const LENGTH_MIN: f32 = 1e-12;

fn scale_to_unit(values: &mut [f32]) {
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt().max(LENGTH_MIN);
    values.iter_mut().for_each(|value| *value /= length);
}

impl Select {
    /// One row of values for a sequence; zeroes where none of its tokens counts.
    fn pool(self, part: &Part, sequence: &Sequence, values: &Matrix, to: &mut [f32]) {
        if self == Select::First {
            return to.copy_from_slice(values.row(sequence.tokens.start));
        }
        to.fill(0.0);
        let mut count = 0;
        for token in part.counted(sequence) {
            let pairs = to.iter_mut().zip(values.row(token));
            if self == Select::Largest && count > 0 {
                pairs.for_each(|(to, &value)| *to = to.max(value));
            } else {
                pairs.for_each(|(to, &value)| *to += value);
            }
            count += 1;
        }
        let by = match self {
            Select::Mean => count.max(1) as f32,
            Select::MeanByRoot => (count.max(1) as f32).sqrt(),
            Select::Each | Select::First | Select::Largest => return,
        };
        to.iter_mut().for_each(|value| *value /= by);
    }
}
