//! JSON numbers: scanned eight digits at a time, then turned into the one value of a datatype that is nearest, or refused.

use half::{bf16, f16};

use super::reader::{Reader, syntax_at};
use crate::error::{Error, Result};

/// Powers of ten that an f64 holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Most digits whose value surely fits i64.
const EXACT_DIGITS: usize = 18;

/// A number as its digits say it: mantissa times ten to the exponent.
#[derive(Clone, Copy)]
pub(super) struct Decimal<'a> {
    /// The text, sign to last digit.
    pub(super) token: &'a [u8],
    negative: bool,
    /// All digits as one whole number; meaningless where there are more than [`EXACT_DIGITS`].
    mantissa: u64,
    /// How many digits those are, without a zero before the point.
    digits: usize,
    exponent: i32,
    /// Whether there is neither a point nor an exponent.
    pub(super) plain: bool,
}

impl<'a> Reader<'a> {
    /// Reads a number by RFC 8259's grammar: no leading zeros, no leading plus, digits on both sides of the point.
    pub(super) fn number(&mut self) -> Result<Decimal<'a>> {
        self.peek();
        let number = scan(self.text(), self.at()).ok_or_else(|| self.malformed())?;
        self.set_at(self.at() + number.token.len());
        Ok(number)
    }

    /// Reads a whole number, however it is written.
    pub(in crate::protocol) fn whole(&mut self) -> Result<i64> {
        let start = self.at();
        let number = self.number()?;
        let whole = number.to_whole().ok().and_then(|whole| i64::try_from(whole).ok());
        whole.ok_or_else(|| syntax_at(start, format_args!("expected a whole number, got {}", number.shown())))
    }

    /// Why the number that should stand here is none.
    #[cold]
    fn malformed(&mut self) -> Error {
        let (text, start) = (self.text(), self.at());
        let first = start + usize::from(text.get(start) == Some(&b'-'));
        let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let whole = digits(first);
        if whole == 0 {
            return self.unexpected("a number");
        }
        if whole > 1 && text[first] == b'0' {
            return syntax_at(start, "a number starts with a zero that it does not need,");
        }
        let point = first + whole;
        if text.get(point) == Some(&b'.') && digits(point + 1) == 0 {
            return syntax_at(point, "a number has no digit behind its point,");
        }
        syntax_at(start, "a number has no digit in its exponent,")
    }
}

/// The number that starts at `at`; `None` where it is malformed.
#[inline(always)]
pub(super) fn scan(text: &[u8], start: usize) -> Option<Decimal<'_>> {
    let negative = text.get(start) == Some(&b'-');
    let first = start + usize::from(negative);
    let mut mantissa = 0_u64;
    let mut at = skip_digits(text, first, &mut mantissa);
    let whole = at - first;
    let starts_with_zero = text.get(first) == Some(&b'0');
    if whole == 0 || (whole > 1 && starts_with_zero) {
        return None;
    }
    // The zero before a point adds nothing: doubles of 17 digits are written with one, and most data are below 1.
    let mut digits = whole - usize::from(starts_with_zero);
    let (mut exponent, mut plain) = (0, true);
    if text.get(at) == Some(&b'.') {
        plain = false;
        let end = skip_digits(text, at + 1, &mut mantissa);
        let fraction = end - (at + 1);
        if fraction == 0 {
            return None;
        }
        digits += fraction;
        // Wraps only where the token is 2 GiB long; with so many digits nothing looks at the exponent but `whole`, which
        // then sees far too many digits as well.
        exponent = -(fraction as i32);
        at = end;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        plain = false;
        let (end, power) = explicit_exponent(text, at)?;
        exponent = exponent.saturating_add(power);
        at = end;
    }
    Some(Decimal { token: &text[start..at], negative, mantissa, digits, exponent, plain })
}

/// Adds the digits from `at` on to `value` and returns where they end. Wraps where there are too many.
#[inline(always)]
fn skip_digits(text: &[u8], mut at: usize, value: &mut u64) -> usize {
    const STEPS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
    while let Some(eight) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight) ^ 0x3030_3030_3030_3030;
        // A byte above 9 carries into its high bit. A carry out of a byte reaches only those behind the first such byte.
        let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
        let count = (others.trailing_zeros() / 8) as usize;
        if count == 0 {
            return at;
        }
        // The digits move to the end and zeros come before them, so that any count is summed as eight.
        *value = value.wrapping_mul(STEPS[count]).wrapping_add(sum_of_eight(word << (64 - 8 * count)));
        at += count;
        if count < 8 {
            return at;
        }
    }
    while let Some(digit) = text.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|&digit| digit < 10) {
        *value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    at
}

/// The value of eight digits, each a byte of 0 to 9, first digit in the lowest byte: neighbours are joined three times
/// (D. Lemire, "Quickly parsing eight digits", 2018).
#[inline(always)]
fn sum_of_eight(word: u64) -> u64 {
    const PAIRS: u64 = 0x0000_00ff_0000_00ff;
    let word = word.wrapping_mul(10).wrapping_add(word >> 8);
    let upper = (word & PAIRS).wrapping_mul(0x000f_4240_0000_0064);
    let lower = ((word >> 16) & PAIRS).wrapping_mul(0x0000_2710_0000_0001);
    upper.wrapping_add(lower) >> 32
}

