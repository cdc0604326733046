//! Parameter objects: free-form ones, and those that this room acts on itself.

use std::borrow::Cow;

use super::Limits;
use super::reader::{Reader, shown};
use crate::error::{Error, Result};
use crate::infer::{ParameterValue, Parameters};

/// What one parameters object held: what goes inward, and what the binary tensor data extension means for this room.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// What goes inward.
    pub(super) parameters: Parameters,
    /// `binary_data_size` of an input.
    pub(super) binary_data_size: Option<usize>,
    /// `binary_data` of an output, or `binary_data_output` of the request.
    pub(super) binary: Option<bool>,
}

/// Whose parameters are read: it says which names are not free.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Request,
    Input,
    Output,
}

/// Reads a parameters object, or null for none.
///
/// # Errors
/// [`crate::error::Kind::InvalidRequest`] where a value is no string, number or bool, or a name of the extension has a
/// value of the wrong kind.
pub(super) fn read(reader: &mut Reader<'_>, owner: Owner, limits: &Limits) -> Result<Read> {
    let mut read = Read::default();
    if reader.take_word(b"null") {
        return Ok(read);
    }
    reader.expect(b'{', "before parameters")?;
    let (mut first, mut count) = (true, 0);
    while let Some(name) = reader.key(&mut first)? {
        count += 1;
        limits.check_parameters(count)?;
        limits.check_string("a parameter's name", &name)?;
        let Some(value) = value(reader, &name, limits)? else {
            continue;
        };
        read.sort(owner, name, value)?;
    }
    Ok(read)
}

impl Read {
    fn sort(&mut self, owner: Owner, name: Cow<'_, str>, value: ParameterValue) -> Result<()> {
        let mut flag = |value| match value {
            ParameterValue::Bool(binary) => {
                self.binary = Some(binary);
                Ok(())
            }
            other => Err(wrong_kind(&name, "true or false", &other)),
        };
        match (owner, &*name) {
            (Owner::Request, "binary_data_output") | (Owner::Output, "binary_data") => return flag(value),
            (Owner::Input, "binary_data_size") => {
                let size = match value {
                    ParameterValue::Int64(size) => usize::try_from(size).ok(),
                    _ => None,
                };
                self.binary_data_size = Some(size.ok_or_else(|| wrong_kind(&name, "a number of bytes", &value))?);
                return Ok(());
            }
            _ => {}
        }
        self.parameters.set(name, value);
        Ok(())
    }
}

/// Reads one value; `None` for null.
fn value(reader: &mut Reader<'_>, name: &str, limits: &Limits) -> Result<Option<ParameterValue>> {
    Ok(Some(match reader.peek() {
        Some(b'"') => {
            let value = reader.string()?;
            if value.len() > limits.string_bytes_max {
                limits.check_string(&format!("parameter '{}'", shown(name)), &value)?;
            }
            ParameterValue::String(value.into_owned())
        }
        Some(b't') if reader.take_word(b"true") => ParameterValue::Bool(true),
        Some(b'f') if reader.take_word(b"false") => ParameterValue::Bool(false),
        Some(b'n') if reader.take_word(b"null") => return Ok(None),
        Some(b'-' | b'0'..=b'9') => {
            let number = reader.number()?;
            let beyond = || {
                let (name, number) = (shown(name), number.shown());
                Error::invalid(format!("parameter '{name}' is {number}, which does not fit 64 bits"))
            };
            if number.plain {
                let whole = number.to_whole().map_err(|_| beyond())?;
                let signed = i64::try_from(whole).map(ParameterValue::Int64);
                signed.or_else(|_| u64::try_from(whole).map(ParameterValue::Uint64)).map_err(|_| beyond())?
            } else {
                let value = number.to_f64();
                if value.is_infinite() {
                    return Err(beyond());
                }
                ParameterValue::Double(value)
            }
        }
        _ => {
            let given = reader.describe();
            return Err(reader.syntax(format_args!(
                "parameter '{}' is {given}, expected a string, number, true or false,",
                shown(name)
            )));
        }
    }))
}

fn wrong_kind(name: &str, expected: &str, value: &ParameterValue) -> Error {
    let given = match value {
        ParameterValue::Bool(value) => value.to_string(),
        ParameterValue::Int64(value) => value.to_string(),
        ParameterValue::Uint64(value) => value.to_string(),
        ParameterValue::Double(value) => value.to_string(),
        ParameterValue::String(value) => format!("'{}'", shown(value)),
    };
    Error::invalid(format!("parameter '{name}' is {given}, expected {expected}"))
}
