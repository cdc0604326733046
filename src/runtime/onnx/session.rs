//! A loaded ONNX model and its instances.
//!
//! Instances share one session, so that N of them cost one copy of the weights: `OrtApi::Run` may be called from several
//! threads at once on the CPU execution provider (microsoft/onnxruntime#114). `ort`'s own `run` asks for `&mut` because
//! other providers' allocators are not thread-safe: on a GPU each instance has a session of its own ([`OnnxModels`]).

use std::ffi::{CString, c_char};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

use ort::AsPointer;
use ort::session::Session;
use ort::sys::{ONNXTensorElementDataType as OrtType, OrtRunOptions, OrtValue};
use ort::value::ValueType;
use smallvec::SmallVec;

use super::value::{Value, check, data_type, has_shape};
use super::{cuda, one_line, sequence};
use crate::error::{Error, Result};
use crate::model::{Device, Dim, Signature, TensorSpec};
use crate::runtime::{Instance, Interrupt, LoadedModel};
use crate::tensor::Tensor;

pub(super) struct OnnxModel {
    shared: Arc<Shared>,
}

struct Shared {
    session: Session,
    signature: Signature,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    device: Device,
}

/// What the C API wants to know of an input or output.
struct Port {
    name: CString,
    /// Of its elements: V2's datatypes stand for more than one.
    element: OrtType,
    /// Whether it is a sequence of tensors.
    is_sequence: bool,
    /// Whether it may be none.
    is_optional: bool,
}

impl OnnxModel {
    pub(super) fn new(session: Session, device: Device) -> Result<Self> {
        let (mut signature, mut inputs, mut outputs) = (Signature::default(), Vec::new(), Vec::new());
        for (index, outlet) in session.inputs().iter().enumerate() {
            let (spec, port) = describe("input", outlet.name(), outlet.dtype(), has_shape(&session, index, true))?;
            signature.inputs.push(spec);
            inputs.push(port);
        }
        // Inputs that have a default come last, as optional ones.
        for initializer in session.overridable_initializers() {
            let (spec, port) = describe("input", initializer.name(), initializer.dtype(), true)?;
            signature.inputs.push(TensorSpec { optional: true, ..spec });
            inputs.push(port);
        }
        for (index, outlet) in session.outputs().iter().enumerate() {
            let (spec, port) = describe("output", outlet.name(), outlet.dtype(), has_shape(&session, index, false))?;
            signature.outputs.push(spec);
            outputs.push(port);
        }
        Ok(Self { shared: Arc::new(Shared { session, signature, inputs, outputs, device }) })
    }
}

impl LoadedModel for OnnxModel {
    fn signature(&self) -> &Signature {
        &self.shared.signature
    }

    fn instance(&self) -> Result<Box<dyn Instance>> {
        Ok(Box::new(OnnxInstance { shared: Arc::clone(&self.shared), options: Arc::new(RunOptions::new()?) }))
    }
}

/// A model of which each instance has a session, and so a copy of the weights.
pub(super) struct OnnxModels {
    signature: Signature,
    /// Sessions that some instance may have. A lock that is held while an instance is made.
    made: Mutex<Vec<OnnxModel>>,
    another: Box<Another>,
}

/// Makes one more session.
type Another = dyn Fn() -> Result<OnnxModel> + Send + Sync;

impl OnnxModels {
    pub(super) fn new(first: OnnxModel, another: Box<Another>) -> Self {
        Self { signature: first.signature().clone(), made: Mutex::new(vec![first]), another }
    }
}

impl LoadedModel for OnnxModels {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn instance(&self) -> Result<Box<dyn Instance>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        // One that no instance has any more, else a new one.
        if let Some(free) = made.iter().find(|model| Arc::strong_count(&model.shared) == 1) {
            return free.instance();
        }
        let model = (self.another)()?;
        let instance = model.instance();
        made.push(model);
        instance
    }
}

struct OnnxInstance {
    shared: Arc<Shared>,
    options: Arc<RunOptions>,
}

/// What a run looks at to find out whether it should end.
struct RunOptions(NonNull<OrtRunOptions>);

// SAFETY: the options are only ever read by a run and set by the two functions below, which ONNX Runtime documents as
// callable while a run uses them; they are freed when neither the instance nor anybody who may interrupt it is left.
unsafe impl Send for RunOptions {}
// SAFETY: as above.
unsafe impl Sync for RunOptions {}

impl RunOptions {
    fn new() -> Result<Self> {
        let mut made = ptr::null_mut();
        // SAFETY: the out pointer is valid for the call.
        let status = unsafe { (ort::api().CreateRunOptions)(&raw mut made) };
        check(status).map_err(|message| Error::unavailable(one_line(&message)))?;
        NonNull::new(made).map(Self).ok_or_else(|| Error::unavailable("ONNX Runtime made no run options"))
    }

    /// Forgets an interruption that came between two runs.
    fn reset(&self) {
        // SAFETY: the options are alive.
        let status = unsafe { (ort::api().RunOptionsUnsetTerminate)(self.0.as_ptr()) };
        // It only stores a flag.
        let _ = check(status);
    }
}

impl Interrupt for RunOptions {
    fn interrupt(&self) {
        // SAFETY: the options are alive.
        let status = unsafe { (ort::api().RunOptionsSetTerminate)(self.0.as_ptr()) };
        // It only stores a flag.
        let _ = check(status);
    }
}

impl Drop for RunOptions {
    fn drop(&mut self) {
        // SAFETY: nobody else has the pointer any more.
        unsafe { (ort::api().ReleaseRunOptions)(self.0.as_ptr()) };
    }
}

