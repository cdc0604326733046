//! A body into a request.

use std::fmt;

use bytes::Bytes;
use smallvec::SmallVec;

use super::elements::{checked_count, read_data};
use super::parameters::{self, Owner};
use super::reader::{Reader, shown};
use super::{Limits, OutputEncoding};
use crate::error::{Error, Result};
use crate::infer::{InferRequest, NamedTensor, Parameters, Place, PlacedInput, RequestedOutput};
use crate::tensor::{DataType, Shape, Tensor, UnknownDataType};

/// Decodes a V2 inference request. `header_length` is `Inference-Header-Content-Length`, where the request has it: the bytes
/// of JSON, behind which follow the binary inputs in the order of `inputs`. Binary inputs share the body's memory, so
/// they may be unaligned ([`Tensor::aligned`]).
///
/// Model, version and deadline stay empty: they come from the path and the headers.
///
/// # Errors
/// [`crate::error::Kind::InvalidRequest`] for whatever is malformed or contradicts itself, with the input's name or the
/// byte; [`crate::error::Kind::TooLarge`] beyond `limits`.
pub fn decode_request(
    body: Bytes,
    header_length: Option<usize>,
    limits: &Limits,
) -> Result<(InferRequest, OutputEncoding)> {
    let json_length = header_length.unwrap_or(body.len());
    let Some(text) = body.get(..json_length) else {
        return Err(Error::invalid(format!(
            "inference-header-content-length is {json_length}, but the body has only {} bytes",
            body.len()
        )));
    };
    let mut decoder = Decoder {
        reader: Reader::new(text, 0),
        body: &body,
        tail: header_length.map(|_| json_length),
        limits,
        request: InferRequest::default(),
        encoding: OutputEncoding::default(),
    };
    decoder.request()?;
    decoder.check_tail()?;
    Ok((decoder.request, decoder.encoding))
}

struct Decoder<'a> {
    reader: Reader<'a>,
    body: &'a Bytes,
    /// Where the binary tensors that are still to be taken start; `None` where the request has none.
    tail: Option<usize>,
    limits: &'a Limits,
    request: InferRequest,
    encoding: OutputEncoding,
}

