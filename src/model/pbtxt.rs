//! Protobuf's text format, read into a plain tree that knows no schema.
//!
//! The grammar is that of <https://protobuf.dev/reference/protobuf/textformat-spec/>. Fields keep their order and
//! lines; a list `name: [a, b]` becomes two fields called `name`, which is what it means. Size and depth are bounded,
//! and no text makes this panic.

mod lexer;
#[cfg(test)]
mod tests;

use lexer::{Lexer, Token};

/// Messages within messages; Triton's own schema needs eight.
const DEPTH_MAX: usize = 64;

/// A message: its fields in the order of the text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Message {
    pub(super) fields: Vec<Field>,
}

/// One value of a field. A repeated field is there once for each value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    /// Of the value, counted from 1; 0 in what was read from JSON.
    pub(super) line: usize,
    pub(super) value: Value,
}

/// A value, as far as the text alone tells.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A whole number between `i64::MIN` and `u64::MAX`.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// A quoted string.
    Text(String),
    /// A string of JSON, which has no bare words: a text, an enum's value or a number, as the field's type asks for. The
    /// text format has none.
    Json(String),
    /// A bare word: an enum's value, `true`, `false`.
    Word(String),
    /// `{ ... }` or `< ... >`.
    Message(Message),
}

/// Why a text is none in this format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) message: String,
}

/// Reads a whole text: the fields of the outermost message.
pub(super) fn parse(text: &str) -> Result<Message, SyntaxError> {
    let mut parser = Parser { lexer: Lexer::new(text), ahead: None, line: 1 };
    parser.message(None, 0)
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    ahead: Option<(usize, Token<'a>)>,
    /// Of the token taken last.
    line: usize,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Result<Token<'a>, SyntaxError> {
        let (line, token) = match self.ahead.take() {
            Some(ahead) => ahead,
            None => self.lexer.next()?,
        };
        self.line = line;
        Ok(token)
    }

    fn peek(&mut self) -> Result<&Token<'a>, SyntaxError> {
        if self.ahead.is_none() {
            self.ahead = Some(self.lexer.next()?);
        }
        Ok(self.ahead.as_ref().map_or(&Token::End, |(_, token)| token))
    }

    /// Takes the mark `mark` if it is next.
    fn take(&mut self, mark: char) -> Result<bool, SyntaxError> {
        let next = *self.peek()? == Token::Mark(mark);
        if next {
            self.next()?;
        }
        Ok(next)
    }

    fn unexpected<T>(&self, token: &Token<'_>, expected: &str) -> Result<T, SyntaxError> {
        Err(SyntaxError { line: self.line, message: format!("expected {expected}, got {token}") })
    }

    /// Fields up to and with the mark `close`, or to the end of the text.
    fn message(&mut self, close: Option<char>, depth: usize) -> Result<Message, SyntaxError> {
        if depth > DEPTH_MAX {
            let message = format!("messages are nested deeper than {DEPTH_MAX}");
            return Err(SyntaxError { line: self.line, message });
        }
        let opened = self.line;
        let mut fields = Vec::new();
        loop {
            match (self.next()?, close) {
                (Token::End, None) => return Ok(Message { fields }),
                (Token::Mark(mark), Some(close)) if mark == close => return Ok(Message { fields }),
                (Token::End, Some(close)) => {
                    let message = format!("expected '{close}' for the message that line {opened} opens, got the end");
                    return Err(SyntaxError { line: self.line, message });
                }
                (Token::Word(name), _) => self.field(name.to_owned(), depth, &mut fields)?,
                (Token::Mark('['), _) => {
                    let name = self.extension_name()?;
                    self.field(name, depth, &mut fields)?;
                }
                (other, _) => return self.unexpected(&other, "a field's name"),
            }
        }
    }

    /// The rest of `[package.name]` or `[domain/package.name]`. No field of ours has such a name; it is only to be
    /// skipped.
    fn extension_name(&mut self) -> Result<String, SyntaxError> {
        let mut name = String::from("[");
        loop {
            match self.next()? {
                Token::Word(word) => name.push_str(word),
                Token::Mark(mark @ ('.' | '/' | '-')) => name.push(mark),
                Token::Mark(']') => break,
                other => return self.unexpected(&other, "an extension's name"),
            }
        }
        name.push(']');
        Ok(name)
    }

    /// What follows a field's name: its value or values, and a separator that may be there.
    fn field(&mut self, name: String, depth: usize, fields: &mut Vec<Field>) -> Result<(), SyntaxError> {
        let colon = self.take(':')?;
        if self.take('[')? {
            // An empty list is a field without values: the format cannot tell it from one that is not there.
            if !self.take(']')? {
                self.list(&name, depth, fields)?;
            }
        } else {
            let token = self.next()?;
            let line = self.line;
            if !colon && !matches!(token, Token::Mark('{' | '<')) {
                return self.unexpected(&token, &format!("':' or '{{' after '{name}'"));
            }
            let value = self.value(token, depth)?;
            fields.push(Field { name, line, value });
        }
        if !self.take(',')? {
            self.take(';')?;
        }
        Ok(())
    }

    fn list(&mut self, name: &str, depth: usize, fields: &mut Vec<Field>) -> Result<(), SyntaxError> {
        loop {
            let token = self.next()?;
            let line = self.line;
            let value = self.value(token, depth)?;
            fields.push(Field { name: name.to_owned(), line, value });
            match self.next()? {
                Token::Mark(',') => {}
                Token::Mark(']') => return Ok(()),
                other => return self.unexpected(&other, &format!("',' or ']' in the list '{name}'")),
            }
        }
    }

    fn value(&mut self, token: Token<'a>, depth: usize) -> Result<Value, SyntaxError> {
        match token {
            Token::Mark('{') => self.message(Some('}'), depth + 1).map(Value::Message),
            Token::Mark('<') => self.message(Some('>'), depth + 1).map(Value::Message),
            Token::Mark('-') => self.negative(),
            Token::Integer(number) => Ok(Value::Integer(number.into())),
            Token::Float(number) => Ok(Value::Float(number)),
            Token::Word(word) => Ok(Value::Word(word.to_owned())),
            Token::Text(first) => self.text(first),
            other => self.unexpected(&other, "a value"),
        }
    }

    /// Strings that follow each other are one.
    fn text(&mut self, first: Vec<u8>) -> Result<Value, SyntaxError> {
        let mut bytes = first;
        while let Token::Text(_) = self.peek()? {
            if let Token::Text(more) = self.next()? {
                bytes.extend_from_slice(&more);
            }
        }
        let line = self.line;
        let text = String::from_utf8(bytes);
        text.map(Value::Text).map_err(|_| SyntaxError { line, message: "the string is not UTF-8".to_owned() })
    }

    /// What follows a minus sign.
    fn negative(&mut self) -> Result<Value, SyntaxError> {
        match self.next()? {
            Token::Integer(number) if number <= i64::MIN.unsigned_abs() => Ok(Value::Integer(-i128::from(number))),
            Token::Integer(number) => Ok(Value::Float(-(number as f64))),
            Token::Float(number) => Ok(Value::Float(-number)),
            Token::Word(word) if ["inf", "infinity"].contains(&word.to_ascii_lowercase().as_str()) => {
                Ok(Value::Float(f64::NEG_INFINITY))
            }
            Token::Word(word) if word.eq_ignore_ascii_case("nan") => Ok(Value::Float(f64::NAN)),
            other => self.unexpected(&other, "a number after '-'"),
        }
    }
}
