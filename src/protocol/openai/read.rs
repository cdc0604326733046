//! The values that both bodies have.

use crate::error::{Error, Result};
use crate::infer::texts::TEXTS_MAX;
use crate::infer::{InferRequest, NamedTensor, ParameterValue, RequestedOutput, texts};
use crate::protocol::json::{Limits, Reader};
use crate::tensor::{BytesEncoder, DataType, Tensor};

/// A body while it is read.
pub(super) struct Body<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) limits: &'a Limits,
    pub(super) request: InferRequest,
    /// The keys that have come, of those that matter.
    seen: Vec<&'static str>,
}

impl<'a> Body<'a> {
    /// Reads the object in `text`, and has `member` read the value of each of the keys `known`.
    pub(super) fn read(
        text: &'a [u8],
        limits: &'a Limits,
        known: &[&'static str],
        mut member: impl FnMut(&mut Self, &'static str) -> Result<()>,
    ) -> Result<Self> {
        let mut body =
            Self { reader: Reader::new(text, 0), limits, request: InferRequest::default(), seen: Vec::new() };
        body.reader.expect(b'{', "to start the request")?;
        let mut first = true;
        while let Some(key) = body.reader.key(&mut first)? {
            let Some(key) = ["model", texts::TRUNCATE].iter().chain(known).find(|known| **known == key).copied() else {
                body.reader.skip_value(limits.depth_max)?;
                continue;
            };
            if body.seen.contains(&key) {
                return Err(body.reader.syntax(format_args!("'{key}' is given twice, the second time")));
            }
            body.seen.push(key);
            let read = match key {
                "model" => body.model(),
                texts::TRUNCATE => body.truncate(),
                key => member(&mut body, key),
            };
            read.map_err(|error| error.within(format_args!("'{key}'")))?;
        }
        if body.reader.peek().is_some() {
            return Err(body.reader.unexpected("nothing behind the request's closing brace"));
        }
        body.needs("model")?;
        Ok(body)
    }

    /// Refuses a body without `key`.
    pub(super) fn needs(&self, key: &'static str) -> Result<()> {
        if self.seen.contains(&key) { Ok(()) } else { Err(Error::invalid(format!("the request has no '{key}'"))) }
    }

    /// Whether `null` stands here, as if nothing did.
    pub(super) fn null(&mut self) -> bool {
        self.reader.take_word(b"null")
    }

    pub(super) fn flag(&mut self) -> Result<bool> {
        match (self.reader.take_word(b"true"), self.reader.take_word(b"false")) {
            (false, false) => Err(self.reader.unexpected("true or false")),
            (is_true, _) => Ok(is_true),
        }
    }

    fn model(&mut self) -> Result<()> {
        let model = self.reader.string()?;
        self.limits.check_string("it", &model)?;
        self.request.model = model.into_owned();
        Ok(())
    }

    fn truncate(&mut self) -> Result<()> {
        if !self.null() {
            let truncate = self.flag()?;
            self.request.parameters.set(texts::TRUNCATE, ParameterValue::Bool(truncate));
        }
        Ok(())
    }

    pub(super) fn give(&mut self, input: &str, list: Texts) -> Result<()> {
        let tensor = Tensor::new(DataType::Bytes, [list.count].into(), list.elements.finish());
        let tensor = tensor.map_err(|cause| Error::internal(cause.to_string()))?;
        self.request.inputs.push(NamedTensor::new(input, tensor));
        Ok(())
    }

    pub(super) fn ask(&mut self, output: &str) {
        self.request.outputs.push(RequestedOutput { name: output.into(), ..RequestedOutput::default() });
    }
}

/// Elements of an input, one after the other.
pub(super) struct Texts {
    pub(super) count: usize,
    elements: BytesEncoder,
}

impl Texts {
    /// None yet; `bytes` are those of the body, which bound what is to come.
    pub(super) fn new(bytes: usize) -> Self {
        Self { count: 0, elements: BytesEncoder::with_capacity(1, bytes) }
    }

    /// # Errors
    /// `TooLarge` for one more than may be.
    pub(super) fn push(&mut self, element: &[u8]) -> Result<()> {
        if self.count == TEXTS_MAX {
            return Err(Error::too_large(format!("it has more than {TEXTS_MAX} texts")));
        }
        self.count += 1;
        self.elements.push(element);
        Ok(())
    }
}
