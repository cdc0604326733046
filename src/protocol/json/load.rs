//! The body of a load request of the model repository extension.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::reader::{Reader, shown};
use super::{Limits, request};
use crate::error::{Error, Result};
use crate::model::{FILE_PREFIX, LoadParameter};

/// The parameters of a load request's `body`, which may be empty: `{"parameters": {"config": "{...}", "file:1/model.onnx":
/// "<base64>"}}`. The contents of files are decoded; other keys of the body are skipped.
///
/// # Errors
/// [`crate::error::Kind::InvalidRequest`] where it is not that, or a parameter is given twice; `TooLarge` for more
/// parameters than `limits` allow.
pub fn decode_load(body: &[u8], limits: &Limits) -> Result<Vec<(String, LoadParameter)>> {
    let mut read = Vec::new();
    if body.is_empty() {
        return Ok(read);
    }
    let mut reader = Reader::new(body, 0);
    reader.expect(b'{', "to start the request")?;
    let (mut first, mut seen) = (true, request::Seen::default());
    while let Some(key) = reader.key(&mut first)? {
        if key == "parameters" {
            seen.mark("parameters", &reader)?;
            parameters(&mut reader, limits, &mut read)?;
        } else {
            reader.skip_value(limits.depth_max)?;
        }
    }
    match reader.peek() {
        None => Ok(read),
        Some(_) => Err(reader.unexpected("nothing behind the request's closing brace")),
    }
}

fn parameters(reader: &mut Reader<'_>, limits: &Limits, read: &mut Vec<(String, LoadParameter)>) -> Result<()> {
    if reader.take_word(b"null") {
        return Ok(());
    }
    reader.expect(b'{', "before parameters")?;
    let mut first = true;
    while let Some(name) = reader.key(&mut first)? {
        limits.check_parameters(read.len() + 1)?;
        limits.check_string("a parameter's name", &name)?;
        if read.iter().any(|(known, _)| *known == name) {
            return Err(reader.syntax(format_args!("parameter '{}' is given twice, the second time", shown(&name))));
        }
        let value = match reader.peek() {
            Some(b'"') if name.starts_with(FILE_PREFIX) => file(&name, reader.string()?.as_bytes())?,
            Some(b'"') => LoadParameter::Text(reader.string()?.into_owned()),
            _ => {
                let given = other(reader.peek());
                reader.skip_value(limits.depth_max)?;
                LoadParameter::Other(given)
            }
        };
        read.push((name.into_owned(), value));
    }
    Ok(())
}

fn file(name: &str, encoded: &[u8]) -> Result<LoadParameter> {
    let content = STANDARD.decode(encoded).map_err(|cause| {
        Error::invalid(format!("load parameter '{}' is not the base64 of a file: {cause}", shown(name)))
    })?;
    Ok(LoadParameter::Bytes(content.into()))
}

fn other(first: Option<u8>) -> &'static str {
    match first {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Kind;

    fn decoded(body: &str) -> Result<Vec<(String, LoadParameter)>> {
        decode_load(body.as_bytes(), &Limits { parameters_max: 2, ..Limits::default() })
    }

    #[test]
    fn parameters_are_texts_and_files() {
        let bodies = ["", "{}", r#"{"parameters": {}}"#, r#"{"x": [1, {"y": null}], "parameters": null}"#];
        bodies.iter().for_each(|body| assert_eq!(decoded(body).unwrap(), [], "{body}"));
        let body = r#"{"parameters": {"config": "{\"name\": \"m\"}", "file:1/model.onnx": "AAEC\/w=="}}"#;
        let file = LoadParameter::Bytes(vec![0, 1, 2, 255].into());
        let config = LoadParameter::Text(r#"{"name": "m"}"#.into());
        assert_eq!(decoded(body).unwrap(), [("config".to_owned(), config), ("file:1/model.onnx".to_owned(), file)]);
        let body = r#"{"parameters": {"config": {"name": "m"}, "x": 1}}"#;
        let [config, x] = [LoadParameter::Other("an object"), LoadParameter::Other("a number")];
        assert_eq!(decoded(body).unwrap(), [("config".to_owned(), config), ("x".to_owned(), x)]);
    }

    proptest! {
        #[test]
        fn no_body_makes_this_panic(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ":", ",", "null", "1", "\"parameters\"", "\"config\"", "\"file:1/m\"", "\"AAAA\"",
                    "\"\\u00", "\"",
                ]),
                0..24,
            ),
            bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = decode_load(words.concat().as_bytes(), &Limits::default());
            let _ = decode_load(&bytes, &Limits::default());
        }
    }

    #[test]
    fn what_is_no_load_request_is_refused() {
        for (body, kind) in [
            ("[]", Kind::InvalidRequest),
            ("{", Kind::InvalidRequest),
            ("{} {}", Kind::InvalidRequest),
            (r#"{"parameters": []}"#, Kind::InvalidRequest),
            (r#"{"parameters": {}, "parameters": {}}"#, Kind::InvalidRequest),
            (r#"{"parameters": {"config": "", "config": ""}}"#, Kind::InvalidRequest),
            (r#"{"parameters": {"file:1/model.onnx": "AA=A"}}"#, Kind::InvalidRequest),
            (r#"{"parameters": {"a": 1, "b": 2, "c": 3}}"#, Kind::TooLarge),
        ] {
            assert_eq!(decoded(body).unwrap_err().kind(), kind, "{body}");
        }
    }
}
