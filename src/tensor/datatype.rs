//! The datatypes of the V2 protocol.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};

/// A V2 datatype. BF16 is Triton's addition to the protocol's own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// Byte strings of any length: text, images, anything.
    Bytes,
}

impl DataType {
    /// Every datatype.
    pub const ALL: [DataType; 14] = [
        DataType::Bool,
        DataType::Uint8,
        DataType::Uint16,
        DataType::Uint32,
        DataType::Uint64,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Fp16,
        DataType::Bf16,
        DataType::Fp32,
        DataType::Fp64,
        DataType::Bytes,
    ];

    /// The protocol's name: "FP32".
    pub const fn name(self) -> &'static str {
        match self {
            DataType::Bool => "BOOL",
            DataType::Uint8 => "UINT8",
            DataType::Uint16 => "UINT16",
            DataType::Uint32 => "UINT32",
            DataType::Uint64 => "UINT64",
            DataType::Int8 => "INT8",
            DataType::Int16 => "INT16",
            DataType::Int32 => "INT32",
            DataType::Int64 => "INT64",
            DataType::Fp16 => "FP16",
            DataType::Bf16 => "BF16",
            DataType::Fp32 => "FP32",
            DataType::Fp64 => "FP64",
            DataType::Bytes => "BYTES",
        }
    }

    /// Bytes of one element; `None` for [`DataType::Bytes`], whose elements have no fixed size.
    pub const fn size(self) -> Option<usize> {
        Some(match self {
            DataType::Bool | DataType::Uint8 | DataType::Int8 => 1,
            DataType::Uint16 | DataType::Int16 | DataType::Fp16 | DataType::Bf16 => 2,
            DataType::Uint32 | DataType::Int32 | DataType::Fp32 => 4,
            DataType::Uint64 | DataType::Int64 | DataType::Fp64 => 8,
            DataType::Bytes => return None,
        })
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no V2 datatype.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownDataType(pub String);

impl fmt::Display for UnknownDataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.0.chars().take(40).collect();
        write!(f, "unknown datatype '{shown}', expected one of ")?;
        for (i, datatype) in DataType::ALL.iter().enumerate() {
            write!(f, "{}{datatype}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownDataType {}

impl FromStr for DataType {
    type Err = UnknownDataType;

    fn from_str(name: &str) -> Result<Self, UnknownDataType> {
        DataType::ALL.into_iter().find(|datatype| datatype.name() == name).ok_or_else(|| UnknownDataType(name.into()))
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type whose memory is exactly that of one element, little-endian: a slice of it may view a tensor's bytes.
///
/// BOOL is viewed as `u8`, which holds 0 or 1: bytes from a client must not become a `bool` unchecked.
pub trait Element: sealed::Sealed + Copy + PartialEq + Send + Sync + 'static {
    /// Whether a tensor of `datatype` may be viewed as this type.
    fn views(datatype: DataType) -> bool;
    /// The datatype that [`super::Tensor::from_elements`] gives to values of this type.
    const DATATYPE: DataType;
}

macro_rules! elements {
    ($($rust:ty => $own:ident $(| $also:ident)*),* $(,)?) => {$(
        impl sealed::Sealed for $rust {}
        impl Element for $rust {
            fn views(datatype: DataType) -> bool {
                matches!(datatype, DataType::$own $(| DataType::$also)*)
            }
            const DATATYPE: DataType = DataType::$own;
        }
    )*};
}

elements! {
    u8 => Uint8 | Bool, u16 => Uint16, u32 => Uint32, u64 => Uint64,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    f16 => Fp16, bf16 => Bf16, f32 => Fp32, f64 => Fp64,
}
