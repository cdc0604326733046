//! `OrtValue`s: inputs that borrow a tensor's bytes, outputs whose bytes a tensor borrows.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use bytes::Bytes;
use ort::AsPointer;
use ort::session::Session;
use ort::sys::{
    ONNXTensorElementDataType as OrtType, OrtAllocator, OrtAllocatorType, OrtMemType, OrtMemoryInfo, OrtStatusPtr,
    OrtValue,
};
use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::tensor::{AlignedBuffer, BytesEncoder, DataType, Shape, Tensor};

/// Outputs up to this size are copied out: that costs less than keeping the value alive behind a shared owner does.
const COPIED_BYTES_MAX: usize = 4096;

/// An owned `OrtValue`.
pub(super) struct Value(NonNull<OrtValue>);

// SAFETY: a value is a plain object without thread affinity; ours is used by one thread at a time.
unsafe impl Send for Value {}
// SAFETY: shared references only read.
unsafe impl Sync for Value {}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: owned, and released once.
        unsafe { (ort::api().ReleaseValue)(self.0.as_ptr()) };
    }
}

impl Value {
    /// Takes over a value that a run made.
    pub(super) fn owning(value: *mut OrtValue) -> Option<Self> {
        NonNull::new(value).map(Self)
    }

    pub(super) fn as_ptr(&self) -> *const OrtValue {
        self.0.as_ptr()
    }

    /// Whether an optional holds anything.
    pub(super) fn is_some(&self) -> Result<bool> {
        let mut holds = 0;
        // SAFETY: the value is valid, the out pointer is too.
        check(unsafe { (ort::api().HasValue)(self.as_ptr(), &mut holds) }).map_err(Error::execution)?;
        Ok(holds != 0)
    }

    /// A value over the bytes of `tensor`, which has to outlive it, as elements of the type that the model asks for;
    /// strings are copied, since ONNX Runtime keeps them in objects of its own.
    pub(super) fn borrowing(tensor: &Tensor, element: OrtType) -> Result<Self> {
        debug_assert!(tensor.is_aligned());
        debug_assert_eq!(data_type(element), Some(tensor.datatype()));
        let shape: SmallVec<[i64; 6]> = tensor.shape().iter().map(|&dim| dim as i64).collect();
        if tensor.datatype() == DataType::Bytes {
            return Self::strings(tensor, &shape);
        }
        let mut value = ptr::null_mut();
        // SAFETY: the info is a valid CPU memory info; the data are as long as shape and type ask for (Tensor's
        // invariant, and its type is the element's) and outlive the value (the caller's duty); ONNX Runtime does not write to inputs.
        let status = unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                cpu_memory(),
                tensor.data().as_ptr().cast_mut().cast(),
                tensor.data().len(),
                shape.as_ptr(),
                shape.len(),
                element,
                &mut value,
            )
        };
        check(status).map_err(Error::execution)?;
        Self::owning(value).ok_or_else(|| Error::internal("ONNX Runtime made no value"))
    }

    fn strings(tensor: &Tensor, shape: &[i64]) -> Result<Self> {
        let api = ort::api();
        let (allocator, mut value) = (default_allocator()?, ptr::null_mut());
        // SAFETY: the shape is as long as said, the allocator is valid.
        let status = unsafe {
            let string = OrtType::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING;
            (api.CreateTensorAsOrtValue)(allocator, shape.as_ptr(), shape.len(), string, &mut value)
        };
        check(status).map_err(Error::execution)?;
        let value = Self::owning(value).ok_or_else(|| Error::internal("ONNX Runtime made no value"))?;
        let strings = tensor.byte_strings().map_err(|cause| Error::internal(cause.to_string()))?;
        for (index, string) in strings.enumerate() {
            let mut buffer: *mut c_char = ptr::null_mut();
            // SAFETY: the index is below the element count that the value was made with.
            let status = unsafe {
                (api.GetResizedStringTensorElementBuffer)(value.0.as_ptr(), index, string.len(), &mut buffer)
            };
            check(status).map_err(Error::execution)?;
            // SAFETY: the buffer was just made as long as the string; NUL bytes inside are fine this way.
            unsafe { ptr::copy_nonoverlapping(string.as_ptr(), buffer.cast(), string.len()) };
        }
        Ok(value)
    }

    /// The value as a tensor, whose bytes are ONNX Runtime's own memory unless they are few.
    pub(super) fn into_tensor(self) -> Result<Tensor> {
        let (mut element, mut dims, mut rank) = (OrtType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, ptr::null(), 0);
        // SAFETY: the value is valid, the out pointers are too.
        let status = unsafe {
            (ort::api().GetTensorElementTypeAndShapeDataReference)(self.as_ptr(), &mut element, &mut dims, &mut rank)
        };
        check(status).map_err(Error::execution)?;
        let datatype = data_type(element).ok_or_else(|| Error::execution("its datatype is not one of V2's"))?;
        let shape: Shape = if rank == 0 {
            Shape::default()
        } else {
            // SAFETY: ONNX Runtime gave a pointer to as many dimensions; the value owns them and is alive.
            unsafe { std::slice::from_raw_parts(dims, rank) }.iter().map(|&dim| dim.max(0) as usize).collect()
        };
        let data = match datatype.size() {
            Some(size) => self.into_bytes(shape.elements().unwrap_or(0) * size)?,
            None => self.string_bytes(shape.elements().unwrap_or(0))?,
        };
        Tensor::new(datatype, shape, data).map_err(|cause| Error::execution(cause.to_string()))
    }

    fn into_bytes(self, length: usize) -> Result<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let mut start: *mut c_void = ptr::null_mut();
        // SAFETY: the value is a tensor of fixed-size elements.
        check(unsafe { (ort::api().GetTensorMutableData)(self.0.as_ptr(), &mut start) }).map_err(Error::execution)?;
        let start = NonNull::new(start.cast()).ok_or_else(|| Error::internal("ONNX Runtime gave no data"))?;
        let data = ValueBytes { _value: self, start, length };
        Ok(if length <= COPIED_BYTES_MAX {
            AlignedBuffer::copy_of(data.as_ref()).freeze()
        } else {
            Bytes::from_owner(data)
        })
    }

    fn string_bytes(&self, count: usize) -> Result<Bytes> {
        let api = ort::api();
        let mut total = 0;
        // SAFETY: the value is a string tensor.
        check(unsafe { (api.GetStringTensorDataLength)(self.as_ptr(), &mut total) }).map_err(Error::execution)?;
        let mut content = vec![0_u8; total];
        let mut offsets = vec![0_usize; count];
        // SAFETY: the buffers are as long as said.
        let status = unsafe {
            (api.GetStringTensorContent)(self.as_ptr(), content.as_mut_ptr().cast(), total, offsets.as_mut_ptr(), count)
        };
        check(status).map_err(Error::execution)?;
        let mut encoder = BytesEncoder::with_capacity(count, total);
        let ends = offsets.iter().skip(1).copied().chain([total]);
        for (&start, end) in offsets.iter().zip(ends) {
            encoder.push(&content[start..end]);
        }
        Ok(encoder.finish())
    }
}

