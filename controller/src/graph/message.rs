//! Messages on their way through a graph, and what is made of them. Numbers stay the digits that they came as.
//!
//! One is a body of HTTP, or one of V2's messages of gRPC; it becomes the other, or is looked into, only where somebody needs that.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::v2::{Call, Parameter, Side, Tensor, json, proto};

/// A message, with what has to be said of it wherever it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The bytes; a clone shares them.
    pub body: Bytes,
    /// What they are.
    pub form: Form,
    /// `Content-Type`, where it has one.
    pub content_type: Option<String>,
    /// `Content-Encoding`, where it has one.
    pub encoding: Option<String>,
    /// `Inference-Header-Content-Length`: how much of the body is JSON, where binary tensors follow.
    pub json_length: Option<usize>,
    /// It was a step's answer, and is sent to the next.
    pub was_answer: bool,
}

/// What a message's bytes are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Form {
    /// A body of HTTP: JSON, most of the time.
    #[default]
    Http,
    /// `ModelInferRequest`.
    Request,
    /// `ModelInferResponse`.
    Answer,
    /// No bytes of its own: what the steps of an ensemble answered, by key.
    Joined(Vec<(String, Answer)>),
}

/// What a step answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's.
    pub status: u16,
    /// What came.
    pub message: Message,
}

impl Answer {
    /// From 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What a refusal says, for the person who reads it: the `error` or `cause` of JSON, or the text that it is.
    pub fn told(&self) -> String {
        /// What a person reads of a text that is no message of ours.
        const LETTERS_MAX: usize = 500;
        let json = self.message.parsed().unwrap_or_default();
        let found = ["cause", "error", "message", "detail"].iter().find_map(|field| match &json[*field] {
            Value::String(text) => Some(text.clone()),
            Value::Object(inner) => inner.get("message")?.as_str().map(str::to_owned),
            _ => None,
        });
        found.unwrap_or_else(|| String::from_utf8_lossy(&self.message.body).chars().take(LETTERS_MAX).collect())
    }
}

impl Message {
    /// A JSON body.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), content_type: Some("application/json".into()), ..Self::default() }
    }

    /// A message of gRPC.
    pub fn grpc(body: Bytes, side: Side) -> Self {
        let form = if side == Side::Request { Form::Request } else { Form::Answer };
        Self { body, form, ..Self::default() }
    }

    /// The answers of an ensemble to a request over gRPC.
    pub fn joined<'a>(answers: impl Iterator<Item = (&'a str, &'a Answer)>) -> Self {
        let answers = answers.map(|(key, answer)| (key.to_owned(), answer.clone())).collect();
        Self { form: Form::Joined(answers), ..Self::default() }
    }

    /// The message as it goes to the next step.
    pub fn sent_on(self) -> Self {
        Self { was_answer: true, ..self }
    }

    /// Its JSON, as far as it is some: all of it, or what is before binary tensors.
    fn json_bytes(&self) -> Option<&[u8]> {
        self.body.get(..self.json_length.unwrap_or(self.body.len()))
    }

    /// What conditions look at: its JSON, if that is what it is, with the elements of binary tensors, or the same of a message of gRPC.
    pub fn parsed(&self) -> Option<Value> {
        match &self.form {
            Form::Http => {
                let json = serde_json::from_slice(self.json_bytes()?).ok()?;
                let behind = self.json_length.filter(|length| *length < self.body.len());
                Some(match behind {
                    Some(length) => json::filled(json, &self.body.slice(length..)),
                    None => json,
                })
            }
            Form::Joined(answers) => {
                let parts = answers.iter().map(|(key, answer)| Some((key.clone(), answer.message.parsed()?)));
                Some(Value::Object(parts.collect::<Option<_>>()?))
            }
            Form::Request | Form::Answer => serde_json::from_slice(&self.text()?).ok(),
        }
    }

    /// A whole message of JSON: none where it is something else.
    fn text(&self) -> Option<Cow<'_, [u8]>> {
        let side = match self.form {
            Form::Http if self.json_length.is_none() => return self.json_bytes().map(Cow::Borrowed),
            Form::Request => Side::Request,
            _ => Side::Answer,
        };
        let call = self.as_call(side).ok()?;
        Some(Cow::Owned(json::write_text(&call, side).into()))
    }

    /// It as V2's tensors. What an ensemble's steps put out is named `KEY/NAME`; why one that may fail has failed, is the parameter
    /// `KEY/error`.
    ///
    /// # Errors
    /// If it is no such message: why.
    pub fn as_call(&self, side: Side) -> Result<Call, String> {
        match &self.form {
            Form::Http => match &self.encoding {
                Some(encoding) if encoding != "identity" => Err(format!(
                    "it is compressed by {encoding}, and is to be sent on over another protocol; send it as it is"
                )),
                _ => json::read(&self.body, self.json_length, side),
            },
            Form::Request => proto::read(&self.body, Side::Request),
            Form::Answer => proto::read(&self.body, Side::Answer),
            Form::Joined(answers) => {
                let mut whole = Call::default();
                for (key, answer) in answers {
                    if !answer.is_success() {
                        whole.parameters.insert(format!("{key}/error"), Parameter::Text(answer.told()));
                        continue;
                    }
                    let own =
                        answer.message.as_call(Side::Answer).map_err(|why| format!("the answer of {key}: {why}"))?;
                    whole.id = own.id;
                    whole.tensors.extend(
                        own.tensors
                            .into_iter()
                            .map(|tensor| Tensor { name: format!("{key}/{}", tensor.name), ..tensor }),
                    );
                }
                Ok(whole)
            }
        }
    }

    /// The request that it is, or that its outputs make.
    ///
    /// # Errors
    /// If it is neither.
    pub fn as_request(&self) -> Result<Call, String> {
        match self.was_answer {
            true => self.as_call(Side::Answer).map(Call::into_request),
            false => self.as_call(Side::Request),
        }
    }

    /// With its `predictions` as `instances`, as KServe's `mapPredictionsToInstances` has it: V1's answer as V1's request. A body that
    /// has none is left as it is.
    pub fn with_predictions_as_instances(self) -> Self {
        #[derive(Deserialize)]
        struct Predicted<'a> {
            #[serde(borrow)]
            predictions: Option<Vec<&'a RawValue>>,
        }
        #[derive(Serialize)]
        struct Instances<'a> {
            instances: Vec<&'a RawValue>,
        }
        let predicted = serde_json::from_slice::<Predicted<'_>>(&self.body).ok().and_then(|own| own.predictions);
        let Some(instances) = predicted.filter(|all| !all.is_empty()) else { return self };
        match serde_json::to_vec(&Instances { instances }) {
            Ok(body) => Self::json(body),
            Err(_) => self,
        }
    }
}

