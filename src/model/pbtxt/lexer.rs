//! The words, numbers, strings and marks of protobuf's text format.

use std::fmt;

use super::SyntaxError;

/// One token. A minus sign is a mark of its own, as the format has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    /// Decimal, `0x` hexadecimal or `0` octal.
    Integer(u64),
    /// With a point, an exponent or an `f`, or too large for [`Token::Integer`].
    Float(f64),
    /// A quoted string, its escapes resolved. They may spell bytes that are no UTF-8.
    Text(Vec<u8>),
    Mark(char),
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(word) => write!(f, "'{}'", word.chars().take(40).collect::<String>()),
            Token::Integer(number) => write!(f, "the number {number}"),
            Token::Float(number) => write!(f, "the number {number}"),
            Token::Text(_) => f.write_str("a string"),
            Token::Mark(mark) => write!(f, "'{}'", mark.escape_default()),
            Token::End => f.write_str("the end"),
        }
    }
}

/// Reads tokens from the front of a text.
pub(super) struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1 }
    }

    /// The next token and its line.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'a>), SyntaxError> {
        self.skip_space();
        let line = self.line;
        let mut chars = self.rest.chars();
        let Some(first) = chars.next() else {
            return Ok((line, Token::End));
        };
        let digit_follows = chars.next().is_some_and(|second| second.is_ascii_digit());
        let token = match first {
            'a'..='z' | 'A'..='Z' | '_' => Token::Word(self.run(|c| c.is_ascii_alphanumeric() || c == '_')),
            '0'..='9' => self.number()?,
            '.' if digit_follows => self.number()?,
            '"' | '\'' => self.string(first)?,
            mark => {
                self.rest = &self.rest[mark.len_utf8()..];
                Token::Mark(mark)
            }
        };
        Ok((line, token))
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError { line: self.line, message: message.into() })
    }

    /// The characters in front that are `wanted`, taken.
    fn run(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let (run, rest) = self.rest.split_at(self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len()));
        self.rest = rest;
        run
    }

    /// White space, and comments from `#` to the end of their line.
    fn skip_space(&mut self) {
        loop {
            let space = self.run(char::is_whitespace);
            self.line += space.matches('\n').count();
            if !self.rest.starts_with('#') {
                return;
            }
            self.run(|c| c != '\n');
        }
    }

    fn number(&mut self) -> Result<Token<'a>, SyntaxError> {
        let mut after_exponent = false;
        let start = self.rest;
        let hexadecimal = start.starts_with("0x") || start.starts_with("0X");
        let end = start.find(|c: char| {
            // A sign belongs to the number only behind the `e` of an exponent.
            let belongs = c.is_ascii_alphanumeric() || c == '.' || c == '_' || (after_exponent && "+-".contains(c));
            after_exponent = !hexadecimal && (c == 'e' || c == 'E');
            !belongs
        });
        let (text, rest) = start.split_at(end.unwrap_or(start.len()));
        self.rest = rest;
        match number_of(text) {
            Some(token) => Ok(token),
            None => self.error(format!("'{}' is no number", text.chars().take(40).collect::<String>())),
        }
    }

    fn string(&mut self, quote: char) -> Result<Token<'a>, SyntaxError> {
        self.rest = &self.rest[1..];
        let mut bytes = Vec::new();
        loop {
            bytes.extend_from_slice(self.run(|c| c != quote && c != '\\' && c != '\n').as_bytes());
            let mut chars = self.rest.chars();
            match chars.next() {
                Some('\\') => {
                    self.rest = chars.as_str();
                    self.escape(&mut bytes)?;
                }
                Some(end) if end == quote => {
                    self.rest = chars.as_str();
                    return Ok(Token::Text(bytes));
                }
                _ => return self.error(format!("the string lacks its closing {quote}")),
            }
        }
    }

    /// What follows a backslash: C's escapes, and `\u` and `\U` with four and eight hexadecimal digits.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), SyntaxError> {
        let mut chars = self.rest.chars();
        let Some(letter) = chars.next() else {
            return self.error("the string ends in a backslash");
        };
        if letter.is_digit(8) {
            let code = self.digits(8, 3).unwrap_or(0);
            // Three octal digits go up to 511; C and protobuf keep the low byte.
            bytes.push((code & 0xff) as u8);
            return Ok(());
        }
        self.rest = chars.as_str();
        let plain = match letter {
            'a' => 0x07,
            'b' => 0x08,
            'f' => 0x0c,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 0x0b,
            '?' | '\\' | '\'' | '"' => letter as u8,
            'x' | 'X' => match self.digits(16, 2) {
                Some(code) => (code & 0xff) as u8,
                None => return self.error("'\\x' needs hexadecimal digits"),
            },
            'u' | 'U' => return self.code_point(if letter == 'u' { 4 } else { 8 }, bytes),
            other => return self.error(format!("unknown escape '\\{}'", other.escape_default())),
        };
        bytes.push(plain);
        Ok(())
    }

    fn code_point(&mut self, digits: usize, bytes: &mut Vec<u8>) -> Result<(), SyntaxError> {
        let before = self.rest.len();
        let code = self.digits(16, digits);
        let complete = before - self.rest.len() == digits;
        match code.filter(|_| complete).and_then(char::from_u32) {
            Some(character) => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            None => {
                return self.error(format!("'\\u' and '\\U' need {digits} hexadecimal digits of a code point"));
            }
        }
        Ok(())
    }

    /// The value of the digits in front, at most `most` of them, taken; `None` where there is no digit.
    fn digits(&mut self, radix: u32, most: usize) -> Option<u32> {
        let count = self.rest.chars().take(most).take_while(|c| c.is_digit(radix)).count();
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        u32::from_str_radix(digits, radix).ok()
    }
}

fn number_of(text: &str) -> Option<Token<'static>> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).ok().map(Token::Integer);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        if text.len() > 1 && text.starts_with('0') {
            return u64::from_str_radix(text, 8).ok().map(Token::Integer);
        }
        if let Ok(number) = text.parse() {
            return Some(Token::Integer(number));
        }
    }
    let digits = text.strip_suffix(['f', 'F']).unwrap_or(text);
    // Rust's reader also takes "inf" and "nan", but a number starts with a digit or a point here.
    digits.parse().ok().map(Token::Float)
}