/// The memory of a value, kept alive by it.
struct ValueBytes {
    _value: Value,
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to the value, which is Send, and is only read.
unsafe impl Send for ValueBytes {}
// SAFETY: as above.
unsafe impl Sync for ValueBytes {}

impl AsRef<[u8]> for ValueBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: ONNX Runtime allocated at least this many initialised bytes here, alive as long as the value.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

/// Turns a status into its message, releasing it.
pub(super) fn check(status: OrtStatusPtr) -> Result<(), String> {
    if status.0.is_null() {
        return Ok(());
    }
    let api = ort::api();
    // SAFETY: a status that is not null has a NUL-terminated message, valid until the status is released.
    let message = unsafe { CStr::from_ptr((api.GetErrorMessage)(status.0)) }.to_string_lossy().into_owned();
    // SAFETY: owned, and released once.
    unsafe { (api.ReleaseStatus)(status.0) };
    Err(message)
}

/// Whether an input or output states its rank: `ort` shows neither a scalar's shape nor an unknown one as anything but empty.
pub(super) fn has_shape(session: &Session, index: usize, input: bool) -> bool {
    let api = ort::api();
    let mut info = ptr::null_mut();
    let get = if input { api.SessionGetInputTypeInfo } else { api.SessionGetOutputTypeInfo };
    // SAFETY: the index is below the session's count; the out pointer is valid.
    if check(unsafe { get(session.ptr(), index, &mut info) }).is_err() {
        return false;
    }
    let mut tensor = ptr::null();
    // SAFETY: the info is valid until released below; the cast gives null for what is no tensor.
    let known = unsafe {
        check((api.CastTypeInfoToTensorInfo)(info, &mut tensor)).is_ok()
            && !tensor.is_null()
            && (api.TensorTypeAndShape_HasShape)(tensor)
    };
    // SAFETY: owned, and released once.
    unsafe { (api.ReleaseTypeInfo)(info) };
    known
}

/// ONNX Runtime's own allocator, which lives as long as the process.
pub(super) fn default_allocator() -> Result<*mut OrtAllocator> {
    let mut allocator = ptr::null_mut();
    // SAFETY: the out pointer is valid.
    check(unsafe { (ort::api().GetAllocatorWithDefaultOptions)(&mut allocator) }).map_err(Error::execution)?;
    Ok(allocator)
}

/// The description of plain CPU memory, made once.
fn cpu_memory() -> *const OrtMemoryInfo {
    struct Info(*mut OrtMemoryInfo);
    // SAFETY: an immutable description.
    unsafe impl Send for Info {}
    // SAFETY: as above.
    unsafe impl Sync for Info {}
    static INFO: OnceLock<Info> = OnceLock::new();
    let info = INFO.get_or_init(|| {
        let mut info = ptr::null_mut();
        // SAFETY: the out pointer is valid.
        let status = unsafe {
            let (arena, memory) = (OrtAllocatorType::OrtArenaAllocator, OrtMemType::OrtMemTypeDefault);
            (ort::api().CreateCpuMemoryInfo)(arena, memory, &mut info)
        };
        // With a null info the next call fails with ONNX Runtime's own message.
        let _ = check(status);
        Info(info)
    });
    info.0
}

/// V2's name for a type of elements; `None` where it has none. 8-bit floats, which it does not know, are their bits.
pub(super) fn data_type(element: OrtType) -> Option<DataType> {
    use OrtType::*;
    Some(match element {
        ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL => DataType::Bool,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8
        | ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FN
        | ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FNUZ
        | ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2
        | ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2FNUZ
        | ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E8M0 => DataType::Uint8,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16 => DataType::Uint16,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32 => DataType::Uint32,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64 => DataType::Uint64,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 => DataType::Int8,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16 => DataType::Int16,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 => DataType::Int32,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 => DataType::Int64,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 => DataType::Fp16,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16 => DataType::Bf16,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT => DataType::Fp32,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE => DataType::Fp64,
        ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING => DataType::Bytes,
        _ => return None,
    })
}
