//! What a load request brings beside the model's name: Triton's parameters `config` and `file:<path>`
//! (<https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md>).

use bytes::Bytes;

use super::ModelSettings;
use super::settings::Parsed;
use crate::error::{Error, Result};

/// What stands before the path of a file in the name of its parameter.
pub const FILE_PREFIX: &str = "file:";

/// Directories and name of a file's path. A version's folder, one for external weights in it, and room for more.
const PATH_PARTS_MAX: usize = 8;

/// Bytes of one of them: Linux's bound on a name.
const NAME_BYTES_MAX: usize = 255;

/// One parameter of a load request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadParameter {
    /// A string.
    Text(String),
    /// Bytes.
    Bytes(Bytes),
    /// Anything else, in words: "a number".
    Other(&'static str),
}

/// What to load instead of what lies in a repository.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadOverrides {
    /// Settings in place of the model's own.
    pub settings: Option<Parsed>,
    /// A whole model directory in place of the model's own: relative paths, none twice, and contents.
    pub files: Vec<(String, Bytes)>,
}

impl LoadOverrides {
    /// Checks the `parameters` of a load of `model`. As Triton has it, files need settings beside them, and paths stay
    /// inside the model's directory.
    ///
    /// # Errors
    /// [`crate::error::Kind::InvalidRequest`] with every fault of the settings, or the parameter that is wrong;
    /// `Unsupported` for another parameter: leaving it out would serve another model than asked for.
    pub fn new(model: &str, parameters: impl IntoIterator<Item = (String, LoadParameter)>) -> Result<Self> {
        let mut overrides = Self::default();
        for (name, value) in parameters {
            match (name.as_str(), value) {
                ("config", LoadParameter::Text(text)) => overrides.settings = Some(settings(model, &text)?),
                ("config", other) => return Err(wrong_kind(model, "config", &other, "a string of JSON")),
                (file, value) => match (file.strip_prefix(FILE_PREFIX), value) {
                    (Some(path), LoadParameter::Bytes(content)) => {
                        check_path(model, path)?;
                        overrides.files.push((path.to_owned(), content));
                    }
                    (Some(_), other) => return Err(wrong_kind(model, file, &other, "the file's bytes")),
                    (None, _) => return Err(unknown(model, file)),
                },
            }
        }
        if overrides.settings.is_none() && !overrides.files.is_empty() {
            return Err(Error::invalid(format!(
                "model '{model}': the load brings files without a 'config' beside them, the settings of the repository \
                 do not hold for them: give '{{}}' to have all settings derived from the model file"
            )));
        }
        overrides.files.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (path, _) in &overrides.files {
            let inside = |other: &str| other.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/'));
            if overrides.files.iter().any(|(other, _)| inside(other)) {
                return Err(Error::invalid(format!("model '{model}': '{path}' is a file and a directory of the load")));
            }
        }
        Ok(overrides)
    }

    /// Whether the model is to be loaded as it lies in its repository.
    pub fn is_empty(&self) -> bool {
        self.settings.is_none() && self.files.is_empty()
    }
}

fn settings(model: &str, text: &str) -> Result<Parsed> {
    ModelSettings::from_config_json(text, model).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Error::invalid(format!("model '{model}': {}", faults.join("; ")))
    })
}

/// A path that can only be inside the directory it is put into, and that no other text spells.
fn check_path(model: &str, path: &str) -> Result<()> {
    let refused = |why: &str| {
        let shown: String = path.chars().take(100).collect();
        Err(Error::invalid(format!(
            "model '{model}': load parameter '{FILE_PREFIX}{shown}' {why}, expected a path such as \
             '{FILE_PREFIX}1/model.onnx'"
        )))
    };
    if path.split('/').count() > PATH_PARTS_MAX {
        return refused("is too deep");
    }
    if path.split('/').any(|part| part.len() > NAME_BYTES_MAX) {
        return refused("has a name that is too long");
    }
    // Hidden files are no part of a model, and so neither `.` nor `..` is.
    if path.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.contains(['\\', '\0'])) {
        return refused("must be a plain path inside the model's directory");
    }
    if ["config.pbtxt", "model.toml"].contains(&path) {
        return refused("is not read: the settings are those of the parameter 'config'");
    }
    Ok(())
}

fn wrong_kind(model: &str, name: &str, value: &LoadParameter, expected: &str) -> Error {
    let given = match value {
        LoadParameter::Text(_) => "a string",
        LoadParameter::Bytes(_) => "bytes",
        LoadParameter::Other(given) => given,
    };
    let shown: String = name.chars().take(100).collect();
    Error::invalid(format!("model '{model}': load parameter '{shown}' is {given}, expected {expected}"))
}

fn unknown(model: &str, name: &str) -> Error {
    let shown: String = name.chars().take(100).collect();
    Error::unsupported(format!(
        "model '{model}': load parameter '{shown}' is not served, expected 'config' or '{FILE_PREFIX}' and a path"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn text(name: &str, value: &str) -> (String, LoadParameter) {
        (name.into(), LoadParameter::Text(value.into()))
    }

    fn file(path: &str) -> (String, LoadParameter) {
        (format!("{FILE_PREFIX}{path}"), LoadParameter::Bytes(Bytes::from_static(b"x")))
    }

    #[test]
    fn settings_and_files_are_taken() {
        assert!(LoadOverrides::new("m", []).unwrap().is_empty());
        let overrides =
            LoadOverrides::new("m", [file("2/model.onnx"), text("config", "{}"), file("1/weights/a.bin")]).unwrap();
        let paths: Vec<&str> = overrides.files.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["1/weights/a.bin", "2/model.onnx"]);
        assert_eq!(overrides.settings.unwrap().settings, ModelSettings::default());
        let overrides = LoadOverrides::new("m", [text("config", r#"{ "max_batch_size": 3 }"#)]).unwrap();
        assert_eq!(overrides.settings.unwrap().settings.max_batch_rows, Some(3));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (parameters, kind, message) in [
            (vec![text("config", "{")], Kind::InvalidRequest, "not a JSON object"),
            (vec![text("config", r#"{ "name": "n" }"#)], Kind::InvalidRequest, "'n' must equal"),
            (vec![("config".into(), LoadParameter::Other("a number"))], Kind::InvalidRequest, "is a number"),
            (vec![text("config", "{}"), text("file:1/model.onnx", "x")], Kind::InvalidRequest, "is a string"),
            (vec![file("1/model.onnx")], Kind::InvalidRequest, "without a 'config'"),
            (vec![text("config", "{}"), file("1"), file("1/m")], Kind::InvalidRequest, "a file and a directory"),
            (vec![text("warmth", "9")], Kind::Unsupported, "'warmth' is not served"),
        ] {
            let error = LoadOverrides::new("m", parameters).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains(message) && error.message().contains("model 'm'"), "{error}");
        }
    }

    #[test]
    fn no_path_leads_out_of_the_directory() {
        let long = "x".repeat(256);
        let deep = ["d"; 9].join("/");
        for path in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../m",
            "1/../../m",
            "1/..",
            ".",
            "./1/m",
            "1//m",
            "1/",
            "1/.hidden",
            "a\\b",
            "a\0b",
            "config.pbtxt",
            "model.toml",
            &long,
            &deep,
        ] {
            let error = LoadOverrides::new("m", [text("config", "{}"), file(path)]).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidRequest, "{path:?}");
        }
    }
}