/// Where the exponent whose letter stands at `at` ends, and its value, which saturates; `None` where it has no digit.
#[inline(never)]
fn explicit_exponent(text: &[u8], at: usize) -> Option<(usize, i32)> {
    let negative = text.get(at + 1) == Some(&b'-');
    let first = at + 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
    let digits = text[first..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let end = first + digits;
    let power = text[first..end]
        .iter()
        .fold(0_i32, |power, byte| power.saturating_mul(10).saturating_add(i32::from(byte - b'0')));
    Some((end, if negative { -power } else { power }))
}

impl Decimal<'_> {
    /// The token, cut short, for messages.
    pub(super) fn shown(&self) -> String {
        // A number is ASCII.
        let shown = String::from_utf8_lossy(&self.token[..self.token.len().min(40)]);
        if self.token.len() > 40 { format!("{shown}...") } else { shown.into_owned() }
    }

    /// `value`, which is not negative, with this number's sign. Without a branch: signs are as random as the data.
    #[inline(always)]
    fn signed(&self, value: f64) -> f64 {
        f64::from_bits(value.to_bits() | u64::from(self.negative) << 63)
    }

    /// The nearest f64; infinite beyond its range.
    #[inline(always)]
    pub(super) fn to_f64(self) -> f64 {
        // Both operands are exact, so that one division or multiplication rounds once (W. Clinger, 1990).
        if self.digits <= EXACT_DIGITS && self.mantissa <= 1 << 53 {
            match self.exponent {
                power @ 0..=22 => return self.signed(self.mantissa as i64 as f64 * POWERS[power as usize]),
                power @ -22..=-1 => return self.signed(self.mantissa as i64 as f64 / POWERS[-power as usize]),
                _ => {}
            }
        }
        self.parsed()
    }

    /// The nearest f32; infinite beyond its range.
    ///
    /// Goes by f64, where conversion and division each err by at most half a unit in the last place. Rounding that to f32
    /// can go wrong only beside the middle between two f32s, where the 29 bits that get lost are 1 and 28 zeros; within
    /// four units of it, and below f32's normal range where more bits get lost, the exact way decides.
    #[inline(always)]
    pub(super) fn to_f32(self) -> f32 {
        if self.digits <= EXACT_DIGITS && (-22..=22).contains(&self.exponent) {
            let mantissa = self.mantissa as i64 as f64;
            let power = self.exponent;
            let wide = if power < 0 { mantissa / POWERS[-power as usize] } else { mantissa * POWERS[power as usize] };
            let lost = wide.to_bits() & 0x1fff_ffff;
            let safe = lost.wrapping_sub(0x1000_0000 - 4) > 8 && wide >= f64::from(f32::MIN_POSITIVE);
            if safe || self.mantissa == 0 {
                return self.signed(wide) as f32;
            }
        }
        self.parsed()
    }

    /// The nearest FP16 value to the nearest f64; infinite beyond its range.
    pub(super) fn to_f16(self) -> f16 {
        f16::from_f32(round_to_odd(self.to_f64()))
    }

    /// The nearest BF16 value to the nearest f64; infinite beyond its range.
    pub(super) fn to_bf16(self) -> bf16 {
        bf16::from_f32(round_to_odd(self.to_f64()))
    }

    #[inline(never)]
    fn parsed<T: fast_float2::FastFloat>(self) -> T {
        // The token follows JSON's grammar, which is within fast_float2's.
        fast_float2::parse(self.token).expect("a JSON number is a float")
    }

    /// The whole number that this is, where it is one and fits 65 bits: sign and magnitude. `1.0` and `1e2` are whole.
    #[inline(always)]
    pub(super) fn to_whole(self) -> Result<i128, Refusal> {
        let magnitude = if self.plain && self.digits <= EXACT_DIGITS { self.mantissa } else { self.whole_magnitude()? };
        Ok(if self.negative { -i128::from(magnitude) } else { i128::from(magnitude) })
    }

    #[cold]
    fn whole_magnitude(self) -> Result<u64, Refusal> {
        let digits = || {
            let before_exponent = self.token.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
            before_exponent.filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0')
        };
        let leading = digits().take_while(|&digit| digit == 0).count();
        let significant = digits().count() - leading;
        if significant == 0 {
            return Ok(0);
        }
        let trailing = digits().fold(0, |run, digit| if digit == 0 { run + 1 } else { 0 });
        let power = self.exponent.saturating_add(i32::try_from(trailing).unwrap_or(i32::MAX));
        let power = usize::try_from(power).map_err(|_| Refusal::Fraction)?;
        // u64 has at most 20 digits.
        let kept = significant - trailing;
        if kept.saturating_add(power) > 20 {
            return Err(Refusal::Range);
        }
        let value = digits().skip(leading).take(kept).chain(std::iter::repeat_n(0, power));
        let value = value.fold(0_u128, |value, digit| value * 10 + u128::from(digit));
        u64::try_from(value).map_err(|_| Refusal::Range)
    }
}

/// Why a number is no value of an integer datatype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has a part behind the point.
    Fraction,
    /// It is too large or too small.
    Range,
}

/// `value` as f32, where a value between two f32s becomes the one with an odd last bit. That keeps a trace of what was cut
/// off, so that rounding the result to 11 bits or fewer is as if from `value` itself; half's own f64 conversions round
/// twice or cut, depending on the machine.
fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let bits = nearest.to_bits();
    if f64::from(nearest) == value || bits & 1 == 1 {
        return nearest;
    }
    let away = f64::from(nearest).abs() > value.abs();
    f32::from_bits(if away { bits - 1 } else { bits + 1 })
}