/// The answers of an ensemble as one object, sorted by key.
///
/// # Errors
/// With the key whose answer is no JSON object: there is no place for it.
pub fn merged<'a>(answers: impl Iterator<Item = (&'a str, &'a Answer)>) -> Result<Message, &'a str> {
    let mut texts = Vec::new();
    for (key, answer) in answers {
        texts.push((key, answer.message.text().ok_or(key)?));
    }
    let mut parts: BTreeMap<&str, &RawValue> = BTreeMap::new();
    for (key, text) in &texts {
        let object = serde_json::from_slice::<&RawValue>(text).ok();
        parts.insert(key, object.filter(|object| object.get().starts_with('{')).ok_or(*key)?);
    }
    serde_json::to_vec(&parts).map(Message::json).map_err(|_| "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &'static str) -> Answer {
        Answer { status: 200, message: Message::json(text) }
    }

    #[test]
    fn an_ensemble_is_an_object_of_the_answers_digit_for_digit() {
        let (one, two) = (answer(r#"{"b": 1.10, "a": 12345678901234567890}"#), answer(r#" {"x": []} "#));
        let whole = merged([("two", &two), ("one", &one)].into_iter()).unwrap();
        assert_eq!(whole.body, r#"{"one":{"b": 1.10, "a": 12345678901234567890},"two":{"x": []}}"#);
        for other in ["[1]", "no JSON", "null", ""] {
            assert_eq!(merged([("one", &answer(other))].into_iter()), Err("one"));
        }
    }

    fn answered(name: &str, data: &'static [u8]) -> Bytes {
        let tensor = Tensor {
            name: name.into(),
            datatype: crate::v2::DataType::Uint8,
            shape: vec![data.len()],
            parameters: Default::default(),
            data: Bytes::from_static(data),
        };
        proto::write(&Call { id: "7".into(), tensors: vec![tensor], ..Call::default() }, Side::Answer)
    }

    #[test]
    fn an_ensemble_over_grpc_has_its_steps_outputs_by_key_and_says_what_failed() {
        let one = Answer { status: 200, message: Message::grpc(answered("y", b"\x01\x02"), Side::Answer) };
        let two = answer(r#"{"outputs": [{"name": "y", "datatype": "INT64", "shape": [1], "data": [5]}]}"#);
        let failed = Answer { status: 503, message: Message::json(r#"{"error": "not now"}"#) };
        let whole = Message::joined([("one", &one), ("two", &two), ("soft", &failed)].into_iter());
        let call = whole.as_call(Side::Answer).unwrap();
        let names: Vec<&str> = call.tensors.iter().map(|own| own.name.as_str()).collect();
        assert_eq!(names, ["one/y", "two/y"]);
        assert_eq!(call.parameters["soft/error"], Parameter::Text("not now".into()));
        let seen = whole.parsed().unwrap();
        assert_eq!(
            (&seen["one"]["outputs"][0]["data"], &seen["soft"]["error"]),
            (&serde_json::json!([1, 2]), &"not now".into())
        );
        let next = whole.sent_on().as_request().unwrap();
        assert!(next.parameters.is_empty() && next.tensors.len() == 2);
    }

    #[test]
    fn conditions_see_the_elements_of_binary_tensors() {
        let head =
            r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}],"kept":1}"#;
        let body = [head.as_bytes(), &0.1_f32.to_le_bytes()].concat();
        let message = Message { json_length: Some(head.len()), ..Message::json(body) };
        let seen = message.parsed().unwrap();
        assert_eq!((&seen["inputs"][0]["data"], &seen["kept"]), (&serde_json::json!([0.1]), &serde_json::json!(1)));
        assert_eq!(message.as_request().unwrap().tensors[0].data, 0.1_f32.to_le_bytes().as_slice());
    }

    #[test]
    fn predictions_become_instances_where_there_are_any() {
        let mapped = |text: &'static str| Message::json(text).with_predictions_as_instances().body;
        assert_eq!(mapped(r#"{"predictions": [1.50, "x"], "more": 1}"#), r#"{"instances":[1.50,"x"]}"#);
        for same in [r#"{"predictions": []}"#, r#"{"predictions": "1"}"#, r#"{"instances": [1]}"#, "no JSON"] {
            assert_eq!(mapped(same), same);
        }
    }

    #[test]
    fn the_json_before_binary_tensors_is_what_is_read() {
        let message = Message { json_length: Some(7), ..Message::json(&b"{\"a\":1}\x00\xff"[..]) };
        assert_eq!(message.parsed(), Some(serde_json::json!({"a": 1})));
        assert_eq!(Message { json_length: Some(99), ..message }.parsed(), None);
    }
}