/// Which keys of an object have come; a key that comes again is an error.
#[derive(Default)]
pub(super) struct Seen(SmallVec<[&'static str; 8]>);

impl Seen {
    pub(super) fn mark(&mut self, key: &'static str, reader: &Reader<'_>) -> Result<()> {
        if self.0.contains(&key) {
            return Err(reader.syntax(format_args!("'{key}' is given twice, the second time")));
        }
        self.0.push(key);
        Ok(())
    }
}

impl Decoder<'_> {
    fn request(&mut self) -> Result<()> {
        self.reader.expect(b'{', "to start the request")?;
        let (mut first, mut seen) = (true, Seen::default());
        while let Some(key) = self.reader.key(&mut first)? {
            match &*key {
                "inputs" => {
                    seen.mark("inputs", &self.reader)?;
                    self.inputs()?;
                }
                "outputs" => {
                    seen.mark("outputs", &self.reader)?;
                    self.outputs()?;
                }
                "id" => {
                    seen.mark("id", &self.reader)?;
                    self.id()?;
                }
                "parameters" => {
                    seen.mark("parameters", &self.reader)?;
                    let read = parameters::read(&mut self.reader, Owner::Request, self.limits)?;
                    self.request.parameters = read.parameters;
                    self.encoding.binary_default = read.binary.unwrap_or(false);
                }
                _ => self.reader.skip_value(self.limits.depth_max)?,
            }
        }
        if self.reader.peek().is_some() {
            return Err(self.reader.unexpected("nothing behind the request's closing brace"));
        }
        if seen.0.contains(&"inputs") { Ok(()) } else { Err(Error::invalid("the request has no 'inputs'")) }
    }

    fn id(&mut self) -> Result<()> {
        if self.reader.take_word(b"null") {
            return Ok(());
        }
        if self.reader.peek() != Some(b'"') {
            return Err(self.reader.unexpected("a string as the request's 'id'"));
        }
        let id = self.reader.string()?;
        self.limits.check_string("the request's id", &id)?;
        self.request.id = Some(id.into_owned());
        Ok(())
    }

    fn inputs(&mut self) -> Result<()> {
        self.reader.expect(b'[', "to start the list of inputs")?;
        let mut first = true;
        while self.reader.next_item(b']', &mut first)? {
            let position = self.request.inputs.len() + self.request.placed.len();
            self.limits.check_inputs(position + 1)?;
            self.input(position)?;
        }
        Ok(())
    }

    fn input(&mut self, position: usize) -> Result<()> {
        let mut draft = Draft::default();
        let read = self.members(&mut draft).and_then(|()| self.finished(&mut draft));
        read.map_err(|error| error.within(Named("input", draft.name.as_deref(), position)))
    }

    /// Adds the input of a draft whose members are all read.
    fn finished(&mut self, draft: &mut Draft) -> Result<()> {
        let place = Place::take(&mut draft.parameters.parameters)?;
        if draft.name.is_none() {
            return Err(Error::invalid("it has no 'name'"));
        }
        let shape = draft.shape.take().ok_or_else(|| Error::invalid("it has no 'shape'"))?;
        let datatype = draft.datatype.ok_or_else(|| Error::invalid("it has no 'datatype'"))?;
        let Some(place) = place else {
            let tensor = self.tensor(draft, datatype, shape)?;
            let (name, parameters) = draft.take_rest();
            self.request.inputs.push(NamedTensor { name, tensor, parameters });
            return Ok(());
        };
        if !matches!(draft.data, Data::None) || draft.parameters.binary_data_size.is_some() {
            return Err(Error::invalid("it has both data and a place in shared memory"));
        }
        place.check(datatype, &shape, self.limits.tensor_bytes_max)?;
        let (name, parameters) = draft.take_rest();
        self.request.placed.push(PlacedInput { name, datatype, shape, place, parameters });
        Ok(())
    }

    /// Reads an input's members into `draft`, and its data too where all that they depend on came before.
    fn members(&mut self, draft: &mut Draft) -> Result<()> {
        self.reader.expect(b'{', "to start an input")?;
        let (mut first, mut seen) = (true, Seen::default());
        while let Some(key) = self.reader.key(&mut first)? {
            match &*key {
                "name" => {
                    seen.mark("name", &self.reader)?;
                    draft.name = Some(self.name()?);
                }
                "shape" => {
                    seen.mark("shape", &self.reader)?;
                    draft.shape = Some(self.shape()?);
                }
                "datatype" => {
                    seen.mark("datatype", &self.reader)?;
                    draft.datatype = Some(self.datatype()?);
                }
                "data" => {
                    seen.mark("data", &self.reader)?;
                    draft.data = self.data(draft)?;
                }
                "parameters" => {
                    seen.mark("parameters", &self.reader)?;
                    draft.parameters = parameters::read(&mut self.reader, Owner::Input, self.limits)?;
                }
                _ => self.reader.skip_value(self.limits.depth_max)?,
            }
        }
        Ok(())
    }

    fn name(&mut self) -> Result<String> {
        if self.reader.peek() != Some(b'"') {
            return Err(self.reader.unexpected("a string as 'name'"));
        }
        let name = self.reader.string()?;
        self.limits.check_string("a name", &name)?;
        Ok(name.into_owned())
    }

    fn datatype(&mut self) -> Result<DataType> {
        if self.reader.peek() != Some(b'"') {
            return Err(self.reader.unexpected("a string as 'datatype'"));
        }
        let name = self.reader.string()?;
        self.limits.check_string("its datatype", &name)?;
        name.parse().map_err(|unknown: UnknownDataType| Error::invalid(unknown.to_string()))
    }

    fn shape(&mut self) -> Result<Shape> {
        self.reader.expect(b'[', "to start 'shape'")?;
        let mut dims: SmallVec<[usize; 4]> = SmallVec::new();
        let mut first = true;
        while self.reader.next_item(b']', &mut first)? {
            if dims.len() >= self.limits.rank_max {
                return Err(Error::too_large(format!("its shape has more than {} dimensions", self.limits.rank_max)));
            }
            let dim = self.reader.number()?;
            let size = dim.to_whole().ok().and_then(|size| usize::try_from(size).ok());
            dims.push(size.ok_or_else(|| {
                let (position, given) = (dims.len(), dim.shown());
                Error::invalid(format!(
                    "dimension {position} of its shape is {given}, expected a whole number of 0 or more"
                ))
            })?);
        }
        Ok(Shape::new(dims))
    }

    /// Reads `data` where name, shape and datatype came before it, as they do from every known client; else only skips it
    /// and keeps the place.
    fn data(&mut self, draft: &Draft) -> Result<Data> {
        let (Some(_), Some(shape), Some(datatype)) = (&draft.name, &draft.shape, draft.datatype) else {
            self.reader.peek();
            let start = self.reader.at();
            self.reader.skip_value(self.limits.depth_max)?;
            return Ok(Data::At(start));
        };
        read_data(&mut self.reader, datatype, shape, self.limits).map(Data::Read)
    }

    /// Makes the tensor of a draft whose members are all read.
    fn tensor(&mut self, draft: &mut Draft, datatype: DataType, shape: Shape) -> Result<Tensor> {
        let data = match (std::mem::take(&mut draft.data), draft.parameters.binary_data_size) {
            (Data::None, None) => {
                return Err(Error::invalid("it has neither 'data' nor the parameter 'binary_data_size'"));
            }
            (Data::None, Some(size)) => self.binary(datatype, &shape, size)?,
            (_, Some(_)) => {
                return Err(Error::invalid("it has both 'data' and the parameter 'binary_data_size'"));
            }
            (Data::Read(data), None) => data,
            (Data::At(start), None) => {
                let mut reader = Reader::new(self.reader.text(), start);
                read_data(&mut reader, datatype, &shape, self.limits)?
            }
        };
        Tensor::new(datatype, shape, data).map_err(|cause| Error::invalid(cause.to_string()))
    }

    /// Takes the next `size` bytes from behind the JSON.
    fn binary(&mut self, datatype: DataType, shape: &Shape, size: usize) -> Result<Bytes> {
        let Some(start) = self.tail else {
            return Err(Error::invalid(
                "it has 'binary_data_size', but the request has no inference-header-content-length header",
            ));
        };
        let count = checked_count(datatype, shape, self.limits)?;
        if let Some(expected) = datatype.size().map(|element| count * element).filter(|&expected| expected != size) {
            return Err(Error::invalid(format!(
                "binary_data_size is {size}, but {datatype}{shape} takes {expected} bytes"
            )));
        }
        if size > self.limits.tensor_bytes_max {
            return Err(Error::too_large(format!(
                "binary_data_size is {size}, the limit for one tensor is {}",
                self.limits.tensor_bytes_max
            )));
        }
        let left = self.body.len() - start;
        if size > left {
            return Err(Error::invalid(format!(
                "binary_data_size is {size}, but only {left} bytes of the body are left"
            )));
        }
        self.tail = Some(start + size);
        Ok(self.body.slice(start..start + size))
    }

    fn check_tail(&self) -> Result<()> {
        match self.tail {
            Some(end) if end < self.body.len() => Err(Error::invalid(format!(
                "{} bytes of the body are left behind the last binary input: the sizes do not add up",
                self.body.len() - end
            ))),
            _ => Ok(()),
        }
    }

    fn outputs(&mut self) -> Result<()> {
        if self.reader.take_word(b"null") {
            return Ok(());
        }
        self.reader.expect(b'[', "to start the list of outputs")?;
        let mut first = true;
        while self.reader.next_item(b']', &mut first)? {
            let position = self.request.outputs.len();
            self.limits.check_outputs(position + 1)?;
            let mut name = None;
            let output = self.output(&mut name);
            let taken = output.and_then(|mut read| Ok((Place::take(&mut read.parameters)?, read)));
            let (place, parameters) =
                taken.map_err(|error| error.within(Named("output", name.as_deref(), position)))?;
            // `output` refuses one without a name.
            let name = name.unwrap_or_default();
            if let Some(binary) = parameters.binary {
                self.encoding.per_output.push((name.clone(), binary));
            }
            self.request.outputs.push(RequestedOutput { name, parameters: parameters.parameters, place });
        }
        Ok(())
    }

    fn output(&mut self, name: &mut Option<String>) -> Result<parameters::Read> {
        self.reader.expect(b'{', "to start an output")?;
        let mut read = parameters::Read::default();
        let (mut first, mut seen) = (true, Seen::default());
        while let Some(key) = self.reader.key(&mut first)? {
            match &*key {
                "name" => {
                    seen.mark("name", &self.reader)?;
                    *name = Some(self.name()?);
                }
                "parameters" => {
                    seen.mark("parameters", &self.reader)?;
                    read = parameters::read(&mut self.reader, Owner::Output, self.limits)?;
                }
                _ => self.reader.skip_value(self.limits.depth_max)?,
            }
        }
        if name.is_some() { Ok(read) } else { Err(Error::invalid("it has no 'name'")) }
    }
}

/// An input while its members are read, in whatever order they come.
#[derive(Default)]
struct Draft {
    name: Option<String>,
    shape: Option<Shape>,
    datatype: Option<DataType>,
    data: Data,
    parameters: parameters::Read,
}

impl Draft {
    /// The name, behind the last error that shows it, and the parameters.
    fn take_rest(&mut self) -> (String, Parameters) {
        (self.name.take().unwrap_or_default(), std::mem::take(&mut self.parameters.parameters))
    }
}

#[derive(Default)]
enum Data {
    #[default]
    None,
    /// Skipped, and starts at this byte.
    At(usize),
    Read(Bytes),
}

/// What an error is about: the kind of tensor, its name where that has been read, and its place in the list.
struct Named<'a>(&'static str, Option<&'a str>, usize);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(what, Some(name), _) => write!(f, "{what} '{}'", shown(name)),
            Self(what, None, position) => write!(f, "{what} {position}"),
        }
    }
}
