//! The cursor over JSON text: punctuation, strings and skipping. Strict by RFC 8259, save for the three bare words that
//! Python writes for non-finite floats.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::error::{Error, Result};

/// The words that Python's `json.dumps` writes for floats which JSON has no number for.
pub(super) const NON_FINITE: [(&[u8], f64); 3] =
    [(b"NaN", f64::NAN), (b"Infinity", f64::INFINITY), (b"-Infinity", f64::NEG_INFINITY)];

/// How much of the caller's own text a message repeats.
const SHOWN_CHARS: usize = 100;

/// A position in JSON text. Offsets in messages count from the start of the body.
pub(in crate::protocol) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader of `text` from byte `at` on.
    pub(in crate::protocol) fn new(text: &'a [u8], at: usize) -> Self {
        Self { text, at }
    }

    pub(in crate::protocol) fn text(&self) -> &'a [u8] {
        self.text
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn set_at(&mut self, at: usize) {
        self.at = at;
    }

    /// The next byte that is no whitespace, which stays unread; `None` at the end.
    #[inline(always)]
    pub(in crate::protocol) fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.text.get(self.at) {
            // One comparison for nearly every byte; the four that JSON calls whitespace are below.
            if byte > b' ' || !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Reads `byte` where it comes next.
    #[inline(always)]
    pub(in crate::protocol) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Reads `byte`, which has to come next.
    #[inline]
    pub(in crate::protocol) fn expect(&mut self, byte: u8, where_: &str) -> Result<()> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected(&format!("'{}' {where_}", byte as char))) }
    }

    /// Reads `word` where the text goes on with it.
    pub(in crate::protocol) fn take_word(&mut self, word: &[u8]) -> bool {
        self.peek();
        let found = self.text[self.at..].starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// Reads one of [`NON_FINITE`], bare.
    pub(super) fn take_non_finite(&mut self) -> Option<f64> {
        NON_FINITE.into_iter().find(|(word, _)| self.take_word(word)).map(|(_, value)| value)
    }

    /// Goes on to the next member of an object: its key, or `None` behind the last. `first` is true only right behind the
    /// opening brace.
    #[inline]
    pub(in crate::protocol) fn key(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>> {
        if !self.next_item(b'}', first)? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in quotes"));
        }
        let key = self.string()?;
        self.expect(b':', "behind a key")?;
        Ok(Some(key))
    }

    /// Goes on to the next item of a list or object that `closer` ends; false behind the last.
    #[inline]
    pub(in crate::protocol) fn next_item(&mut self, closer: u8, first: &mut bool) -> Result<bool> {
        if std::mem::take(first) {
            return Ok(!self.take(closer));
        }
        match self.peek() {
            Some(b',') => self.at += 1,
            Some(byte) if byte == closer => {
                self.at += 1;
                return Ok(false);
            }
            _ => return Err(self.unexpected(&format!("',' or '{}'", closer as char))),
        }
        Ok(true)
    }

    /// Reads a string, and its escapes; borrows the text where there are none.
    pub(in crate::protocol) fn string(&mut self) -> Result<Cow<'a, str>> {
        if !self.take(b'"') {
            return Err(self.unexpected("a string"));
        }
        let start = self.at;
        let end = start + plain_prefix(&self.text[start..]);
        if self.text.get(end) == Some(&b'"') {
            self.at = end + 1;
            return self.utf8(start, end).map(Cow::Borrowed);
        }
        let mut unescaped = String::new();
        self.escaped_string(&mut unescaped)?;
        Ok(Cow::Owned(unescaped))
    }

    /// Reads the rest of a string, behind its opening quote, onto `out`.
    fn escaped_string(&mut self, out: &mut String) -> Result<()> {
        loop {
            let start = self.at;
            self.at += plain_prefix(&self.text[start..]);
            out.push_str(self.utf8(start, self.at)?);
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => {
                    let control = self.text[self.at];
                    return Err(self.syntax(format_args!("control character 0x{control:02x} in a string, escape it")));
                }
                None => return Err(self.syntax("the text ends within a string")),
            }
        }
    }

    /// Reads one escape, from its backslash on.
    fn escape(&mut self) -> Result<char> {
        let start = self.at;
        let Some(&letter) = self.text.get(start + 1) else {
            return Err(self.syntax("the text ends within a string"));
        };
        self.at += 2;
        Ok(match letter {
            b'"' | b'\\' | b'/' => letter as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.hex_unit(start)?;
                let code = if matches!(unit, 0xd800..0xdc00) { self.low_surrogate(unit, start)? } else { unit };
                // Only a surrogate that is not half of a pair is no character.
                char::from_u32(code).ok_or_else(|| lone_surrogate(start))?
            }
            _ => {
                self.at = start;
                return Err(
                    self.syntax("unknown escape in a string, expected one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u")
                );
            }
        })
    }

    /// The character that `high`, a first surrogate, makes with the escape that has to follow.
    fn low_surrogate(&mut self, high: u32, start: usize) -> Result<u32> {
        if !self.text[self.at..].starts_with(b"\\u") {
            return Err(lone_surrogate(start));
        }
        self.at += 2;
        match self.hex_unit(start)? {
            low @ 0xdc00..0xe000 => Ok(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)),
            _ => Err(lone_surrogate(start)),
        }
    }

    fn hex_unit(&mut self, start: usize) -> Result<u32> {
        let digits = self.text.get(self.at..self.at + 4).unwrap_or(b"");
        let unit = digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | (digit as char).to_digit(16)?));
        let Some(unit) = unit.filter(|_| !digits.is_empty()) else {
            return Err(syntax_at(start, "\\u needs four hexadecimal digits"));
        };
        self.at += 4;
        Ok(unit)
    }

    fn utf8(&self, start: usize, end: usize) -> Result<&'a str> {
        std::str::from_utf8(&self.text[start..end])
            .map_err(|cause| syntax_at(start + cause.valid_up_to(), "a string is not valid UTF-8"))
    }

    /// Skips one value of any kind, checking it.
    pub(in crate::protocol) fn skip_value(&mut self, depth_max: usize) -> Result<()> {
        // The closers that are still to come. Not recursion: depth_max is a setting, the stack is not.
        let mut open: SmallVec<[u8; 64]> = SmallVec::new();
        loop {
            let mut first = false;
            match self.peek() {
                Some(bracket @ (b'[' | b'{')) => {
                    if open.len() >= depth_max {
                        return Err(self.too_deep(depth_max));
                    }
                    self.at += 1;
                    open.push(if bracket == b'[' { b']' } else { b'}' });
                    first = true;
                }
                Some(b'"') => drop(self.string()?),
                _ => self.skip_scalar()?,
            }
            // Close what ends here, then stand before the next value.
            loop {
                match open.last() {
                    None => return Ok(()),
                    Some(b'}') if self.key(&mut first)?.is_some() => break,
                    Some(b']') if self.next_item(b']', &mut first)? => break,
                    Some(_) => drop(open.pop()),
                }
            }
        }
    }

    fn skip_scalar(&mut self) -> Result<()> {
        if [&b"true"[..], b"false", b"null"].into_iter().any(|word| self.take_word(word))
            || self.take_non_finite().is_some()
        {
            return Ok(());
        }
        self.number().map(drop)
    }

    /// An error that says what was expected and what stands here instead.
    #[cold]
    pub(in crate::protocol) fn unexpected(&mut self, expected: &str) -> Error {
        let found = self.describe();
        self.syntax(format_args!("expected {expected}, got {found}"))
    }

    /// The value or character that comes next, for messages.
    pub(super) fn describe(&mut self) -> String {
        match self.peek() {
            None => "the end of the text".into(),
            Some(b'"') => "a string".into(),
            Some(b'[') => "a list".into(),
            Some(b'{') => "an object".into(),
            Some(b'-' | b'0'..=b'9') => "a number".into(),
            Some(_) if self.text[self.at..].starts_with(b"null") => "null".into(),
            Some(_) if self.text[self.at..].starts_with(b"true") => "true".into(),
            Some(_) if self.text[self.at..].starts_with(b"false") => "false".into(),
            Some(byte) if byte.is_ascii_graphic() => format!("'{}'", byte as char),
            Some(byte) => format!("byte 0x{byte:02x}"),
        }
    }

    /// An error at this place.
    #[cold]
    pub(in crate::protocol) fn syntax(&self, what: impl std::fmt::Display) -> Error {
        syntax_at(self.at, what)
    }

    /// An error for nesting beyond `depth_max`.
    #[cold]
    pub(in crate::protocol) fn too_deep(&self, depth_max: usize) -> Error {
        Error::too_large(format!(
            "lists and objects nest deeper than {depth_max} at byte {} (--json-depth-max)",
            self.at
        ))
    }
}

