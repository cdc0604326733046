//! Files of weights: the safetensors format, of which only what its header states is read.
//!
//! A file is its header's length (8 bytes, little-endian), the header (JSON: datatype, shape and place of each tensor) and the
//! tensors' bytes. Tensors are read, not mapped: a file that is overwritten or cut while it is mapped ends the process that reads
//! it (SIGBUS), and weights are packed for the kernels anyway. Nothing in the file is run, unlike a pickle.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use serde_json::Value;

use crate::error::{Error, Result};

/// Bytes that a header may have: that of a model of some ten thousand tensors has 1 MiB.
const HEADER_BYTES_MAX: u64 = 16 << 20;

/// Bytes of the length in front of the header.
const LENGTH_BYTES: u64 = 8;

/// How much of a tensor is read at once: little enough to stay in a core's cache until it is converted.
const CHUNK_BYTES: usize = 256 << 10;

/// A tensor as the header states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// "F32"; only some are numbers that we compute with.
    pub(super) datatype: String,
    pub(super) shape: Vec<usize>,
    /// Where its bytes are, from the end of the header on.
    start: u64,
    end: u64,
}

/// What a header states.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) tensors: BTreeMap<String, Entry>,
    /// Bytes in front of those of tensors.
    offset: u64,
}

/// An open file of weights.
pub(super) struct Safetensors {
    pub(super) path: PathBuf,
    file: File,
    pub(super) header: Header,
}

/// Bytes of an element of what a header calls so; `None` for a name that is not known.
fn element_bytes(datatype: &str) -> Option<u64> {
    Some(match datatype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 1,
        "U16" | "I16" | "F16" | "BF16" => 2,
        "U32" | "I32" | "F32" => 4,
        "U64" | "I64" | "F64" | "C64" => 8,
        _ => return None,
    })
}

impl Header {
    /// The length of the header that `first` starts a file of `length` bytes with.
    fn length(first: [u8; LENGTH_BYTES as usize], length: u64) -> Result<u64, String> {
        let header = u64::from_le_bytes(first);
        if header > HEADER_BYTES_MAX || header > length - LENGTH_BYTES {
            return Err(format!(
                "is no safetensors file, or cut off: its first bytes state a header of {header} bytes, and it has {length}"
            ));
        }
        Ok(header)
    }

    /// Reads `text`, the header of a file of `length` bytes.
    pub(super) fn parse(text: &[u8], length: u64) -> Result<Self, String> {
        let members: BTreeMap<String, Value> =
            serde_json::from_slice(text).map_err(|cause| format!("its header is not JSON: {cause}"))?;
        let offset = LENGTH_BYTES + text.len() as u64;
        let tensors = members.into_iter().filter(|(name, _)| name != "__metadata__");
        let tensors: BTreeMap<String, Entry> = tensors
            .map(|(name, value)| Ok((name.clone(), Entry::parse(&name, &value)?)))
            .collect::<Result<_, String>>()?;
        let needed = tensors.values().map(|entry| entry.end).max().unwrap_or(0);
        if needed != length.saturating_sub(offset) {
            let needed = needed.saturating_add(offset);
            return Err(format!(
                "has {length} bytes, and its header asks for {needed}: it is cut off, or not whole yet"
            ));
        }
        Ok(Self { tensors, offset })
    }

    /// Where the last of its tensors ends in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.offset + self.tensors.values().map(|entry| entry.end).max().unwrap_or(0)
    }
}

impl Entry {
    fn parse(name: &str, value: &Value) -> Result<Self, String> {
        let wrong = |what: &str| format!("its header has no {what} for tensor '{name}'");
        let datatype = value.get("dtype").and_then(Value::as_str).ok_or_else(|| wrong("'dtype'"))?.to_owned();
        let whole = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
        let dims = value.get("shape").and_then(Value::as_array).ok_or_else(|| wrong("'shape'"))?;
        let shape: Vec<usize> = dims.iter().map(whole).collect::<Option<_>>().ok_or_else(|| wrong("whole 'shape'"))?;
        let places = value.get("data_offsets").and_then(Value::as_array).map(Vec::as_slice);
        let Some([start, end]) = places else { return Err(wrong("two 'data_offsets'")) };
        let (Some(start), Some(end)) = (start.as_u64(), end.as_u64()) else {
            return Err(wrong("whole 'data_offsets'"));
        };
        let elements = shape.iter().try_fold(1_u64, |count, &dim| count.checked_mul(dim as u64));
        let bytes =
            elements.zip(element_bytes(&datatype).or(Some(0))).and_then(|(count, size)| count.checked_mul(size));
        let stated = end.checked_sub(start);
        if stated.is_none() || bytes.is_none() || element_bytes(&datatype).is_some() && stated != bytes {
            return Err(format!(
                "its header states bytes {start} to {end} for tensor '{name}', which {datatype} of {shape:?} does not take"
            ));
        }
        Ok(Self { datatype, shape, start, end })
    }
}

