//! Sequences of tensors, for which V2 has no word: a sequence whose elements are of one shape is a tensor of one dimension
//! more, the first, which counts them.

use std::ptr;

use ort::sys::{ONNXTensorElementDataType as OrtType, ONNXType, OrtValue};
use smallvec::SmallVec;

use super::value::{Value, check, data_type, default_allocator};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor, concat_rows, split_rows};

/// A sequence of the tensors along dimension 0 of `tensor`, which has to outlive it.
///
/// # Errors
/// `InvalidRequest` where there is no such dimension or nothing along it: ONNX Runtime makes no empty sequence.
pub(super) fn borrowing(tensor: &Tensor, element: OrtType) -> Result<Value> {
    let count = match tensor.rows() {
        Some(count) if count > 0 => count,
        _ => return Err(Error::invalid("is a sequence, expected a tensor whose dimension 0 counts 1 element or more")),
    };
    let shape = Shape::new(tensor.shape().iter().skip(1).copied());
    let elements =
        split_rows(tensor, std::iter::repeat_n(1, count)).map_err(|cause| Error::internal(cause.to_string()))?;
    let mut values: SmallVec<[Value; 4]> = SmallVec::with_capacity(count);
    for part in elements {
        let part = part.reshaped(shape.clone()).map_err(|cause| Error::internal(cause.to_string()))?;
        values.push(Value::borrowing(&part, element)?);
    }
    let pointers: SmallVec<[*const OrtValue; 4]> = values.iter().map(Value::as_ptr).collect();
    let mut made = ptr::null_mut();
    // SAFETY: the pointers are to as many valid tensors of one type; the sequence shares them, so that they may be
    // released here, while the bytes that they borrow are the caller's.
    let status =
        unsafe { (ort::api().CreateValue)(pointers.as_ptr(), pointers.len(), ONNXType::ONNX_TYPE_SEQUENCE, &mut made) };
    check(status).map_err(Error::execution)?;
    Value::owning(made).ok_or_else(|| Error::internal("ONNX Runtime made no value"))
}

/// The elements of a sequence joined along a new dimension 0.
///
/// # Errors
/// `Execution` where they differ in shape.
pub(super) fn into_tensor(sequence: &Value, element: OrtType) -> Result<Tensor> {
    let mut count = 0;
    // SAFETY: the value is valid, the out pointer is too.
    check(unsafe { (ort::api().GetValueCount)(sequence.as_ptr(), &mut count) }).map_err(Error::execution)?;
    let mut rows: Vec<Tensor> = Vec::with_capacity(count);
    for index in 0..count {
        let mut taken = ptr::null_mut();
        let index = i32::try_from(index).map_err(|_| Error::execution("its sequence is too long"))?;
        // SAFETY: the index is below the count, the allocator is ONNX Runtime's own.
        let status = unsafe { (ort::api().GetValue)(sequence.as_ptr(), index, default_allocator()?, &mut taken) };
        check(status).map_err(Error::execution)?;
        let value = Value::owning(taken).ok_or_else(|| Error::internal("ONNX Runtime gave no element"))?;
        let row = value.into_tensor()?;
        let shape = Shape::new([1].into_iter().chain(row.shape().iter().copied()));
        rows.push(row.reshaped(shape).map_err(|cause| Error::execution(cause.to_string()))?);
    }
    let parts: Vec<&Tensor> = rows.iter().collect();
    if parts.is_empty() {
        let datatype = data_type(element).ok_or_else(|| Error::internal("its datatype is not one of V2's"))?;
        let nothing = Tensor::new(datatype, Shape::new([0]), bytes::Bytes::new());
        return nothing.map_err(|cause| Error::internal(cause.to_string()));
    }
    concat_rows(&parts).map_err(|_| {
        Error::execution("is a sequence of tensors whose shapes differ, and V2 has no tensor of several shapes")
    })
}
