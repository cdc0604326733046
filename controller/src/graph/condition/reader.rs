//! Reads a condition from its text, letter by letter.

use super::super::pattern::Pattern;
use super::{Operator, Part, Path, Query};

/// Queries in queries in lists.
const DEPTH_MAX: usize = 8;

/// What is left to read, and how deep in brackets it stands.
pub(super) struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Of a text that stands so deep in others.
    pub(super) fn of(text: &'a str, depth: usize) -> Self {
        Self { rest: text, depth }
    }

    /// Components up to the end; in a list, up to its comma or bracket.
    pub(super) fn path(&mut self, closing: Option<char>) -> Result<Path, String> {
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
            path => Reader::of(path, self.depth).path(None)?,
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
