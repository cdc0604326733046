//! Conditions: GJSON paths, of which KServe's router asks whether there is something at them.
//!
//! What its documents show is understood: keys with wildcards, indices, `#`, queries, pipes, `@this` and lists of paths. Anything else
//! is refused when the graph is read, rather than never holding when a request comes.
//! Syntax and comparisons: github.com/tidwall/gjson, SYNTAX.md.

use std::borrow::Cow;

use serde_json::Value;

use super::pattern::{self, Pattern};

/// A longer text is no condition but data.
const LENGTH_MAX: usize = 1024;
/// Queries in queries in lists.
const DEPTH_MAX: usize = 8;

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
        let mut reader = Reader { rest: text, depth: 0 };
        let path = reader.path(None)?;
        Ok(Self(path))
    }

    /// Whether there is something at the path, be it null.
    pub fn holds(&self, json: &Value) -> bool {
        match json {
            Value::Object(_) | Value::Array(_) => get(Cow::Borrowed(json), &self.0).is_some(),
            _ => false,
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    /// Components up to the end; in a list, up to its comma or bracket.
    fn path(&mut self, closing: Option<char>) -> Result<Path, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX}"));
        }
        let mut path = Vec::new();
        let mut piped = false;
        loop {
            path.push((piped, self.part(closing)?));
            let next = self.rest.chars().next();
            if next == closing || (closing.is_some() && next == Some(',')) {
                break;
            }
            match next {
                Some(separator @ ('.' | '|')) => {
                    piped = separator == '|';
                    self.rest = &self.rest[1..];
                }
                Some(other) => return Err(format!("'{other}' stands where '.' or '|' was expected")),
                None => return Err("a '[' is not closed".into()),
            }
        }
        self.depth -= 1;
        Ok(path)
    }

    fn part(&mut self, closing: Option<char>) -> Result<Part, String> {
        match self.rest.as_bytes().first() {
            None | Some(b'.' | b'|') => Err("a component is empty".into()),
            Some(b'@') => self.modifier(closing),
            Some(b'[') => self.list(),
            Some(b'{') => {
                Err("objects made of paths, {...}, are not served; conditions are GJSON paths such as a.#(b==\"c\")"
                    .into())
            }
            Some(b'!') => Err("literals, !..., are not served".into()),
            Some(b'#') if matches!(self.rest.as_bytes().get(1), Some(b'(' | b'[')) => self.query(),
            Some(b'#') if self.ends_at(1, closing) => {
                self.rest = &self.rest[1..];
                Ok(Part::Each)
            }
            Some(_) => self.key(closing),
        }
    }

    /// Whether a component ends before the byte at `index`.
    fn ends_at(&self, index: usize, closing: Option<char>) -> bool {
        self.rest[index..].chars().next().is_none_or(|next| {
            matches!(next, '.' | '|') || closing.is_some_and(|closing| next == closing || next == ',')
        })
    }

    fn modifier(&mut self, closing: Option<char>) -> Result<Part, String> {
        let end = (1..=self.rest.len()).find(|end| self.rest.is_char_boundary(*end) && self.ends_at(*end, closing));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        match name {
            "@this" => Ok(Part::This),
            other => Err(format!("the modifier {other} is not served; @this is")),
        }
    }

    fn list(&mut self) -> Result<Part, String> {
        self.rest = &self.rest[1..];
        let mut paths = vec![self.path(Some(']'))?];
        while let Some(rest) = self.rest.strip_prefix(',') {
            self.rest = rest;
            paths.push(self.path(Some(']'))?);
        }
        self.rest = self.rest.strip_prefix(']').ok_or("a '[' is not closed")?;
        Ok(Part::List(paths))
    }

    fn key(&mut self, closing: Option<char>) -> Result<Part, String> {
        let (mut plain, mut escaped, mut end) = (String::new(), false, self.rest.len());
        let mut letters = self.rest.char_indices();
        while let Some((at, letter)) = letters.next() {
            if self.ends_at(at, closing) {
                end = at;
                break;
            }
            if letter == '\\' {
                escaped = true;
                let (_, next) = letters.next().ok_or("it ends with '\\'")?;
                plain.extend(['\\', next]);
            } else {
                plain.push(letter);
            }
        }
        self.rest = &self.rest[end..];
        let index =
            if escaped { None } else { plain.parse().ok().filter(|_| plain.bytes().all(|own| own.is_ascii_digit())) };
        Ok(Part::Key { pattern: Pattern::parse(&plain), index })
    }

    fn query(&mut self) -> Result<Part, String> {
        let text = self.rest;
        let end = query_end(text).ok_or("a query, #(...), is not closed")?;
        let inside = &text[2..end];
        self.rest = &text[end + 1..];
        let all = self.rest.starts_with('#');
        if all {
            self.rest = &self.rest[1..];
        }
        let (path, comparison) = match operator_at(inside) {
            Some(at) => (&inside[..at], Some(comparison(&inside[at..])?)),
            None => (inside, None),
        };
        let path = match path.trim() {
            "" => Vec::new(),
            path => {
                let mut inner = Reader { rest: path, depth: self.depth };
                inner.path(None)?
            }
        };
        let query = Query { path, comparison };
        Ok(if all { Part::All(query) } else { Part::First(query) })
    }
}

