//! The outputs of two answers beside each other, by the comparison that the controller's router shares.

use std::sync::Arc;

pub(super) use crate::compare::Difference;
use crate::compare::{self, Output};
use crate::model::traffic::CompareSettings;
use crate::tensor::Tensor;

/// An answer's outputs.
pub(super) type Outputs = [(Arc<str>, Tensor)];

/// Compares the outputs of two answers by their names.
pub(super) fn compare(one: &Outputs, other: &Outputs, settings: &CompareSettings) -> Difference {
    compare::compare(&views(one), &views(other), settings)
}

fn views(outputs: &Outputs) -> Vec<Output<'_>> {
    outputs.iter().map(view).collect()
}

fn view((name, tensor): &(Arc<str>, Tensor)) -> Output<'_> {
    Output { name, datatype: tensor.datatype(), shape: tensor.shape(), data: tensor.data() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_compared_with_their_names_datatypes_shapes_and_bytes() {
        let outputs = |name: &str, shape: [usize; 2], values: &[f32; 2]| -> Vec<(Arc<str>, Tensor)> {
            vec![(name.into(), Tensor::from_elements(shape.into_iter().collect(), values).unwrap())]
        };
        let settings = CompareSettings::default();
        let one = outputs("y", [1, 2], &[1.0, 2.0]);
        assert!(compare(&one, &one, &settings).agrees(&settings));
        assert!(compare(&one, &outputs("z", [1, 2], &[1.0, 2.0]), &settings).names);
        assert!(compare(&one, &outputs("y", [2, 1], &[1.0, 2.0]), &settings).shapes);
        let other = compare(&one, &outputs("y", [1, 2], &[1.0, 2.5]), &settings);
        assert!(!other.agrees(&settings) && other.absolute == 0.5 && other.same_argmax == 1, "{other:?}");
        let whole = vec![(Arc::from("y"), Tensor::from_elements([1, 2].into_iter().collect(), &[1_i64, 2]).unwrap())];
        assert!(compare(&one, &whole, &settings).datatypes);
    }
}
