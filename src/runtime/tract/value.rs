//! Tensors to tract and back: one copy in, because tract owns its memory, and none out.

use std::sync::Arc;

use bytes::Bytes;
use tract_onnx::prelude::{DatumType, IntoTValue, TValue, Tensor as TractTensor, TractResult, tract_ndarray::ArrayD};
use tract_onnx::tract_hir::internal::{IntoArcTensor, ensure, format_err};

use crate::model::TensorSpec;
use crate::tensor::{DataType, Shape, Tensor};

/// tract's name of `datatype`; `None` where it has none.
pub(super) fn datum_type(datatype: DataType) -> Option<DatumType> {
    Some(match datatype {
        DataType::Bool => DatumType::Bool,
        DataType::Uint8 => DatumType::U8,
        DataType::Uint16 => DatumType::U16,
        DataType::Uint32 => DatumType::U32,
        DataType::Uint64 => DatumType::U64,
        DataType::Int8 => DatumType::I8,
        DataType::Int16 => DatumType::I16,
        DataType::Int32 => DatumType::I32,
        DataType::Int64 => DatumType::I64,
        DataType::Fp16 => DatumType::F16,
        DataType::Bf16 => return None,
        DataType::Fp32 => DatumType::F32,
        DataType::Fp64 => DatumType::F64,
        DataType::Bytes => DatumType::String,
    })
}

fn known(spec: &TensorSpec) -> TractResult<DatumType> {
    datum_type(spec.datatype).ok_or_else(|| format_err!("'{}' is {}, which tract lacks", spec.name, spec.datatype))
}

/// A copy of `tensor` for the input `spec`.
pub(super) fn to_tract(tensor: &Tensor, spec: &TensorSpec) -> TractResult<TValue> {
    // The cast below is sound for the datatype that the tensor has, whatever the caller checked before.
    ensure!(tensor.datatype() == spec.datatype, "input '{}' is not {}", spec.name, spec.datatype);
    let datum_type = known(spec)?;
    if tensor.datatype() == DataType::Bytes {
        return Ok(strings(tensor, spec)?.into_tvalue());
    }
    // SAFETY: `Tensor` holds exactly the shape's number of elements, every bit pattern is a number of these types, and its
    // constructor lets only 0 and 1 into a BOOL tensor.
    let copy = unsafe { TractTensor::from_raw_dt(datum_type, tensor.shape(), tensor.data()) }?;
    Ok(copy.into_tvalue())
}

fn strings(tensor: &Tensor, spec: &TensorSpec) -> TractResult<TractTensor> {
    let text = |(index, bytes): (usize, &[u8])| {
        let text = std::str::from_utf8(bytes);
        text.map(str::to_owned).map_err(|_| {
            format_err!("element {index} of input '{}' is not UTF-8, and tract's strings have to be", spec.name)
        })
    };
    let texts: Vec<String> = tensor.byte_strings()?.enumerate().map(text).collect::<TractResult<_>>()?;
    Ok(ArrayD::from_shape_vec(tensor.shape().to_vec(), texts)?.into())
}

/// `value` as the output `spec` promises it.
pub(super) fn from_tract(value: TValue, spec: &TensorSpec) -> TractResult<Tensor> {
    let promised = known(spec)?;
    let tensor = value.into_arc_tensor();
    let as_promised = tensor.datum_type() == promised && tensor.has_plain_ram_storage();
    ensure!(as_promised, "output '{}' is {:?} instead of {promised:?}", spec.name, tensor.datum_type());
    let shape = Shape::from(tensor.shape());
    if spec.datatype == DataType::Bytes {
        let texts = tensor.try_as_plain_ram()?;
        return Ok(Tensor::from_byte_strings(shape, texts.as_slice::<String>()?)?);
    }
    let data = match tensor.as_bytes() {
        [] => Bytes::new(),
        // Some kernels write comparison masks; a response holds 0 or 1.
        bytes if spec.datatype == DataType::Bool && bytes.iter().any(|&byte| byte > 1) => {
            bytes.iter().map(|&byte| u8::from(byte != 0)).collect()
        }
        _ => Bytes::from_owner(TensorBytes(tensor)),
    };
    Ok(Tensor::new(spec.datatype, shape, data)?)
}

/// Keeps tract's memory alive for as long as a response holds a slice of it.
struct TensorBytes(Arc<TractTensor>);

impl AsRef<[u8]> for TensorBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
