//! A body into a request.

use bytes::Bytes;
use smallvec::SmallVec;

use super::elements::{checked_count, read_data};
use super::parameters::{self, Owner, check_length};
use super::reader::{Reader, shown};
use super::{Limits, OutputEncoding};
use crate::error::{Error, Result};
use crate::infer::{InferRequest, NamedTensor, RequestedOutput};
use crate::tensor::{DataType, Shape, Tensor};

/// Decodes a V2 inference request. `header_length` is `Inference-Header-Content-Length`, where the request has it: the bytes
/// of JSON, behind which follow the binary inputs in the order of `inputs`. Binary inputs share the body's memory, so
/// they may be unaligned ([`Tensor::aligned`]).
///
/// Model, version and deadline stay empty: they come from the path and the headers.
///
/// # Errors
/// [`crate::error::Kind::InvalidRequest`] for whatever is malformed or contradicts itself, with the input's name or the
/// byte; [`crate::error::Kind::TooLarge`] beyond `limits`; [`crate::error::Kind::Unsupported`] for shared memory.
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
struct Seen(SmallVec<[&'static str; 8]>);

impl Seen {
    fn mark(&mut self, key: &'static str, reader: &Reader<'_>) -> Result<()> {
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
        check_length("the request's id", &id, self.limits)?;
        self.request.id = Some(id.into_owned());
        Ok(())
    }

    fn inputs(&mut self) -> Result<()> {
        self.reader.expect(b'[', "to start the list of inputs")?;
        let mut first = true;
        while self.reader.next_item(b']', &mut first)? {
            let position = self.request.inputs.len();
            if position >= self.limits.tensors_max {
                return Err(Error::too_large(format!("more than {} inputs", self.limits.tensors_max)));
            }
            let input = self.input(position)?;
            self.request.inputs.push(input);
        }
        Ok(())
    }

    fn input(&mut self, position: usize) -> Result<NamedTensor> {
        let mut draft = Draft::default();
        match self.fill(&mut draft) {
            Ok(data) => self.tensor(draft, data),
            Err(error) => Err(error),
        }
        .map_err(|(name, error)| error.within(Named { what: "input", name: name.as_deref(), position }))
    }

    /// Reads an input's members into `draft`, and its tensor's bytes where the order of keys allows.
    fn fill(&mut self, draft: &mut Draft) -> Result<(), (Option<String>, Error)> {
        self.members(draft).map_err(|error| (draft.name.take(), error))
    }

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
}
