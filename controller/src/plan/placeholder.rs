//! `{{.Name}}` and the like in a runtime's container, filled in from the InferenceService's metadata as KServe does.

use serde_json::Value;

use super::fault::Fault;
use crate::tree;

/// Fills in every text of the tree.
///
/// # Errors
/// If a placeholder names what an InferenceService has not.
pub fn fill(tree: &mut Value, service: &Value) -> Result<(), Fault> {
    match tree {
        Value::String(text) if text.contains("{{") => *text = filled(text, service)?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, service))?,
        Value::Object(fields) => fields.values_mut().try_for_each(|value| fill(value, service))?,
        _ => {}
    }
    Ok(())
}

fn filled(text: &str, service: &Value) -> Result<String, Fault> {
    let mut rest = text;
    let mut out = String::with_capacity(text.len());
    while let Some(start) = rest.find("{{") {
        let Some(length) = rest[start..].find("}}") else {
            return Err(Fault::invalid(format!("the runtime's '{text}' has a {{{{ without }}}}")));
        };
        out.push_str(&rest[..start]);
        let inner = rest[start + 2..start + length].trim_matches(|c: char| c.is_whitespace() || c == '-');
        out.push_str(lookup(inner, service).ok_or_else(|| {
            Fault::invalid(format!(
                "the runtime asks for '{{{{{inner}}}}}', which this InferenceService does not have; known are .Name, \
                 .Namespace, .Labels.key and .Annotations.key"
            ))
        })?);
        rest = &rest[start + length + 2..];
    }
    out.push_str(rest);
    Ok(out)
}

fn lookup<'a>(inner: &str, service: &'a Value) -> Option<&'a str> {
    let path = inner.strip_prefix('.')?;
    let metadata = &service["metadata"];
    match path.split_once('.') {
        None if path == "Name" => tree::text(metadata, &["name"]),
        None if path == "Namespace" => tree::text(metadata, &["namespace"]),
        Some(("Labels", key)) => tree::text(metadata, &["labels", key]),
        Some(("Annotations", key)) => tree::text(metadata, &["annotations", key]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn placeholders_are_filled_in_wherever_they_stand() {
        let service = json!({"metadata": {"name": "iris", "namespace": "ns", "labels": {"modelClass": "net"}}});
        let mut container = json!({"args": ["--name={{.Name}}", "{{ .Labels.modelClass }}.{{.Namespace}}"], "n": 1});
        fill(&mut container, &service).unwrap();
        assert_eq!(container, json!({"args": ["--name=iris", "net.ns"], "n": 1}));
        let missing = fill(&mut json!("{{.Labels.other}}"), &service).unwrap_err();
        assert!(missing.message.contains(".Labels.other"), "{}", missing.message);
        assert!(fill(&mut json!("{{.Name"), &service).is_err());
    }
}
