use bytes::{BufMut, Bytes, BytesMut};
use half::{bf16, f16};
use proptest::prelude::*;

use super::*;

fn fp32(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_elements(shape.into(), values).unwrap()
}

#[test]
fn every_datatype_has_a_name_that_parses_back() {
    for datatype in DataType::ALL {
        assert_eq!(datatype.name().parse(), Ok(datatype));
    }
    let unknown = "FLOAT".parse::<DataType>().unwrap_err();
    assert!(unknown.to_string().contains("FP32"), "{unknown}");
}

#[test]
fn a_scalar_has_one_element_and_no_rows() {
    let scalar = fp32(&[], &[1.5]);
    assert_eq!((scalar.elements(), scalar.rows()), (1, None));
    assert_eq!(scalar.view::<f32>().unwrap(), [1.5]);
    assert_eq!(concat_rows(&[&scalar, &scalar]), Err(TensorError::RowMismatch));
}

#[test]
fn rows_of_different_lengths_are_padded_behind_each_dimension_and_cut_back() {
    let (wide, high) = (fp32(&[1, 1, 3], &[1., 2., 3.]), fp32(&[1, 2, 1], &[4., 5.]));
    let fill = Scalar::Whole(-1).element(DataType::Fp32).unwrap();
    let joined = concat_rows_padded(&[&wide, &high], &fill).unwrap();
    assert_eq!(joined, fp32(&[2, 2, 3], &[1., 2., 3., -1., -1., -1., 4., -1., -1., 5., -1., -1.]));
    assert!(joined.data().as_ptr().addr().is_multiple_of(TENSOR_ALIGNMENT));
    let both = split_rows(&joined, [1, 1]).unwrap();
    assert_eq!(leading_part(&both[0], wide.shape().clone()), Ok(wide.clone()));
    assert_eq!(leading_part(&both[1], high.shape().clone()), Ok(high));
    assert_eq!(leading_part(&both[0], [1, 3, 3].into()), Err(TensorError::RowMismatch));
}

#[test]
fn what_cannot_be_padded_is_refused() {
    let fill = Scalar::Whole(0).element(DataType::Fp32).unwrap();
    let words = |count| Tensor::from_byte_strings([1, count].into(), &vec!["a"; count]).unwrap();
    for (one, other) in [
        (words(1), words(2)),
        (fp32(&[1, 1], &[1.]), fp32(&[1, 1, 2], &[1., 2.])),
        (fp32(&[1, 1], &[1.]), Tensor::from_elements([1, 2].into(), &[1_i32, 2]).unwrap()),
        (
            Tensor::from_elements([1, 1].into(), &[1_i64]).unwrap(),
            Tensor::from_elements([1, 2].into(), &[1_i64, 2]).unwrap(),
        ),
        (fp32(&[], &[1.]), fp32(&[1], &[1.])),
    ] {
        assert_eq!(concat_rows_padded(&[&one, &other], &fill), Err(TensorError::RowMismatch), "{one:?} {other:?}");
    }
    // Nothing is allocated for what cannot be addressed, and nothing is written where there is nothing.
    let empty = |shape: [usize; 3]| Tensor::new(DataType::Fp32, shape.into(), Bytes::new()).unwrap();
    let (high, wide) = (empty([1, 1 << 60, 0]), empty([1, 0, 1 << 60]));
    assert!(matches!(concat_rows_padded(&[&high, &wide], &fill), Err(TensorError::ShapeOverflow(_))));
    let joined = concat_rows_padded(&[&high, &empty([1, 1 << 61, 0])], &fill).unwrap();
    assert_eq!(joined.elements(), 0);
}

#[test]
fn a_zero_sized_tensor_is_a_tensor() {
    let empty = Tensor::new(DataType::Fp32, [0, 7].into(), Bytes::new()).unwrap();
    assert_eq!(empty.view::<f32>().unwrap(), [0.0_f32; 0]);
    let joined = concat_rows(&[&empty, &fp32(&[1, 7], &[1.0; 7])]).unwrap();
    assert_eq!(joined.shape(), &Shape::from([1, 7]));
    assert_eq!(split_rows(&joined, [0, 1]).unwrap()[0], empty);
    let wide = Tensor::new(DataType::Bytes, [0, usize::MAX, 2].into(), Bytes::new()).unwrap();
    assert_eq!(wide.elements(), 0);
}

#[test]
fn a_shape_beyond_the_address_space_is_refused_before_any_allocation() {
    let huge = Shape::from([4_000_000_000, 4_000_000_000, 4_000_000_000]);
    assert_eq!(byte_count(DataType::Fp32, &huge), Err(TensorError::ShapeOverflow(huge.clone())));
    assert!(Tensor::new(DataType::Bytes, huge, Bytes::new()).is_err());
    let half_way = Shape::from([4_000_000_000, 4_000_000_000]);
    assert!(byte_count(DataType::Fp64, &half_way).is_err(), "elements fit, bytes do not");
}