impl Instance for OnnxInstance {
    fn execute(&mut self, inputs: &[Option<Tensor>], outputs: &[usize]) -> Result<Vec<Tensor>> {
        let shared = &*self.shared;
        let mut input_values: SmallVec<[Value; 4]> = SmallVec::new();
        let mut input_names: SmallVec<[*const c_char; 4]> = SmallVec::new();
        for (port, tensor) in shared.inputs.iter().zip(inputs) {
            if let Some(tensor) = tensor {
                input_values.push(port.value_of(tensor)?);
                input_names.push(port.name.as_ptr());
            }
        }
        let input_pointers: SmallVec<[*const OrtValue; 4]> = input_values.iter().map(Value::as_ptr).collect();
        let output_names: SmallVec<[*const c_char; 4]> =
            outputs.iter().map(|&position| shared.outputs[position].name.as_ptr()).collect();
        self.options.reset();
        let mut output_values: SmallVec<[*mut OrtValue; 4]> = outputs.iter().map(|_| ptr::null_mut()).collect();
        // SAFETY: names and values are as many as the counts say and outlive the call; the values' data belong to
        // `inputs`, which outlive it too; concurrent runs of one session are allowed (see the module).
        let status = unsafe {
            (ort::api().Run)(
                shared.session.ptr().cast_mut(),
                self.options.0.as_ptr(),
                input_names.as_ptr(),
                input_pointers.as_ptr(),
                input_names.len(),
                output_names.as_ptr(),
                output_names.len(),
                output_values.as_mut_ptr(),
            )
        };
        // Taken over before the status is looked at, so that none leaks on failure.
        let output_values: SmallVec<[Option<Value>; 4]> = output_values.into_iter().map(Value::owning).collect();
        check(status).map_err(|message| Error::execution(cuda::told(shared.device, &message)))?;
        let ports = outputs.iter().map(|&position| &shared.outputs[position]);
        ports.zip(output_values).map(|(port, value)| port.tensor_of(value)).collect()
    }

    fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        Some(Arc::clone(&self.options) as Arc<dyn Interrupt>)
    }
}

impl Port {
    fn value_of(&self, tensor: &Tensor) -> Result<Value> {
        if !self.is_sequence {
            return Value::borrowing(tensor, self.element);
        }
        let value = sequence::borrowing(tensor, self.element);
        value.map_err(|error| error.within(format_args!("input '{}'", self.name.to_string_lossy())))
    }

    fn tensor_of(&self, value: Option<Value>) -> Result<Tensor> {
        let tensor = match value {
            None => Err(Error::execution("has no value")),
            // Asking anything else of none reads memory that is not there.
            Some(value) if self.is_optional && !value.is_some()? => Err(Error::execution("is none this time")),
            Some(value) if self.is_sequence => sequence::into_tensor(&value, self.element),
            Some(value) => value.into_tensor(),
        };
        tensor.map_err(|error| error.within(format_args!("output '{}'", self.name.to_string_lossy())))
    }
}

/// An input or output in V2's words and in ONNX Runtime's.
fn describe(what: &str, name: &str, value_type: &ValueType, has_shape: bool) -> Result<(TensorSpec, Port)> {
    // What may be none is what it else is. As an input none cannot be given: ONNX Runtime has no value for it in C, and
    // refuses a run that leaves the input out. As an output it is an error of that run.
    let (whole, is_optional) = match value_type {
        ValueType::Optional(inner) => (&**inner, true),
        other => (other, false),
    };
    let (inner, is_sequence) = match whole {
        ValueType::Sequence(inner) => (&**inner, true),
        other => (other, false),
    };
    let ValueType::Tensor { ty, shape, dimension_symbols } = inner else {
        let hint = if what == "output" { " (for a scikit-learn model: convert with zipmap=False)" } else { "" };
        return Err(Error::unavailable(format!("{what} '{name}' is {}, not a tensor{hint}", kind(value_type))));
    };
    let element = (*ty).into();
    let datatype = data_type(element)
        .ok_or_else(|| Error::unavailable(format!("{what} '{name}' has datatype {ty}, which V2 does not have")))?;
    let dims = shape.iter().enumerate().map(|(position, &size)| match usize::try_from(size) {
        Ok(size) => Dim::Fixed(size),
        Err(_) => {
            let symbol = dimension_symbols.get(position).filter(|symbol| !symbol.is_empty());
            Dim::Dynamic(symbol.map(|symbol| symbol.as_str().into()))
        }
    });
    let mut spec = TensorSpec::new(name, datatype, dims);
    // Of an optional, ONNX Runtime tells no shape but the one inside, where it states dimensions. Elements of a sequence
    // are no rows of several requests, so its count must not look like a batch dimension.
    if is_sequence || (!has_shape && shape.is_empty()) {
        spec.shape = None;
    }
    let name =
        CString::new(name).map_err(|_| Error::unavailable(format!("the name {name:?} holds a NUL character")))?;
    Ok((spec, Port { name, element, is_sequence, is_optional }))
}

/// What a value is, with its article.
fn kind(value_type: &ValueType) -> &'static str {
    match value_type {
        ValueType::Tensor { .. } => "a tensor",
        ValueType::Sequence(inner) if matches!(**inner, ValueType::Map { .. }) => "a sequence of maps",
        ValueType::Sequence(_) => "a sequence",
        ValueType::Map { .. } => "a map",
        ValueType::Optional(_) => "an optional",
    }
}
