//! Bodies on their way through a graph, and what is made of them. Numbers stay the digits that they came as.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// A body, with what has to be said of it wherever it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The bytes; a clone shares them.
    pub body: Bytes,
    /// `Content-Type`, where it has one.
    pub content_type: Option<String>,
    /// `Content-Encoding`, where it has one.
    pub encoding: Option<String>,
    /// `Inference-Header-Content-Length`: how much of the body is JSON, where binary tensors follow.
    pub json_length: Option<usize>,
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
}

impl Message {
    /// A JSON body.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), content_type: Some("application/json".into()), ..Self::default() }
    }

    fn json_bytes(&self) -> Option<&[u8]> {
        self.body.get(..self.json_length.unwrap_or(self.body.len()))
    }

    /// The JSON in it, if that is what it is.
    pub fn parsed(&self) -> Option<Value> {
        serde_json::from_slice(self.json_bytes()?).ok()
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
    let mut parts: BTreeMap<&str, &RawValue> = BTreeMap::new();
    for (key, answer) in answers {
        let text = if answer.message.json_length.is_none() { answer.message.json_bytes() } else { None };
        let object = text.and_then(|text| serde_json::from_slice::<&RawValue>(text).ok());
        parts.insert(key, object.filter(|object| object.get().starts_with('{')).ok_or(key)?);
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
