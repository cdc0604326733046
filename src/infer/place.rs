//! Tensors that lie in registered shared memory: the references by which requests name them.

use std::fmt;

use super::{ParameterValue, Parameters};
use crate::error::{Error, Result};
use crate::tensor::{DataType, Shape, byte_count};

const REGION: &str = "shared_memory_region";
const OFFSET: &str = "shared_memory_offset";
const BYTE_SIZE: &str = "shared_memory_byte_size";

/// Where in a registered region a tensor lies, or is to be put (Triton's shared memory extension).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The region's name.
    pub region: String,
    /// Bytes from the region's start.
    pub offset: u64,
    /// Bytes of the tensor; of an output that is asked for, the room there is for it.
    pub byte_size: usize,
}

impl Place {
    /// Takes the place that `parameters` of an input or output name, if they do.
    ///
    /// # Errors
    /// `InvalidRequest` where they name it only in part, or in values that are none.
    pub fn take(parameters: &mut Parameters) -> Result<Option<Self>> {
        if parameters.is_empty() {
            return Ok(None);
        }
        let (region, offset, size) =
            (parameters.remove(REGION), parameters.remove(OFFSET), parameters.remove(BYTE_SIZE));
        let Some(region) = region else {
            let half = if offset.is_some() { OFFSET } else { BYTE_SIZE };
            return match offset.or(size) {
                None => Ok(None),
                Some(_) => Err(Error::invalid(format!("it has the parameter '{half}', but no '{REGION}'"))),
            };
        };
        let ParameterValue::String(region) = region else {
            return Err(Error::invalid(format!("parameter '{REGION}' is no string")));
        };
        let offset = offset.map_or(Ok(0), |offset| bytes(OFFSET, &offset))?;
        let size = size.ok_or_else(|| Error::invalid(format!("it has no parameter '{BYTE_SIZE}'")))?;
        let byte_size = usize::try_from(bytes(BYTE_SIZE, &size)?).unwrap_or(usize::MAX);
        Ok(Some(Self { region, offset, byte_size }))
    }

    /// Checks, before anybody reads it, that the place is as large as a tensor of `datatype` and `shape`, and no larger
    /// than `byte_size_max`.
    ///
    /// # Errors
    /// `InvalidRequest` and `TooLarge`.
    pub fn check(&self, datatype: DataType, shape: &Shape, byte_size_max: usize) -> Result<()> {
        let given = self.byte_size;
        let expected = byte_count(datatype, shape).map_err(|cause| Error::invalid(cause.to_string()))?;
        if let Some(expected) = expected.filter(|&expected| expected != given) {
            let message = format!("{BYTE_SIZE} is {given}, but {datatype}{shape} takes {expected} bytes");
            return Err(Error::invalid(message));
        }
        if given > byte_size_max {
            let message = format!("{BYTE_SIZE} is {given}, the limit for one tensor is {byte_size_max}");
            return Err(Error::too_large(message));
        }
        Ok(())
    }

    /// The same as parameters, without an offset of 0, as Triton tells it.
    pub fn parameters(&self) -> Parameters {
        let mut parameters = Parameters::new();
        parameters.set(REGION, ParameterValue::String(self.region.clone()));
        if self.offset > 0 {
            parameters.set(OFFSET, ParameterValue::Int64(i64::try_from(self.offset).unwrap_or(i64::MAX)));
        }
        parameters.set(BYTE_SIZE, ParameterValue::Int64(i64::try_from(self.byte_size).unwrap_or(i64::MAX)));
        parameters
    }
}

fn bytes(name: &str, value: &ParameterValue) -> Result<u64> {
    let (given, bytes): (&dyn fmt::Display, _) = match value {
        ParameterValue::Int64(value) => (value, u64::try_from(*value).ok()),
        ParameterValue::Uint64(value) => (value, Some(*value)),
        ParameterValue::Double(value) => (value, None),
        ParameterValue::Bool(value) => (value, None),
        ParameterValue::String(_) => (&"a string", None),
    };
    bytes.ok_or_else(|| Error::invalid(format!("parameter '{name}' is {given}, expected a number of bytes")))
}

/// An input whose data lie in shared memory.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacedInput {
    /// The input's name.
    pub name: String,
    /// The elements' datatype.
    pub datatype: DataType,
    /// The dimensions.
    pub shape: Shape,
    /// Where the data lie.
    pub place: Place,
    /// Parameters of this input, those of the place excepted.
    pub parameters: Parameters,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(parameters: &[(&str, ParameterValue)]) -> Result<Option<Place>> {
        let mut all = Parameters::new();
        for (name, value) in parameters {
            all.set(*name, value.clone());
        }
        Place::take(&mut all)
    }

    #[test]
    fn a_place_is_told_in_three_parameters_of_which_one_may_be_left_out() {
        let region = || (REGION, ParameterValue::String("r".into()));
        let size = || (BYTE_SIZE, ParameterValue::Int64(16));
        assert_eq!(taken(&[("priority", ParameterValue::Int64(1))]).unwrap(), None);
        let place = Place { region: "r".into(), offset: 0, byte_size: 16 };
        assert_eq!(taken(&[region(), size()]).unwrap(), Some(place.clone()));
        assert_eq!(taken(&[region(), size(), (OFFSET, ParameterValue::Uint64(8))]).unwrap().unwrap().offset, 8);
        assert_eq!(Place::take(&mut place.parameters()).unwrap(), Some(place));
    }

    #[test]
    fn a_place_that_is_told_in_part_or_wrongly_is_refused() {
        let region = || (REGION, ParameterValue::String("r".into()));
        for (parameters, said) in [
            (vec![region()], BYTE_SIZE),
            (vec![(BYTE_SIZE, ParameterValue::Int64(16))], "no 'shared_memory_region'"),
            (vec![(OFFSET, ParameterValue::Int64(16))], "no 'shared_memory_region'"),
            (vec![(REGION, ParameterValue::Int64(1)), (BYTE_SIZE, ParameterValue::Int64(16))], "no string"),
            (vec![region(), (BYTE_SIZE, ParameterValue::Int64(-1))], "is -1, expected a number of bytes"),
            (vec![region(), (BYTE_SIZE, ParameterValue::Double(1.5))], "is 1.5"),
            (vec![region(), (BYTE_SIZE, ParameterValue::String("16".into()))], "is a string"),
            (vec![region(), (BYTE_SIZE, ParameterValue::Int64(1)), (OFFSET, ParameterValue::Int64(-8))], "is -8"),
        ] {
            let error = taken(&parameters).unwrap_err();
            assert!(error.message().contains(said), "{error}");
        }
    }
}
