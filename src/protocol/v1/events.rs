//! CloudEvents around V1 bodies, as KServe takes and gives them: in structured mode an envelope of JSON, in binary mode
//! headers (CloudEvents 1.0, JSON format and HTTP binding). An event is answered by one, in the mode of the request.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::protocol::json::writer;

/// The media type of an event in structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// The attributes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Unlike that of any other event.
    pub id: String,
    /// When it was answered, as RFC 3339 has it.
    pub time: String,
    /// The model.
    pub model: String,
}

impl Attributes {
    /// Every attribute by its name, as KServe sets them.
    pub fn list(&self) -> [(&'static str, Cow<'_, str>); 5] {
        [
            ("specversion", "1.0".into()),
            ("id", self.id.as_str().into()),
            ("source", format!("io.kserve.inference.{}", self.model).into()),
            ("type", "io.kserve.inference.response".into()),
            ("time", self.time.as_str().into()),
        ]
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    /// Only asked to be there.
    #[serde(borrow, rename = "id")]
    _id: Cow<'a, str>,
    #[serde(borrow, rename = "source")]
    _source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    _type: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<Cow<'a, str>>,
}

/// The data of an event in structured mode.
///
/// # Errors
/// `InvalidRequest` where an attribute that every event has is missing, or there are no data.
pub fn data(body: &Bytes) -> Result<Bytes> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Error::invalid("the body is no CloudEvent in JSON: it has to be an object"));
    }
    let no_event = |cause| Error::invalid(format!("the body is no CloudEvent in JSON: {cause}"));
    let event: Envelope<'_> = serde_json::from_slice(body).map_err(no_event)?;
    if !matches!(&*event.specversion, "1.0" | "0.3") {
        let given: String = event.specversion.chars().take(40).collect();
        return Err(Error::invalid(format!("the event's specversion is '{given}', expected 1.0")));
    }
    match (event.data, event.data_base64) {
        (Some(data), None) => Ok(body.slice_ref(data.get().as_bytes())),
        (None, Some(text)) => {
            let decoded = STANDARD.decode(&*text);
            decoded
                .map(Into::into)
                .map_err(|cause| Error::invalid(format!("the event's data_base64 is no base64: {cause}")))
        }
        _ => Err(Error::invalid("the event needs one of 'data' and 'data_base64'")),
    }
}

/// An event in structured mode around `data`, which is JSON.
pub fn structured(attributes: &Attributes, data: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(data.len() + 256);
    out.push(b'{');
    for (name, value) in attributes.list() {
        writer::key(&mut out, name);
        writer::string(&mut out, &value);
        out.push(b',');
    }
    writer::key(&mut out, "datacontenttype");
    writer::string(&mut out, "application/json");
    out.push(b',');
    writer::key(&mut out, "data");
    out.extend_from_slice(data);
    out.push(b'}');
    out.into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event() -> Value {
        json!({ "specversion": "1.0", "id": "7", "source": "s", "type": "t", "data": { "instances": [[1]] } })
    }

    fn read(event: &Value) -> Result<Bytes> {
        data(&event.to_string().into())
    }

    #[test]
    fn an_event_has_its_data_as_json_or_in_base64() {
        assert_eq!(read(&event()).unwrap(), r#"{"instances":[[1]]}"#);
        let mut coded = event();
        coded.as_object_mut().unwrap().remove("data");
        coded["data_base64"] = "eyJpbnN0YW5jZXMiOltbMV1dfQ==".into();
        assert_eq!(read(&coded).unwrap(), r#"{"instances":[[1]]}"#);
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for (key, value, said) in [
            ("id", None, "`id`"),
            ("specversion", Some("2.0"), "'2.0', expected 1.0"),
            ("data", None, "needs one of"),
            ("data_base64", Some("AA=="), "needs one of"),
        ] {
            let mut event = event();
            match value {
                Some(value) => event[key] = value.into(),
                None => drop(event.as_object_mut().unwrap().remove(key)),
            }
            let error = read(&event).unwrap_err();
            assert!(error.message().contains(said), "{error}");
        }
        assert!(data(&"[]".into()).is_err());
    }

    #[test]
    fn an_answer_is_an_event_that_can_be_read() {
        let attributes =
            Attributes { id: "1".into(), time: "2026-01-01T00:00:00.000Z".into(), model: "a \"b\"".into() };
        let written = structured(&attributes, br#"{"predictions":[1]}"#);
        let told: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(told["source"], "io.kserve.inference.a \"b\"");
        assert_eq!(data(&written).unwrap(), r#"{"predictions":[1]}"#);
    }
}
