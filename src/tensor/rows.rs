//! Joining tensors on dimension 0 and splitting them again, padded and cut back where their other dimensions differ.

use super::{AlignedBuffer, ElementBytes, Shape, Tensor, TensorError, byte_count, bytes_codec};

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

/// Joins `parts` on dimension 0, in order, each padded behind its own elements with `element` to the longest of them in every
/// other dimension: copied once into an aligned buffer. Parts that are alike are joined as [`concat_rows`] does.
///
/// # Errors
/// [`TensorError::RowMismatch`] where the parts differ in datatype or rank, where there is none, where one is a scalar or of
/// BYTES, and where the element is of another size; [`TensorError::ShapeOverflow`] where the whole cannot be addressed.
pub fn concat_rows_padded(parts: &[&Tensor], element: &ElementBytes) -> Result<Tensor, TensorError> {
    let (first, others) = parts.split_first().ok_or(TensorError::RowMismatch)?;
    if others.iter().all(|part| part.datatype == first.datatype && part.shape.get(1..) == first.shape.get(1..)) {
        return concat_rows(parts);
    }
    if first.shape.is_empty() || first.datatype.size() != Some(element.as_slice().len()) {
        return Err(TensorError::RowMismatch);
    }
    let mut dims = first.shape.to_vec();
    dims[0] = 0;
    for part in parts {
        if part.datatype != first.datatype || part.shape.len() != dims.len() {
            return Err(TensorError::RowMismatch);
        }
        dims[0] = dims[0].checked_add(part.shape[0]).ok_or(TensorError::RowMismatch)?;
        for (dim, &own) in dims.iter_mut().zip(part.shape.iter()).skip(1) {
            *dim = own.max(*dim);
        }
    }
    let shape = Shape::new(dims);
    let bytes = byte_count(first.datatype, &shape)?.ok_or(TensorError::RowMismatch)?;
    let mut joined = Padded { buffer: AlignedBuffer::with_capacity(bytes), element };
    // Without an element there is nothing to write, and dimensions may be of any size.
    for part in parts.iter().filter(|_| bytes > 0) {
        for row in blocks(&part.data, part.shape[0]) {
            joined.put(row, &part.shape[1..], &shape[1..]);
        }
    }
    Ok(Tensor { datatype: first.datatype, shape, data: joined.buffer.freeze() })
}

/// What padded rows are written into.
struct Padded<'a> {
    buffer: AlignedBuffer,
    element: &'a ElementBytes,
}

impl Padded<'_> {
    /// Appends `data`, elements of the dimensions `own`, padded to the dimensions `all`.
    fn put(&mut self, data: &[u8], own: &[usize], all: &[usize]) {
        let (Some((&length, own_rest)), Some((&longest, all_rest))) = (own.split_first(), all.split_first()) else {
            return self.buffer.extend(data);
        };
        if own_rest == all_rest {
            self.buffer.extend(data);
        } else {
            blocks(data, length).for_each(|block| self.put(block, own_rest, all_rest));
        }
        let behind: usize = all_rest.iter().product();
        self.buffer.extend_repeated(self.element, (longest - length) * behind);
    }
}

/// The part of `tensor` that the dimensions `shape` have in common with it, from the start of each: what
/// [`concat_rows_padded`] put padding behind. Copied once; shared where it is all there is.
///
/// # Errors
/// [`TensorError::RowMismatch`] where a dimension of `shape` is above the tensor's, where ranks differ, and for BYTES.
pub fn leading_part(tensor: &Tensor, shape: Shape) -> Result<Tensor, TensorError> {
    if tensor.shape == shape {
        return Ok(tensor.clone());
    }
    let within =
        shape.len() == tensor.shape.len() && shape.iter().zip(tensor.shape.iter()).all(|(own, all)| own <= all);
    if !within || shape.is_empty() {
        return Err(TensorError::RowMismatch);
    }
    let bytes = byte_count(tensor.datatype, &shape)?.ok_or(TensorError::RowMismatch)?;
    let mut part = AlignedBuffer::with_capacity(bytes);
    if bytes > 0 {
        take(&mut part, &tensor.data, &shape, &tensor.shape);
    }
    Ok(Tensor { datatype: tensor.datatype, shape, data: part.freeze() })
}

/// Appends to `part` what the dimensions `own` leave of `data`, elements of the dimensions `all`.
fn take(part: &mut AlignedBuffer, data: &[u8], own: &[usize], all: &[usize]) {
    let (Some((&length, own_rest)), Some((&longest, all_rest))) = (own.split_first(), all.split_first()) else {
        return part.extend(data);
    };
    if own_rest == all_rest {
        part.extend(&data[..data.len() / longest * length]);
    } else {
        blocks(data, longest).take(length).for_each(|block| take(part, block, own_rest, all_rest));
    }
}

/// `data` in `count` equal parts, empty ones where there are no data.
fn blocks(data: &[u8], count: usize) -> impl Iterator<Item = &[u8]> {
    let each = data.len().checked_div(count).unwrap_or(0);
    (0..count).map(move |block| &data[block * each..(block + 1) * each])
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