impl Safetensors {
    /// Opens the file at `path` and reads its header.
    ///
    /// # Errors
    /// `ModelUnavailable` that names the file: it cannot be read, is no such file, or not whole.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let wrong = |why: String| Error::unavailable(format!("{}: {why}", path.display()));
        let unreadable = |cause: std::io::Error| wrong(format!("cannot be read: {cause}"));
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        if length < LENGTH_BYTES {
            return Err(wrong(format!("is no safetensors file, or cut off: it has {length} bytes")));
        }
        let mut first = [0; LENGTH_BYTES as usize];
        file.read_exact_at(&mut first, 0).map_err(unreadable)?;
        let mut text = vec![0; Header::length(first, length).map_err(wrong)? as usize];
        file.read_exact_at(&mut text, LENGTH_BYTES).map_err(unreadable)?;
        let header = Header::parse(&text, length).map_err(wrong)?;
        Ok(Self { path: path.to_owned(), file, header })
    }

    /// The values of the tensor called `name`, of which `entry` is the header's.
    ///
    /// # Errors
    /// `ModelUnavailable` that names file and tensor: it is not of floats, or the file is not what it was when it was opened.
    pub(super) fn floats(&self, name: &str, entry: &Entry) -> Result<Vec<f32>> {
        let wrong = |why: String| Error::unavailable(format!("{}: tensor '{name}' {why}", self.path.display()));
        let size = match &*entry.datatype {
            "F32" => 4,
            "F16" | "BF16" => 2,
            other => return Err(wrong(format!("is {other}, expected F32, F16 or BF16"))),
        };
        let count = (entry.end - entry.start) as usize / size;
        let mut values = vec![0.0; count];
        let mut bytes = vec![0; CHUNK_BYTES.min(count * size)];
        let mut halves: Vec<u16> = Vec::new();
        let mut at = self.header.offset + entry.start;
        for values in values.chunks_mut(CHUNK_BYTES / size) {
            let bytes = &mut bytes[..values.len() * size];
            self.file.read_exact_at(bytes, at).map_err(|cause| wrong(format!("cannot be read: {cause}")))?;
            at += bytes.len() as u64;
            if size == 4 {
                tensorgate_kernels::read_floats(bytes, values);
                continue;
            }
            halves.clear();
            halves.extend(bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])));
            if entry.datatype == "F16" {
                halves.reinterpret_cast::<f16>().convert_to_f32_slice(values);
            } else {
                halves.reinterpret_cast::<bf16>().convert_to_f32_slice(values);
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
    }

    fn opened(bytes: &[u8]) -> Result<Safetensors> {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, bytes).unwrap();
        Safetensors::open(&path)
    }

    #[test]
    fn values_are_read_in_every_format_of_floats() {
        let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[1],"data_offsets":[8,10]},
            "c":{"dtype":"BF16","shape":[],"data_offsets":[10,12]},"d":{"dtype":"I64","shape":[0],"data_offsets":[12,12]}}"#;
        let mut bytes = file(header, 0);
        bytes.extend([1.5_f32.to_le_bytes(), (-2.0_f32).to_le_bytes()].concat());
        bytes.extend(f16::from_f32(0.25).to_le_bytes());
        bytes.extend(bf16::from_f32(3.0).to_le_bytes());
        let file = opened(&bytes).unwrap();
        let floats = |name: &str| file.floats(name, &file.header.tensors[name]);
        assert_eq!(floats("a").unwrap(), [1.5, -2.0]);
        assert_eq!((floats("b").unwrap(), floats("c").unwrap()), (vec![0.25], vec![3.0]));
        let error = floats("d").unwrap_err();
        assert!(error.message().contains("tensor 'd' is I64, expected F32, F16 or BF16"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_name() {
        let tensor =
            |dims: &str, places: &str| format!(r#"{{"x":{{"dtype":"F32","shape":{dims},"data_offsets":{places}}}}}"#);
        for (bytes, hint) in [
            (vec![], "it has 0 bytes"),
            (vec![255; 40], "no safetensors file"),
            (file("{", 0), "its header is not JSON"),
            (file(&tensor("[2]", "[0,8]"), 7), "cut off"),
            (file(&tensor("[2]", "[0,8]"), 9), "its header asks for"),
            (file(&tensor("[3]", "[0,8]"), 8), "tensor 'x', which F32 of [3] does not take"),
            (file(&tensor("[2]", "[8,0]"), 8), "bytes 8 to 0"),
            (file(&tensor("[-1]", "[0,8]"), 8), "no whole 'shape' for tensor 'x'"),
            (file(&tensor("[4294967296,4294967296,4294967296]", "[0,8]"), 8), "does not take"),
            (file(r#"{"x":7}"#, 0), "no 'dtype' for tensor 'x'"),
        ] {
            let error = opened(&bytes).err().unwrap_or_else(|| panic!("{hint}"));
            assert!(
                error.message().contains("model.safetensors: ") && error.message().contains(hint),
                "{hint}: {error}"
            );
        }
    }
}
