//! From a Rust type to a structural schema, the dialect of JSON Schema that custom resource definitions take.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// The structural schema of `T`: everything in place, no references, no unions with null.
pub fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    rewrite(&mut schema);
    schema
}

fn rewrite(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    for unused in ["$schema", "title", "components", "nullable", "additionalProperties"] {
        // What may stand beside the fields of a map is its values' schema; of other objects we say it by preserving.
        if unused != "additionalProperties" || !fields.get(unused).is_some_and(Value::is_object) {
            fields.remove(unused);
        }
    }
    unwrap_nullable(fields);
    if matches!(fields.get("format").and_then(Value::as_str), Some("uint8" | "uint16" | "uint32" | "uint64" | "uint")) {
        fields.remove("format");
    }
    if fields.get("default").is_some_and(Value::is_null) {
        fields.remove("default");
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(rewrite);
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(nested) {
            rewrite(inner);
        }
    }
}

/// `anyOf: [T, null]` and `type: [T, null]` become T: that a field is optional is said by its not being required.
fn unwrap_nullable(fields: &mut Map<String, Value>) {
    for union in ["anyOf", "oneOf", "allOf"] {
        let Some(Value::Array(members)) = fields.remove(union) else { continue };
        for member in members {
            if let Value::Object(inner) = member
                && inner.get("type").and_then(Value::as_str) != Some("null")
                && !inner.get("enum").and_then(Value::as_array).is_some_and(|all| all.iter().all(Value::is_null))
            {
                for (key, value) in inner {
                    fields.entry(key).or_insert(value);
                }
            }
        }
    }
    if let Some(Value::Array(kinds)) = fields.get("type") {
        let kind = kinds.iter().find(|kind| kind.as_str() != Some("null")).cloned();
        fields.insert("type".into(), kind.unwrap_or(Value::Null));
    }
}
