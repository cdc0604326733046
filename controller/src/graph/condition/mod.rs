//! Conditions: GJSON paths, of which KServe's router asks whether there is something at them.
//!
//! What its documents show is understood: keys with wildcards, indices, `#`, queries, pipes, `@this` and lists of paths. Anything else
//! is refused when the graph is read, rather than never holding when a request comes.
//! Syntax and comparisons: github.com/tidwall/gjson, SYNTAX.md.

mod find;
mod reader;

use std::borrow::Cow;

use serde_json::Value;

use self::find::get;
use self::reader::Reader;
use super::pattern::Pattern;

/// A longer text is no condition but data.
const LENGTH_MAX: usize = 1024;

/// A path, and whether it was written so.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition(Path);

/// Components, each with whether a pipe stands before it.
type Path = Vec<(bool, Part)>;

#[derive(Debug, Clone, PartialEq)]
enum Part {
    /// A field of an object, or the index of a list.
    Key { pattern: Pattern, index: Option<usize> },
    /// The length of a list; what follows by a dot, of each member.
    Each,
    /// The first member for which a query holds.
    First(Query),
    /// All members for which it holds; what follows by a dot, of each.
    All(Query),
    /// The value itself.
    This,
    /// What there is of several paths, as a list.
    List(Vec<Path>),
}

#[derive(Debug, Clone, PartialEq)]
struct Query {
    path: Path,
    /// Without one, that there is something.
    comparison: Option<(Operator, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
    Unlike,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// If it is no path, or uses what is not understood: what that is.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LENGTH_MAX {
            return Err(format!("it has {} letters; at most {LENGTH_MAX} are possible", text.len()));
        }
        Reader::of(text, 0).path(None).map(Self)
    }

    /// Whether there is something at the path, be it null.
    pub fn holds(&self, json: &Value) -> bool {
        match json {
            Value::Object(_) | Value::Array(_) => get(Cow::Borrowed(json), &self.0).is_some(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
