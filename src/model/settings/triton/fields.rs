//! Taking fields out of a message of the text format by name and type, and noting what is wrong with them by line.

use std::num::NonZeroUsize;

use crate::model::pbtxt::{Field, Message, Value};
use crate::model::settings::Fault;

/// Faults and warnings as they are found, each with its line.
#[derive(Default)]
pub(super) struct Notes {
    faults: Vec<(usize, String)>,
    warnings: Vec<(usize, String)>,
}

impl Notes {
    /// Faults and warnings in the order of their lines.
    pub(super) fn finish(mut self) -> (Vec<Fault>, Vec<String>) {
        self.faults.sort_by_key(|(line, _)| *line);
        self.warnings.sort_by_key(|(line, _)| *line);
        // JSON comes without lines: what a note says names the field all the same.
        let place = |line| if line == 0 { "config".to_owned() } else { format!("line {line}") };
        let faults = self.faults.into_iter().map(|(line, message)| Fault::new(place(line), message));
        let warnings = self.warnings.into_iter().map(|(line, message)| format!("{}: {message}", place(line)));
        (faults.collect(), warnings.collect())
    }
}

/// A message whose fields are taken one by one; those that nobody takes are not known to us.
pub(super) struct Fields<'a> {
    message: &'a Message,
    /// What stands before a field's name in a note: "" or "input[0].".
    path: String,
    line: usize,
    seen: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The outermost message, which begins in `line`.
    pub(super) fn root(message: &'a Message, line: usize) -> Self {
        Self { message, path: String::new(), line, seen: Vec::new() }
    }

    /// Every value of `name`.
    pub(super) fn each(&mut self, name: &'static str) -> impl Iterator<Item = &'a Field> + use<'a> {
        self.seen.push(name);
        self.message.fields.iter().filter(move |field| field.name == name)
    }

    /// Takes `name`, whose values change nothing here.
    pub(super) fn skip(&mut self, name: &'static str) {
        self.seen.push(name);
    }

    /// The only value of `name`; protobuf refuses a second one for a field that is not repeated.
    pub(super) fn one(&mut self, name: &'static str, notes: &mut Notes) -> Option<&'a Field> {
        let mut values = self.each(name);
        let first = values.next();
        if let (Some(first), Some(second)) = (first, values.next()) {
            let message = format!("{}{name}: given twice, first in line {}", self.path, first.line);
            notes.faults.push((second.line, message));
        }
        first
    }

    /// The only value of `name`, as `read` reads it.
    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        notes: &mut Notes,
        read: impl FnOnce(&'a Value) -> Result<T, String>,
    ) -> Option<T> {
        let field = self.one(name, notes)?;
        self.noting(field, name, notes, read)
    }

    /// Every value of `name`, as `read` reads them; those that it cannot read are left out and noted.
    pub(super) fn read_each<T>(
        &mut self,
        name: &'static str,
        notes: &mut Notes,
        read: impl Fn(&'a Value) -> Result<T, String>,
    ) -> Vec<T> {
        let values = self.each(name);
        values.filter_map(|field| self.noting(field, name, notes, &read)).collect()
    }

    /// The only value of `name`, a message.
    pub(super) fn nested(&mut self, name: &'static str, notes: &mut Notes) -> Option<Fields<'a>> {
        let field = self.one(name, notes)?;
        let message = self.noting(field, name, notes, message)?;
        Some(Self { message, path: format!("{}{name}.", self.path), line: field.line, seen: Vec::new() })
    }

    /// Every value of `name`, messages.
    pub(super) fn nested_each(&mut self, name: &'static str, notes: &mut Notes) -> Vec<Fields<'a>> {
        let mut nested = Vec::new();
        for (i, field) in self.each(name).enumerate() {
            let numbered = format!("{name}[{i}]");
            let Some(message) = self.noting(field, &numbered, notes, message) else {
                continue;
            };
            let path = format!("{}{numbered}.", self.path);
            nested.push(Self { message, path, line: field.line, seen: Vec::new() });
        }
        nested
    }

    fn noting<T>(
        &self,
        field: &'a Field,
        name: &str,
        notes: &mut Notes,
        read: impl FnOnce(&'a Value) -> Result<T, String>,
    ) -> Option<T> {
        let read = read(&field.value);
        read.map_err(|message| notes.faults.push((field.line, format!("{}{name}: {message}", self.path)))).ok()
    }

    /// Whether `name` is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.message.fields.iter().any(|field| field.name == name)
    }

    /// Notes a fault of `name`, which may be a field that is missing.
    pub(super) fn fault(&self, name: &str, notes: &mut Notes, message: impl AsRef<str>) {
        notes.faults.push((self.line_of(name), format!("{}{name}: {}", self.path, message.as_ref())));
    }

    /// Notes a warning about `name`.
    pub(super) fn warn(&self, name: &str, notes: &mut Notes, message: impl AsRef<str>) {
        notes.warnings.push((self.line_of(name), format!("{}{name}: {}", self.path, message.as_ref())));
    }

    fn line_of(&self, name: &str) -> usize {
        self.message.fields.iter().find(|field| field.name == name).map_or(self.line, |field| field.line)
    }

    /// Takes `name` without a look at its values, and warns with `message` unless they only spell the default.
    pub(super) fn ignore(&mut self, name: &'static str, notes: &mut Notes, message: &str) {
        if self.each(name).any(|field| !is_default(&field.value)) {
            self.warn(name, notes, message);
        }
    }

    /// Warns of the fields that nobody took.
    pub(super) fn finish(self, notes: &mut Notes) {
        for field in self.message.fields.iter().filter(|field| !self.seen.contains(&field.name.as_str())) {
            let shown: String = field.name.chars().take(60).collect();
            notes.warnings.push((field.line, format!("{}{shown}: unknown field, not used", self.path)));
        }
    }
}

/// Whether `value` says what leaving it out says.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Integer(number) => *number == 0,
        Value::Float(number) => *number == 0.0,
        Value::Text(text) => text.is_empty(),
        Value::Word(word) | Value::Json(word) if word.is_empty() || word == "0" => true,
        Value::Word(word) | Value::Json(word) => {
            word == "false" || word.ends_with("_NONE") || word.ends_with("_DEFAULT")
        }
        Value::Message(message) => message.fields.iter().all(|field| is_default(&field.value)),
    }
}

fn expected(what: &str, value: &Value) -> String {
    let got = match value {
        Value::Integer(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Text(_) => "a string".to_owned(),
        Value::Word(word) | Value::Json(word) => format!("'{}'", word.chars().take(40).collect::<String>()),
        Value::Message(_) => "a message".to_owned(),
    };
    format!("expected {what}, got {got}")
}

fn message(value: &Value) -> Result<&Message, String> {
    match value {
        Value::Message(message) => Ok(message),
        other => Err(expected("a message in braces", other)),
    }
}

/// A string.
pub(super) fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Text(text) | Value::Json(text) => Ok(text),
        other => Err(expected("a string in quotes", other)),
    }
}

