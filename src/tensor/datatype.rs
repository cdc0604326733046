//! The datatypes of the V2 protocol, and the Rust types that hold their elements.

use half::{bf16, f16};

pub use crate::contract::datatype::{DataType, UnknownDataType};

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
