//! Patterns of `*` and `?`, in which `\` takes a letter as it is.

/// Comparisons of a letter for one text, so that no pattern makes a long text expensive; GJSON has such a bound too.
const STEPS_MAX: usize = 1_000_000;

/// A pattern that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    letters: Vec<Letter>,
    /// The text, where it is one and no pattern.
    plain: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Letter {
    /// `*`: any number of any letters.
    Many,
    /// `?`: any letter.
    One,
    This(char),
}

impl Pattern {
    /// Reads a pattern; every text is one.
    pub fn parse(text: &str) -> Self {
        let mut letters = Vec::new();
        let mut rest = text.chars();
        while let Some(letter) = rest.next() {
            letters.push(match letter {
                '*' => Letter::Many,
                '?' => Letter::One,
                '\\' => Letter::This(rest.next().unwrap_or('\\')),
                other => Letter::This(other),
            });
        }
        let plain =
            letters.iter().map(|letter| if let Letter::This(own) = letter { Some(*own) } else { None }).collect();
        Self { letters, plain }
    }

    /// The only text that fits, where there is only one.
    pub fn plain(&self) -> Option<&str> {
        self.plain.as_deref()
    }

    /// Whether a text fits, the whole of it.
    pub fn fits(&self, text: &str) -> bool {
        if let Some(plain) = &self.plain {
            return plain == text;
        }
        let (mut at, mut rest) = (0, text.chars());
        // Behind the last `*`, and the text where it began to stand for nothing.
        let mut again: Option<(usize, std::str::Chars<'_>)> = None;
        for _ in 0..STEPS_MAX {
            let here = rest.clone();
            match (self.letters.get(at), rest.next()) {
                (None, None) => return true,
                (Some(Letter::Many), _) => {
                    at += 1;
                    again = Some((at, here.clone()));
                    rest = here;
                }
                (Some(Letter::One), Some(_)) => at += 1,
                (Some(Letter::This(wanted)), Some(letter)) if *wanted == letter => at += 1,
                _ => {
                    let Some((behind, mut from)) = again else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    at = behind;
                    rest = from.clone();
                    again = Some((behind, from));
                }
            }
        }
        false
    }
}

/// Whether `text` fits `pattern`.
pub fn fits(pattern: &str, text: &str) -> bool {
    Pattern::parse(pattern).fits(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the definition, without an eye to time.
    fn by_definition(pattern: &[Letter], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((Letter::Many, rest)), _) => (0..=text.len()).any(|from| by_definition(rest, &text[from..])),
            (Some((Letter::One, rest)), Some((_, text))) => by_definition(rest, text),
            (Some((Letter::This(wanted), rest)), Some((letter, text))) => wanted == letter && by_definition(rest, text),
            _ => false,
        }
    }

    #[test]
    fn letters_that_are_escaped_are_themselves() {
        assert!(fits(r"a\*", "a*") && !fits(r"a\*", "ab"));
        assert!(fits("*é?", "caféx"));
    }

    proptest! {
        #[test]
        fn a_text_fits_as_the_definition_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let letters: Vec<char> = text.chars().collect();
            prop_assert_eq!(fits(&pattern, &text), by_definition(&Pattern::parse(&pattern).letters, &letters));
        }
    }
}
