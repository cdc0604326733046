//! What there is at a path of a document, and what comparisons say of it.

use std::borrow::Cow;

use serde_json::Value;

use super::super::pattern::{self, Pattern};
use super::{Operator, Part, Query};

/// What there is at a path.
pub(super) fn get<'a>(value: Cow<'a, Value>, path: &[(bool, Part)]) -> Option<Cow<'a, Value>> {
    let Some(((_, part), rest)) = path.split_first() else { return Some(value) };
    match part {
        Part::This => get(value, rest),
        Part::Key { pattern, index } => get(child(value, pattern, *index)?, rest),
        Part::List(paths) => {
            let found = paths.iter().filter_map(|path| get(Cow::Borrowed(&*value), path).map(Cow::into_owned));
            get(Cow::Owned(Value::Array(found.collect())), rest)
        }
        Part::First(query) => {
            let first = members(value)?.find(|member| matches(query, member))?;
            get(first, rest)
        }
        Part::Each if rest.first().is_none_or(|(piped, _)| *piped) => {
            let length = value.as_array()?.len();
            get(Cow::Owned(Value::from(length)), rest)
        }
        Part::Each => each(members(value)?, rest),
        Part::All(query) => each(members(value)?.filter(|member| matches(query, member)), rest),
    }
}

/// What follows by dots, of each member; what follows by a pipe, of the list of these.
fn each<'a>(members: impl Iterator<Item = Cow<'a, Value>>, rest: &[(bool, Part)]) -> Option<Cow<'a, Value>> {
    let pipe = rest.iter().position(|(piped, _)| *piped).unwrap_or(rest.len());
    let (inner, outer) = rest.split_at(pipe);
    let found = members.filter_map(|member| get(member, inner).map(Cow::into_owned));
    get(Cow::Owned(Value::Array(found.collect())), outer)
}

fn members(value: Cow<'_, Value>) -> Option<Box<dyn Iterator<Item = Cow<'_, Value>> + '_>> {
    match value {
        Cow::Borrowed(Value::Array(items)) => Some(Box::new(items.iter().map(Cow::Borrowed))),
        Cow::Owned(Value::Array(items)) => Some(Box::new(items.into_iter().map(Cow::Owned))),
        _ => None,
    }
}

fn child<'a>(value: Cow<'a, Value>, pattern: &Pattern, index: Option<usize>) -> Option<Cow<'a, Value>> {
    match value {
        Cow::Borrowed(Value::Object(fields)) => {
            let found = match pattern.plain() {
                Some(name) => fields.get(name),
                None => fields.iter().find(|(name, _)| pattern.fits(name)).map(|(_, value)| value),
            };
            found.map(Cow::Borrowed)
        }
        Cow::Owned(Value::Object(fields)) => {
            fields.into_iter().find(|(name, _)| pattern.fits(name)).map(|(_, value)| Cow::Owned(value))
        }
        Cow::Borrowed(Value::Array(items)) => items.get(index?).map(Cow::Borrowed),
        Cow::Owned(Value::Array(mut items)) => {
            let index = index.filter(|index| *index < items.len())?;
            Some(Cow::Owned(items.swap_remove(index)))
        }
        _ => None,
    }
}

fn matches(query: &Query, member: &Value) -> bool {
    let found = match member {
        // Without a path a query compares members that are no objects or lists themselves.
        Value::Object(_) | Value::Array(_) if query.path.is_empty() => None,
        Value::Object(_) | Value::Array(_) => get(Cow::Borrowed(member), &query.path),
        _ if query.path.is_empty() => Some(Cow::Borrowed(member)),
        _ => return false,
    };
    let Some((operator, wanted)) = &query.comparison else { return found.is_some() };
    let found = found.as_deref();
    if let Some(word) = wanted.strip_prefix('~') {
        let truth = match word {
            "*" => found.is_some(),
            "null" => found.is_none_or(Value::is_null),
            "true" => found.is_some_and(|own| truth(own) == Some(true)),
            "false" => found.is_none_or(|own| own.is_null() || truth(own) == Some(false)),
            _ => return false,
        };
        return compare(&Value::Bool(truth), *operator, "true");
    }
    found.is_some_and(|found| compare(found, *operator, wanted))
}

/// What a value says of yes or no, as Go's `ParseBool` reads words; none where it says nothing.
fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(own) => Some(*own),
        Value::Number(number) => Some(number.as_f64() != Some(0.0)),
        Value::String(word) => match word.to_lowercase().as_str() {
            "1" | "t" | "true" => Some(true),
            "0" | "f" | "false" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn compare(found: &Value, operator: Operator, wanted: &str) -> bool {
    match found {
        Value::String(own) => match operator {
            Operator::Like => pattern::fits(wanted, own),
            Operator::Unlike => !pattern::fits(wanted, own),
            _ => ordered(own.as_str().partial_cmp(wanted), operator),
        },
        Value::Number(own) => {
            // What is no number counts as 0, as GJSON has it.
            ordered(own.as_f64().unwrap_or(f64::NAN).partial_cmp(&wanted.parse().unwrap_or(0.0)), operator)
        }
        Value::Bool(own) => match (operator, *own) {
            (Operator::Equal, own) => (wanted == "true") == own && matches!(wanted, "true" | "false"),
            (Operator::Unequal, own) => wanted != if own { "true" } else { "false" },
            (Operator::Greater, true) => wanted == "false",
            (Operator::Less, false) => wanted == "true",
            (Operator::GreaterOrEqual, true) | (Operator::LessOrEqual, false) => true,
            _ => false,
        },
        _ => false,
    }
}

fn ordered(order: Option<std::cmp::Ordering>, operator: Operator) -> bool {
    match operator {
        Operator::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
        Operator::Unequal => !order.is_some_and(std::cmp::Ordering::is_eq),
        Operator::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Operator::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Operator::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Operator::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
        Operator::Like | Operator::Unlike => false,
    }
}