/// The bytes outside of quotes, with how deep in brackets they stand before.
fn outside_quotes(text: &str) -> impl Iterator<Item = (usize, u8, usize)> {
    let mut bytes = text.bytes().enumerate();
    let mut depth = 0_usize;
    std::iter::from_fn(move || {
        let (at, byte) = bytes.next()?;
        let before = depth;
        match byte {
            b'\\' => drop(bytes.next()),
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some((_, inner)) = bytes.next() {
                    match inner {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Some((at, byte, before))
    })
}

/// Where the bracket that opens a query closes.
fn query_end(text: &str) -> Option<usize> {
    outside_quotes(text).find(|(_, byte, depth)| matches!(byte, b')' | b']') && *depth == 1).map(|(at, ..)| at)
}

/// Where the operator of a query stands, if it has one.
fn operator_at(inside: &str) -> Option<usize> {
    outside_quotes(inside)
        .find(|(_, byte, depth)| *depth == 0 && matches!(byte, b'!' | b'=' | b'<' | b'>' | b'%'))
        .map(|(at, ..)| at)
}

fn comparison(text: &str) -> Result<(Operator, String), String> {
    const OPERATORS: [(&str, Operator); 9] = [
        ("!=", Operator::Unequal),
        ("!%", Operator::Unlike),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("==", Operator::Equal),
        ("=", Operator::Equal),
        ("<", Operator::Less),
        (">", Operator::Greater),
        ("%", Operator::Like),
    ];
    let found = OPERATORS.iter().find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?.trim())));
    let (operator, value) = found.ok_or_else(|| format!("'{text}' begins with no operator"))?;
    let quoted = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
    let value = if quoted {
        serde_json::from_str(value).map_err(|error| format!("{value} is no JSON string: {error}"))?
    } else {
        value.to_owned()
    };
    Ok((operator, value))
}

