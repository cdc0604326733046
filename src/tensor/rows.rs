//! Joining tensors on dimension 0 and splitting them again.

use super::{AlignedBuffer, Tensor, TensorError, bytes_codec};

/// Joins `parts` on dimension 0, in order. One part is shared, not copied; several are copied once into an aligned buffer.
///
/// # Errors
/// [`TensorError::RowMismatch`] where the parts differ in datatype or behind dimension 0, where there is none, or where
/// one is a scalar.
pub fn concat_rows(parts: &[&Tensor]) -> Result<Tensor, TensorError> {
    let (first, others) = parts.split_first().ok_or(TensorError::RowMismatch)?;
    if first.shape.is_empty() {
        return Err(TensorError::RowMismatch);
    }
    if others.is_empty() {
        return Ok((*first).clone());
    }
    let (mut rows, mut bytes) = (first.shape[0], first.data.len());
    for part in others {
        let alike = part.datatype == first.datatype
            && part.shape.len() == first.shape.len()
            && part.shape[1..] == first.shape[1..];
        if !alike {
            return Err(TensorError::RowMismatch);
        }
        rows = rows.checked_add(part.shape[0]).ok_or(TensorError::RowMismatch)?;
        bytes = bytes.checked_add(part.data.len()).ok_or(TensorError::RowMismatch)?;
    }
    let mut joined = AlignedBuffer::with_capacity(bytes);
    for part in parts {
        joined.extend(&part.data);
    }
    Ok(Tensor { datatype: first.datatype, shape: first.shape.with_rows(rows), data: joined.freeze() })
}

/// Splits `tensor` on dimension 0 into parts of `rows` rows each, in order; the parts share its bytes.
///
/// # Errors
/// [`TensorError::RowMismatch`] where the rows do not add up to dimension 0, or the tensor is a scalar.
pub fn split_rows(tensor: &Tensor, rows: impl IntoIterator<Item = usize>) -> Result<Vec<Tensor>, TensorError> {
    let total = tensor.rows().ok_or(TensorError::RowMismatch)?;
    let per_row = tensor.shape.elements_per_row().ok_or(TensorError::RowMismatch)?;
    let rows = rows.into_iter();
    let mut parts = Vec::with_capacity(rows.size_hint().0);
    let (mut row, mut offset) = (0_usize, 0_usize);
    for count in rows {
        row = row.checked_add(count).filter(|&end| end <= total).ok_or(TensorError::RowMismatch)?;
        let elements = count.checked_mul(per_row).ok_or(TensorError::RowMismatch)?;
        let bytes = match tensor.datatype.size() {
            Some(size) => elements * size,
            None => bytes_codec::skip(&tensor.data[offset..], elements)?.0,
        };
        let data = tensor.data.slice(offset..offset + bytes);
        parts.push(Tensor { datatype: tensor.datatype, shape: tensor.shape.with_rows(count), data });
        offset += bytes;
    }
    if row == total { Ok(parts) } else { Err(TensorError::RowMismatch) }
}
