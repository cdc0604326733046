//! When two answers are the same: kernels may add up in another order when there are more rows.

use half::{bf16, f16};

use crate::tensor::{DataType, Tensor};

/// Absolute and relative difference that is allowed, by precision: about a hundred units in the last place for FP32, a few
/// for the half formats, and nothing for whole numbers and strings.
fn allowed(datatype: DataType) -> (f64, f64) {
    match datatype {
        DataType::Fp64 => (1e-9, 1e-7),
        DataType::Fp32 => (1e-5, 1e-4),
        DataType::Fp16 => (1e-3, 5e-3),
        DataType::Bf16 => (1e-2, 3e-2),
        _ => (0.0, 0.0),
    }
}

/// Whether `one` and `other` are the same answer.
pub(super) fn same(one: &Tensor, other: &Tensor) -> bool {
    if one.datatype() != other.datatype() || one.shape() != other.shape() {
        return false;
    }
    match floats(one).zip(floats(other)) {
        None => one.data() == other.data(),
        Some((ones, others)) => {
            let (absolute, relative) = allowed(one.datatype());
            let close = |(a, b): (f64, f64)| {
                a == b
                    || (a.is_nan() && b.is_nan())
                    || (a.is_finite() && b.is_finite() && (a - b).abs() <= absolute + relative * a.abs().max(b.abs()))
            };
            ones.into_iter().zip(others).all(close)
        }
    }
}

/// The elements of a floating-point tensor; `None` for others.
fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    let tensor = tensor.clone().aligned();
    match tensor.datatype() {
        DataType::Fp64 => tensor.view::<f64>().ok().map(<[f64]>::to_vec),
        DataType::Fp32 => tensor.view::<f32>().ok().map(|values| values.iter().map(|&value| value.into()).collect()),
        DataType::Fp16 => tensor.view::<f16>().ok().map(|values| values.iter().map(|value| value.to_f64()).collect()),
        DataType::Bf16 => tensor.view::<bf16>().ok().map(|values| values.iter().map(|value| value.to_f64()).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fp32(values: &[f32]) -> Tensor {
        Tensor::from_elements([values.len()].into(), values).unwrap()
    }

    #[test]
    fn rounding_is_the_same_answer_and_a_difference_is_not() {
        assert!(same(&fp32(&[1.0, f32::NAN, f32::INFINITY]), &fp32(&[1.00001, f32::NAN, f32::INFINITY])));
        assert!(!same(&fp32(&[1.0]), &fp32(&[1.01])));
        assert!(!same(&fp32(&[f32::INFINITY]), &fp32(&[1.0])));
        assert!(!same(&fp32(&[1.0]), &fp32(&[1.0, 1.0])));
    }

    #[test]
    fn whole_numbers_must_be_equal() {
        let one = Tensor::from_elements([1].into(), &[1_i64]).unwrap();
        let two = Tensor::from_elements([1].into(), &[2_i64]).unwrap();
        assert!(same(&one, &one) && !same(&one, &two));
    }
}