#[test]
fn wrong_byte_counts_name_both_numbers() {
    let error = Tensor::new(DataType::Int64, [2].into(), Bytes::from_static(&[0; 15])).unwrap_err();
    assert_eq!(error, TensorError::ByteCount { expected: 16, given: 15 });
}

#[test]
fn a_bool_is_zero_or_one() {
    let data = Bytes::from_static(&[0, 1, 2]);
    let error = Tensor::new(DataType::Bool, [3].into(), data).unwrap_err();
    assert_eq!(error, TensorError::NotBool { index: 2, value: 2 });
}

#[test]
fn views_are_typed() {
    let tensor = fp32(&[2], &[1.0, 2.0]);
    assert!(matches!(tensor.view::<i32>(), Err(TensorError::DataTypeMismatch { .. })));
    assert!(tensor.byte_strings().is_err());
}

#[test]
fn an_unaligned_slice_of_a_body_views_after_aligning() {
    let mut body = BytesMut::new();
    body.put_u8(b'{');
    body.put_slice(&1.5_f32.to_le_bytes());
    body.put_slice(&2.5_f32.to_le_bytes());
    let body = body.freeze();
    let offset = (0..2).find(|o| !body[*o..].as_ptr().addr().is_multiple_of(4)).unwrap();
    let tensor = Tensor::new(DataType::Fp32, [1].into(), body.slice(offset..offset + 4)).unwrap();
    assert_eq!(tensor.view::<f32>(), Err(TensorError::Unaligned));
    let aligned = tensor.clone().aligned();
    assert_eq!(aligned.data(), tensor.data());
    assert!(aligned.view::<f32>().is_ok());
    let pointer = aligned.data().as_ptr();
    assert_eq!(aligned.aligned().data().as_ptr(), pointer, "an aligned tensor is not copied");
}

#[test]
fn a_buffer_starts_at_a_cache_line() {
    for len in [1, 63, 64, 65, 4096] {
        let frozen = AlignedBuffer::copy_of(&vec![7; len]).freeze();
        assert!(frozen.as_ptr().addr().is_multiple_of(TENSOR_ALIGNMENT));
        assert_eq!(frozen, vec![7; len]);
    }
}

#[test]
fn cut_off_byte_strings_are_refused_with_their_index() {
    let mut encoder = BytesEncoder::with_capacity(2, 8);
    encoder.push(b"good");
    encoder.push(b"");
    let data = encoder.finish();
    assert!(Tensor::new(DataType::Bytes, [2].into(), data.clone()).is_ok());
    for cut in 1..data.len() {
        assert!(Tensor::new(DataType::Bytes, [2].into(), data.slice(..cut)).is_err(), "cut at {cut}");
    }
    let lying = Bytes::from_static(&[255, 255, 255, 255, b'x']);
    let error = Tensor::new(DataType::Bytes, [1].into(), lying).unwrap_err();
    assert_eq!(error, TensorError::TruncatedElement { index: 0 });
    let error = Tensor::new(DataType::Bytes, [1].into(), data).unwrap_err();
    assert_eq!(error, TensorError::ByteCount { expected: 8, given: 12 });
}

#[test]
fn half_floats_view_as_half_floats() {
    let tensor = Tensor::from_elements([1].into(), &[f16::from_f32(0.5)]).unwrap();
    assert_eq!(tensor.datatype(), DataType::Fp16);
    assert!(tensor.view::<bf16>().is_err());
}

#[test]
fn one_part_is_joined_without_a_copy() {
    let part = fp32(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(concat_rows(&[&part]).unwrap().data().as_ptr(), part.data().as_ptr());
}

#[test]
fn unlike_rows_do_not_join() {
    let narrow = fp32(&[1, 2], &[1.0, 2.0]);
    let wide = fp32(&[1, 3], &[1.0, 2.0, 3.0]);
    let other = Tensor::from_elements([1, 2].into(), &[1_i32, 2]).unwrap();
    assert!(concat_rows(&[&narrow, &wide]).is_err());
    assert!(concat_rows(&[&narrow, &other]).is_err());
    assert!(concat_rows(&[]).is_err());
}

/// Rows of a tensor of any datatype: row counts of the parts, the width of a row, and a seed for the values.
fn parts_strategy() -> impl Strategy<Value = (DataType, Vec<usize>, usize, u64)> {
    (0..DataType::ALL.len(), prop::collection::vec(0_usize..4, 1..8), 0_usize..5, any::<u64>())
        .prop_map(|(datatype, rows, width, seed)| (DataType::ALL[datatype], rows, width, seed))
}

fn part(datatype: DataType, rows: usize, width: usize, seed: &mut u64) -> Tensor {
    let mut next = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as u8
    };
    let shape = Shape::from([rows, width]);
    match datatype.size() {
        Some(size) => {
            let bytes: Vec<u8> = (0..rows * width * size)
                .map(|_| if datatype == DataType::Bool { next() % 2 } else { next() })
                .collect();
            Tensor::new(datatype, shape, bytes.into()).unwrap()
        }
        None => {
            let strings: Vec<Vec<u8>> = (0..rows * width).map(|_| vec![next(); usize::from(next() % 6)]).collect();
            Tensor::from_byte_strings(shape, &strings).unwrap()
        }
    }
}

