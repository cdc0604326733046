//! Whether requests of different lengths may be padded to share a batch: seen by running.

use std::sync::Arc;

use super::synthetic::{Fill, Source};
use super::{Dim, Pad, Padded, Padding, Signature, ValidRequest, compare, execute};
use crate::runtime::Instance;
use crate::scheduler::padding::Lengths;
use crate::tensor::{DataType, Tensor};

/// Verifies what `pads` declare, with rows made from `source`; `None` where rows are not joined at all.
pub(super) fn verify(
    instance: &mut dyn Instance,
    signature: &Signature,
    source: Option<&Source>,
    pads: &[Option<Pad>],
) -> Padded {
    let Some(declared) = Padding::declared(signature, pads) else { return Padded::Undeclared };
    let off = |reason: String| Padded::Off { reason };
    let Some(source) = source.filter(|source| source.fill == Fill::Varied) else {
        return off("requests are not joined into batches at all".into());
    };
    let mut trial = Trial { instance, signature, source };
    // Dimensions of different names may have to be equal all the same.
    let tied = (declared.axes() > 1).then(|| declared.clone().tied());
    let verified = trial.run(declared).or_else(|reason| tied.map_or(Err(reason), |tied| trial.run(tied)));
    match verified {
        Ok(padding) => Padded::Verified(Arc::new(padding)),
        Err(reason) => off(reason),
    }
}

struct Trial<'a> {
    instance: &'a mut dyn Instance,
    signature: &'a Signature,
    source: &'a Source,
}

impl Trial<'_> {
    /// Runs a short and a long row alone and padded together, twice: without any padding of their own, then with some, and,
    /// where there are several axes, each row the longer one on some of them. Gives `padding` with what the outputs have of
    /// it, or why it does not hold.
    fn run(&mut self, mut padding: Padding) -> Result<Padding, String> {
        let [short, long] = self.two_lengths(&mut padding)?;
        let whole = [self.row(&padding, &short, true, 1), self.row(&padding, &long, true, 2)];
        compare(self.instance, self.signature, &whole, Some(&padding))?;
        let mixed = |even: &Lengths, odd: &Lengths| -> Lengths {
            even.iter()
                .zip(odd)
                .enumerate()
                .map(|(axis, (even, odd))| *if axis % 2 == 0 { even } else { odd })
                .collect()
        };
        let (one, other) = (mixed(&long, &short), mixed(&short, &long));
        let mixed = [self.row(&padding, &one, false, 3), self.row(&padding, &other, false, 4)];
        compare(self.instance, self.signature, &mixed, Some(&padding))?;
        Ok(padding)
    }

    fn row(&self, padding: &Padding, lengths: &Lengths, unlike: bool, seed: u64) -> ValidRequest {
        self.source.of_lengths(self.signature, padding, lengths, unlike, seed)
    }

    /// Finds two lengths that the model accepts, different ones on each axis; notes in `padding` which dimensions of the
    /// outputs have them.
    fn two_lengths(&mut self, padding: &mut Padding) -> Result<[Lengths; 2], String> {
        // A dimension of 1 fits others that it need not be equal to.
        let start = if padding.axes() > 1 { self.source.size.max(2) } else { self.source.size };
        let short: Lengths = (start..).take(padding.axes()).collect();
        let longer: Lengths = short.iter().enumerate().map(|(axis, length)| length + 3 + axis).collect();
        // Sizes may have to divide one another.
        let double: Lengths = short.iter().map(|length| length * 2).collect();
        let mut refusal = String::new();
        for long in [longer, double] {
            let rows = [self.row(padding, &short, true, 1), self.row(padding, &long, true, 1)];
            let run = |row: &ValidRequest| execute(self.instance, &[row], None).map(|outputs| outputs.concat());
            match rows.iter().map(run).collect::<Result<Vec<_>, _>>() {
                Ok(outputs) => {
                    self.follow(padding, [(&short, &outputs[0]), (&long, &outputs[1])])?;
                    return Ok([short, long]);
                }
                Err(error) if refusal.is_empty() => refusal = error.to_string(),
                Err(_) => {}
            }
        }
        Err(format!("the model accepts no made-up rows of two lengths: {refusal}"))
    }

    /// Notes the dimensions of the outputs that were as long as an axis both times.
    fn follow(&self, padding: &mut Padding, runs: [(&Lengths, &[Tensor]); 2]) -> Result<(), String> {
        for (position, spec) in self.signature.outputs.iter().enumerate() {
            let dims = spec.shape.as_deref().unwrap_or_default().iter().enumerate().skip(1);
            for (dim, _) in dims.filter(|(_, dim)| matches!(dim, Dim::Dynamic(_))) {
                let is_long = |axis: &usize| {
                    runs.iter().all(|(lengths, outputs)| outputs[position].shape().get(dim) == Some(&lengths[*axis]))
                };
                if let Some(axis) = (0..padding.axes()).find(is_long) {
                    padding.follows(position, dim, axis);
                }
            }
            if padding.reaches(position) && spec.datatype == DataType::Bytes {
                return Err(format!("output '{}' is as long as its row, and strings are not cut back", spec.name));
            }
        }
        Ok(())
    }
}