/// An error at byte `at`.
#[cold]
pub(super) fn syntax_at(at: usize, what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("{what} at byte {at}"))
}

#[cold]
fn lone_surrogate(at: usize) -> Error {
    syntax_at(at, "a \\u escape is half of a surrogate pair without the other half")
}

/// As much of the caller's text as a message should repeat.
pub(super) fn shown(text: &str) -> &str {
    text.char_indices().nth(SHOWN_CHARS).map_or(text, |(end, _)| &text[..end])
}

/// How many bytes go before the first quote, backslash or control character. Eight at a time: BYTES elements can be whole
/// images in base64.
pub(super) fn plain_prefix(text: &[u8]) -> usize {
    const LOW: u64 = u64::MAX / 255;
    const HIGH: u64 = LOW << 7;
    // A byte is zero where subtracting one borrows into its high bit. Borrows from lower bytes make false hits only above
    // a true one, and the lowest hit is what counts.
    let zeroes = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let mut at = 0;
    while let Some(eight) = text[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        let controls = word.wrapping_sub(LOW * 0x20) & !word & HIGH;
        let hits = controls | zeroes(word ^ (LOW * u64::from(b'"'))) | zeroes(word ^ (LOW * u64::from(b'\\')));
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = text[at..].iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\');
    rest.map_or(text.len(), |rest| at + rest)
}