/// An enum's value: its name, or its number.
pub(super) fn choice<'a, T>(value: &'a Value, names: &[(&'static str, i128, T)]) -> Result<T, String>
where
    T: Copy + 'a,
{
    let found = match value {
        Value::Word(word) | Value::Json(word) => names.iter().find(|(name, ..)| name == word),
        Value::Integer(wanted) => names.iter().find(|(_, number, _)| number == wanted),
        _ => None,
    };
    found.map(|(.., meaning)| *meaning).ok_or_else(|| {
        let known: Vec<_> = names.iter().map(|(name, ..)| *name).collect();
        expected(&format!("one of {}", known.join(", ")), value)
    })
}

/// A truth value, in any of the format's spellings.
pub(super) fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Word(word) if ["true", "True", "t"].contains(&word.as_str()) => Ok(true),
        Value::Word(word) if ["false", "False", "f"].contains(&word.as_str()) => Ok(false),
        Value::Integer(1) => Ok(true),
        Value::Integer(0) => Ok(false),
        other => Err(expected("true or false", other)),
    }
}

/// A whole number of at least zero.
pub(super) fn natural(value: &Value) -> Result<usize, String> {
    let number = integer(value).and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| expected("a whole number of at least zero", value))
}

/// A whole number. JSON has those of 64 bits in quotes, since its own numbers are floats to many.
pub(super) fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Integer(number) => Some(*number),
        Value::Json(digits) => digits.parse::<i64>().ok().map(i128::from),
        _ => None,
    }
}

/// A whole number of at least one.
pub(super) fn positive(value: &Value) -> Result<NonZeroUsize, String> {
    natural(value).ok().and_then(NonZeroUsize::new).ok_or_else(|| expected("a whole number of at least 1", value))
}