/// What there is at a path.
fn get<'a>(value: Cow<'a, Value>, path: &[(bool, Part)]) -> Option<Cow<'a, Value>> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// What a path gives; `null` beside `None` where there is nothing.
    fn at(json: &Value, path: &str) -> Option<Value> {
        let condition = Condition::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let found = get(Cow::Borrowed(json), &condition.0).map(Cow::into_owned);
        assert_eq!(condition.holds(json), found.is_some());
        found
    }

    /// The document of GJSON's own description of its syntax.
    fn tom() -> Value {
        json!({
            "name": {"first": "Tom", "last": "Anderson"}, "age": 37, "children": ["Sara", "Alex", "Jack"],
            "fav.movie": "Deer Hunter",
            "friends": [
                {"first": "Dale", "last": "Murphy", "age": 44, "nets": ["ig", "fb", "tw"]},
                {"first": "Roger", "last": "Craig", "age": 68, "nets": ["fb", "tw"]},
                {"first": "Jane", "last": "Murphy", "age": 47, "nets": ["ig", "tw"]},
            ],
            "nothing": null,
        })
    }

    #[test]
    fn paths_give_what_gjson_says_they_give() {
        let cases = [
            ("name.last", json!("Anderson")),
            ("children.1", json!("Alex")),
            ("friends.1.first", json!("Roger")),
            ("child*.2", json!("Jack")),
            ("c?ildren.0", json!("Sara")),
            (r"fav\.movie", json!("Deer Hunter")),
            ("friends.#", json!(3)),
            ("friends.#.age", json!([44, 68, 47])),
            (r#"friends.#(last=="Murphy").first"#, json!("Dale")),
            (r#"friends.#(last=="Murphy")#.first"#, json!(["Dale", "Jane"])),
            ("friends.#(age>45)#.last", json!(["Craig", "Murphy"])),
            (r#"friends.#(first%"D*").last"#, json!("Murphy")),
            (r#"friends.#(first!%"D*").last"#, json!("Craig")),
            (r#"children.#(!%"*a*")"#, json!("Alex")),
            (r#"children.#(%"*a*")#"#, json!(["Sara", "Jack"])),
            (r#"friends.#(nets.#(=="fb"))#.first"#, json!(["Dale", "Roger"])),
            ("friends|0|first", json!("Dale")),
            ("friends|#", json!(3)),
            (r#"friends.#(last="Murphy")#.0"#, json!([])),
            (r#"friends.#(last="Murphy")#|0.first"#, json!("Dale")),
            (r#"friends.#(last="Murphy")#.#"#, json!([])),
            (r#"friends.#(last="Murphy")#|#"#, json!(2)),
            ("@this.age", json!(37)),
            ("friends.@this.#", json!(3)),
            ("[age,name.first,missing]", json!([37, "Tom"])),
            ("nothing", Value::Null),
        ];
        for (path, wanted) in cases {
            assert_eq!(at(&tom(), path), Some(wanted), "{path}");
        }
        for path in [
            "missing",
            "name.0",
            "children.3",
            "children.first",
            r#"friends.#(last="Murphy")#|first"#,
            "age.x",
            "friends.#(age>100)",
        ] {
            assert_eq!(at(&tom(), path), None, "{path}");
        }
    }

    #[test]
    fn a_tilde_asks_for_truth_and_presence() {
        let values = json!({"vals": [
            {"a": 1, "b": "data"}, {"a": 2, "b": true}, {"a": 3, "b": false}, {"a": 4, "b": "0"}, {"a": 5, "b": 0},
            {"a": 6, "b": "1"}, {"a": 7, "b": 1}, {"a": 8, "b": "true"}, {"a": 9, "b": false}, {"a": 10, "b": null}, {"a": 11},
        ]});
        let cases = [
            ("vals.#(b==~true)#.a", json!([2, 6, 7, 8])),
            ("vals.#(b==~false)#.a", json!([3, 4, 5, 9, 10, 11])),
            ("vals.#(b==~null)#.a", json!([10, 11])),
            ("vals.#(b==~*)#.a", json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])),
            ("vals.#(b!=~*)#.a", json!([11])),
        ];
        for (path, wanted) in cases {
            assert_eq!(at(&values, path), Some(wanted), "{path}");
        }
    }

    #[test]
    fn the_conditions_of_kserves_samples_hold_where_they_do_there() {
        let holds = |path: &str, json: Value| Condition::parse(path).unwrap().holds(&json);
        assert!(holds("[@this].#(source==client)", json!({"source": "client"})));
        assert!(!holds("[@this].#(source==client)", json!({"source": "server"})));
        assert!(holds("instances.#(intval>10)", json!({"instances": [{"intval": 2}, {"intval": 35}]})));
        assert!(!holds("instances.#(intval>10)", json!({"instances": [{"intval": 10}]})));
        assert!(holds("instances.#(strval%*red-server*)", json!({"instances": [{"strval": "a-red-server-1"}]})));
        assert!(holds(r#"predictions.#(label=="dog")"#, json!({"predictions": [{"label": "dog"}]})));
        assert!(!holds(r#"predictions.#(label=="dog")"#, json!({"predictions": "dog"})));
        assert!(holds(
            "[@this].#(decision_picker==ERROR)",
            json!({"decision_picker": "ERROR", "key1": {"name": "abc"}})
        ));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_what_it_is() {
        let refused = |path: &str| Condition::parse(path).unwrap_err();
        assert!(refused("{ .input.userId == 1 }").contains("{...}"));
        assert!(refused("a.@reverse").contains("@reverse"));
        assert!(refused("a.#(b==1").contains("not closed"));
        assert!(refused("[a").contains("not closed"));
        assert!(refused("a..b").contains("empty"));
        assert!(refused("").contains("empty"));
        assert!(refused("!true").contains("literals"));
        assert!(refused("[a]b").contains("'b'"));
        assert!(refused(r#"#(a=="\x")"#).contains("no JSON string"));
        assert!(refused(&"a".repeat(2000)).contains("1024"));
        assert!(refused(&"[".repeat(100)).contains("deeper"));
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_or_evaluating_panic(path in r#"[a-c0-2.|#()\[\]{}@!=<>%~*?\\" ,]{0,30}"#, other in ".{0,40}") {
            let json = json!({"a": [1, "x", {"b": [true, null]}], "b": {"c": "abc", "0": [[]]}});
            for text in [path, other] {
                if let Ok(condition) = Condition::parse(&text) {
                    let _either = condition.holds(&json);
                }
            }
        }

        #[test]
        fn a_plain_path_finds_what_was_put_there(keys in prop::collection::vec("[a-z]{1,5}", 1..6), value in any::<i32>()) {
            let json = keys.iter().rev().fold(json!(value), |inner, key| json!({ key: inner }));
            prop_assert_eq!(at(&json, &keys.join(".")), Some(json!(value)));
            prop_assert_eq!(at(&json, &format!("{}.more", keys.join("."))), None);
        }
    }
}
