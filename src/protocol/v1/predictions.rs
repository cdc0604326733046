//! A response as predictions.

use bytes::Bytes;

use super::{Form, encoded};
use crate::error::{Error, Result};
use crate::infer::InferResponse;
use crate::protocol::json::{write_elements, writer};
use crate::tensor::{Shape, Tensor, split_rows};

/// `{"predictions": ...}`: for rows, a list with an entry for each; for columns, and where an output has not as many rows
/// as were asked about, whole tensors. One output stands for itself, several are objects by name.
///
/// # Errors
/// `Internal` where a tensor is not what it says.
pub fn encode_predictions(response: &InferResponse, form: Form) -> Result<Bytes> {
    let mut out = b"{".to_vec();
    writer::key(&mut out, "predictions");
    let outputs = &response.outputs[..];
    match (outputs, form) {
        ([(name, tensor)], _) => nested(&mut out, name, tensor)?,
        (_, Form::Rows(rows)) if outputs.iter().all(|(_, tensor)| tensor.rows() == Some(rows)) => {
            let columns = outputs.iter().map(|(name, tensor)| Ok((&**name, each_row(tensor)?)));
            let columns: Vec<(&str, Vec<Tensor>)> = columns.collect::<Result<_>>()?;
            let each = |out: &mut Vec<u8>, row: usize| {
                object(out, columns.iter().map(|(name, tensors)| (*name, &tensors[row])))
            };
            separated(&mut out, [b'[', b']'], 0..rows, each)?;
        }
        _ => object(&mut out, outputs.iter().map(|(name, tensor)| (&**name, tensor)))?,
    }
    out.push(b'}');
    Ok(out.into())
}

fn object<'a>(out: &mut Vec<u8>, members: impl Iterator<Item = (&'a str, &'a Tensor)>) -> Result<()> {
    separated(out, [b'{', b'}'], members, |out, (name, tensor)| {
        writer::string(out, name);
        out.push(b':');
        nested(out, name, tensor)
    })
}

/// A tensor as lists that nest as its shape has it; a scalar as its value.
fn nested(out: &mut Vec<u8>, name: &str, tensor: &Tensor) -> Result<()> {
    match tensor.shape().len() {
        0 => {
            let start = out.len();
            elements(out, name, tensor)?;
            // A list of one without its brackets.
            out.remove(start);
            out.pop();
            Ok(())
        }
        1 => elements(out, name, tensor),
        _ => separated(out, [b'[', b']'], each_row(tensor)?, |out, row| nested(out, name, &row)),
    }
}

/// The elements of a tensor as a list; bytes that are no text as base64.
fn elements(out: &mut Vec<u8>, name: &str, tensor: &Tensor) -> Result<()> {
    let Ok(strings) = tensor.byte_strings() else { return write_elements(out, name, tensor) };
    separated(out, [b'[', b']'], strings, |out, bytes| {
        match std::str::from_utf8(bytes) {
            Ok(text) => writer::string(out, text),
            Err(_) => encoded::write(out, bytes),
        }
        Ok(())
    })
}

/// The rows of a tensor, without their dimension 0.
fn each_row(tensor: &Tensor) -> Result<Vec<Tensor>> {
    let broken = |cause: crate::tensor::TensorError| Error::internal(cause.to_string());
    let rows = split_rows(tensor, std::iter::repeat_n(1, tensor.rows().unwrap_or(0))).map_err(broken)?;
    let shape = Shape::new(tensor.shape().iter().copied().skip(1));
    rows.into_iter().map(|row| row.reshaped(shape.clone()).map_err(broken)).collect()
}

fn separated<T>(
    out: &mut Vec<u8>,
    [opening, closing]: [u8; 2],
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T) -> Result<()>,
) -> Result<()> {
    out.push(opening);
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item)?;
    }
    out.push(closing);
    Ok(())
}
