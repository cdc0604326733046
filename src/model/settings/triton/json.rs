//! Protobuf's JSON form of a model configuration, as the tree that its text form is read into.
//!
//! The mapping is that of <https://protobuf.dev/programming-guides/json/>: names in snake case or camel case, maps as
//! objects, enums by name, whole numbers also in quotes, null for what is not there.

use serde_json::{Map, Value as Json};

use crate::model::pbtxt::{Field, Message, Value};

/// The fields that are maps, and for us more than to be left out.
const MAPS: [&str; 2] = ["parameters", "priority_queue_policy"];

/// Reads a whole text. Values in values are as deep as `serde_json` allows, 128.
pub(super) fn parse(text: &str) -> Result<Message, String> {
    let object: Map<String, Json> =
        serde_json::from_str(text).map_err(|cause| format!("not a JSON object: {cause}"))?;
    let mut fields = Vec::new();
    for (name, value) in object {
        let name = snake_case(&name);
        put(&mut fields, name, value);
    }
    Ok(Message { fields })
}

/// The text form's entry of a map: a message of key and value.
fn map_entry((key, value): (String, Json)) -> Value {
    let mut fields = vec![field("key".into(), Value::Json(key))];
    put(&mut fields, "value".into(), value);
    Value::Message(Message { fields })
}

/// Adds a field, once for each value of a list or entry of a map.
fn put(fields: &mut Vec<Field>, name: String, value: Json) {
    let value = match value {
        Json::Object(entries) if MAPS.contains(&name.as_str()) => {
            return fields.extend(entries.into_iter().map(|entry| field(name.clone(), map_entry(entry))));
        }
        value => value,
    };
    let values = match value {
        Json::Array(values) => values,
        one => vec![one],
    };
    fields.extend(values.into_iter().filter_map(|value| Some(field(name.clone(), converted(value)?))));
}

fn field(name: String, value: Value) -> Field {
    Field { name, line: 0, value }
}

fn converted(value: Json) -> Option<Value> {
    Some(match value {
        Json::Null => return None,
        Json::Bool(truth) => Value::Word(truth.to_string()),
        Json::String(text) => Value::Json(text),
        Json::Number(number) => match number.as_i128() {
            Some(whole) => Value::Integer(whole),
            None => number_of(number.as_f64().unwrap_or(f64::NAN)),
        },
        // No field of ours is a list of lists; as a message without fields it is refused where it stands.
        Json::Array(_) => Value::Message(Message::default()),
        Json::Object(object) => {
            let mut fields = Vec::new();
            object.into_iter().for_each(|(name, value)| put(&mut fields, snake_case(&name), value));
            Value::Message(Message { fields })
        }
    })
}

/// `4.0` and `4e0` are whole numbers in JSON.
fn number_of(number: f64) -> Value {
    let whole = number.fract() == 0.0 && number.abs() < 9e15;
    if whole { Value::Integer(number as i128) } else { Value::Float(number) }
}

/// `maxBatchSize` as the text form has it, `max_batch_size`.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