proptest! {
    #[test]
    fn rows_come_back_from_a_join_in_order_and_unchanged((datatype, rows, width, mut seed) in parts_strategy()) {
        let parts: Vec<Tensor> = rows.iter().map(|&r| part(datatype, r, width, &mut seed)).collect();
        let joined = concat_rows(&parts.iter().collect::<Vec<_>>()).unwrap();
        prop_assert_eq!(joined.rows(), Some(rows.iter().sum()));
        prop_assert_eq!(split_rows(&joined, rows).unwrap(), parts);
    }

    #[test]
    fn padded_rows_come_back_unchanged_and_all_else_is_the_padding(
        kind in 0_usize..13,
        shapes in (1_usize..4).prop_flat_map(|rank| {
            prop::collection::vec((0_usize..4, prop::collection::vec(0_usize..5, rank)), 1..6)
        }),
        fill in prop_oneof![Just(0_i64), Just(1)],
        mut seed in any::<u64>(),
    ) {
        let datatype = DataType::ALL[kind];
        let element = Scalar::Whole(fill).element(datatype).unwrap();
        let made = |(rows, dims): &(usize, Vec<usize>)| {
            let shape: Shape = [*rows].iter().chain(dims).copied().collect();
            part(datatype, shape.elements().unwrap(), 1, &mut seed).reshaped(shape).unwrap()
        };
        let parts: Vec<Tensor> = shapes.iter().map(made).collect();
        let joined = concat_rows_padded(&parts.iter().collect::<Vec<_>>(), &element).unwrap();
        let rows: Vec<usize> = parts.iter().map(|part| part.rows().unwrap()).collect();
        let mut padding = 0;
        for (part, padded) in parts.iter().zip(split_rows(&joined, rows).unwrap()) {
            prop_assert_eq!(&leading_part(&padded, part.shape().clone()).unwrap(), part);
            padding += padded.elements() - part.elements();
            // All that the part does not have is the fill.
            let count = |tensor: &Tensor| {
                tensor.data().chunks(element.as_slice().len()).filter(|bytes| *bytes == element.as_slice()).count()
            };
            prop_assert_eq!(count(&padded) - count(part), padded.elements() - part.elements());
        }
        let longest = |dim: usize| shapes.iter().map(|(_, dims)| dims[dim]).max().unwrap();
        prop_assert_eq!(&joined.shape()[1..], (0..shapes[0].1.len()).map(longest).collect::<Vec<_>>());
        prop_assert_eq!(joined.elements(), padding + parts.iter().map(Tensor::elements).sum::<usize>());
    }

    #[test]
    fn a_split_shares_the_bytes_of_the_whole((datatype, rows, width, mut seed) in parts_strategy()) {
        let whole = part(datatype, rows.iter().sum(), width, &mut seed);
        let range = whole.data().as_ptr_range();
        for part in split_rows(&whole, rows.iter().copied()).unwrap() {
            prop_assert!(part.data().is_empty() || range.contains(&part.data().as_ptr()));
        }
        prop_assert!(split_rows(&whole, rows.into_iter().chain([1])).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_make_a_byte_string_tensor_that_cannot_be_walked(
        data in prop::collection::vec(any::<u8>(), 0..64), count in 0_usize..6,
    ) {
        let total = data.len();
        if let Ok(tensor) = Tensor::new(DataType::Bytes, [count].into(), data.into()) {
            let strings: Vec<&[u8]> = tensor.byte_strings().unwrap().collect();
            prop_assert_eq!(strings.len(), count);
            prop_assert_eq!(strings.iter().map(|s| s.len() + 4).sum::<usize>(), total);
        }
    }

    #[test]
    fn byte_strings_come_back_as_they_went_in(strings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20)) {
        let tensor = Tensor::from_byte_strings([strings.len()].into(), &strings).unwrap();
        prop_assert_eq!(tensor.byte_strings().unwrap().map(<[u8]>::to_vec).collect::<Vec<_>>(), strings);
    }

    #[test]
    fn element_counts_never_wrap(dims in prop::collection::vec(any::<usize>(), 0..5)) {
        let exact = dims.iter().try_fold(1_u128, |product, &dim| product.checked_mul(dim as u128));
        let shape = Shape::new(dims.iter().copied());
        match shape.elements() {
            Some(count) if !dims.contains(&0) => prop_assert_eq!(exact, Some(count as u128)),
            Some(count) => prop_assert_eq!(count, 0),
            None => prop_assert!(exact.is_none_or(|e| e > usize::MAX as u128)),
        }
    }
}
