//! What is computed value by value, or row by row: activations, norms, rotations, softmax.

use crate::lanes::{Lanes, on_widest};
use crate::{Rows, RowsMut};

/// A function of single values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The value itself.
    Identity,
    /// x * Phi(x), with the normal distribution's exact Phi.
    Gelu,
    /// The tangent's approximation of it.
    GeluTanh,
    /// max(x, 0).
    Relu,
    /// x * sigmoid(x).
    Silu,
    /// The hyperbolic tangent.
    Tanh,
}

/// Replaces each value `$x` of `$values` by `$of`, a vector at a time; what is left behind the last whole one is computed in one of
/// its own. No function that takes a closure: closures are not compiled for the caller's vectors.
macro_rules! map {
    ($lanes:ident, $values:expr, $x:ident => $of:expr) => {{
        let values: &mut [f32] = $values;
        let whole = values.len() - values.len() % $lanes::WIDTH;
        // Places below `whole` have a vector's floats behind them.
        for at in (0..whole).step_by($lanes::WIDTH) {
            let place = values.as_mut_ptr().add(at);
            let $x = $lanes::load(place);
            $lanes::store(place, $of);
        }
        let rest = values.len() - whole;
        if rest > 0 {
            let mut last = [0.0_f32; 16];
            last[..rest].copy_from_slice(&values[whole..]);
            let $x = $lanes::load(last.as_ptr());
            $lanes::store(last.as_mut_ptr(), $of);
            values[whole..].copy_from_slice(&last[..rest]);
        }
    }};
}

/// Applies `activation` to each of `values`.
pub fn activate(values: &mut [f32], activation: Activation) {
    on_widest!(activate_row(values: &mut [f32], activation: Activation));
}

#[inline(always)]
pub(crate) unsafe fn activate_row<L: Lanes>(values: &mut [f32], activation: Activation) {
    // SAFETY: the caller's promise of the processor.
    unsafe {
        match activation {
            Activation::Identity => {}
            Activation::Gelu => map!(L, values, x => gelu::<L>(x)),
            Activation::GeluTanh => map!(L, values, x => gelu_tanh::<L>(x)),
            Activation::Relu => map!(L, values, x => L::max(x, L::splat(0.0))),
            Activation::Silu => {
                map!(L, values, x => L::div(x, L::add(L::splat(1.0), exp::<L>(L::sub(L::splat(0.0), x)))))
            }
            Activation::Tanh => map!(L, values, x => tanh::<L>(x)),
        }
    }
}

/// Multiplies the first half of each row, as `activation` of it, with the second, into the first.
///
/// # Panics
/// Where rows have no two halves.
pub fn gate(rows: &mut RowsMut<'_>, activation: Activation) {
    assert!(rows.width.is_multiple_of(2), "rows of {} have no halves", rows.width);
    let half = rows.width / 2;
    for row in 0..rows.count {
        let (gated, by) = rows.row_mut(row).split_at_mut(half);
        activate(gated, activation);
        for (gated, by) in gated.iter_mut().zip(by) {
            *gated *= *by;
        }
    }
}

/// Layer normalisation of each row of `from` into `to` (Ba et al., 2016), with the variance of all of its values.
///
/// # Panics
/// Where the sizes do not fit.
pub fn norm(from: Rows<'_>, weight: &[f32], bias: Option<&[f32]>, epsilon: f32, to: &mut RowsMut<'_>) {
    assert_eq!((from.width, from.count), (to.width, to.count), "rows to read and to write");
    for row in 0..from.count {
        to.row_mut(row).copy_from_slice(from.row(row));
    }
    norm_in_place(to, weight, bias, epsilon);
}

/// The same, of rows that are replaced; panics as [`norm`] does.
pub fn norm_in_place(rows: &mut RowsMut<'_>, weight: &[f32], bias: Option<&[f32]>, epsilon: f32) {
    assert!(weight.len() == rows.width && bias.is_none_or(|bias| bias.len() == rows.width), "a weight for each value");
    on_widest!(normalise(rows: &mut RowsMut<'_>, weight: &[f32], bias: Option<&[f32]>, epsilon: f32));
}

#[inline(always)]
unsafe fn normalise<L: Lanes>(rows: &mut RowsMut<'_>, weight: &[f32], bias: Option<&[f32]>, epsilon: f32) {
    let width = rows.width;
    let whole = width - width % L::WIDTH;
    for index in 0..rows.count {
        let row = rows.row_mut(index);
        // SAFETY: the caller's promise of the processor; places below `whole` have a vector's floats behind them, in the row
        // and in weight and bias, which are as long.
        unsafe {
            let mut sums = L::splat(0.0);
            for at in (0..whole).step_by(L::WIDTH) {
                sums = L::add(sums, L::load(row.as_ptr().add(at)));
            }
            let mean = (L::sum(sums) + row[whole..].iter().sum::<f32>()) / width as f32;
            let mut squares = L::splat(0.0);
            for at in (0..whole).step_by(L::WIDTH) {
                let off = L::sub(L::load(row.as_ptr().add(at)), L::splat(mean));
                squares = L::fma(off, off, squares);
            }
            let rest: f32 = row[whole..].iter().map(|value| (value - mean) * (value - mean)).sum();
            let scale = 1.0 / ((L::sum(squares) + rest) / width as f32 + epsilon).sqrt();
            for at in (0..whole).step_by(L::WIDTH) {
                let place = row.as_mut_ptr().add(at);
                let off = L::mul(L::sub(L::load(place), L::splat(mean)), L::splat(scale));
                let bias = bias.map_or(L::splat(0.0), |bias| L::load(bias.as_ptr().add(at)));
                L::store(place, L::fma(off, L::load(weight.as_ptr().add(at)), bias));
            }
            for at in whole..width {
                row[at] = (row[at] - mean) * scale * weight[at] + bias.map_or(0.0, |bias| bias[at]);
            }
        }
    }
}

/// Turns pairs of values by their place in the text (Su et al., 2021): value i of a head and the one half a head behind it,
/// with the cosines and sines of one position, half a head of each.
///
/// # Panics
/// Where `values` are no whole heads.
pub fn rotate(values: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let half = cosines.len();
    assert!(sines.len() == half && half > 0 && values.len().is_multiple_of(2 * half), "whole heads of {}", 2 * half);
    for head in values.chunks_exact_mut(2 * half) {
        let (first, second) = head.split_at_mut(half);
        for i in 0..half {
            let (a, b) = (first[i], second[i]);
            first[i] = a * cosines[i] - b * sines[i];
            second[i] = b * cosines[i] + a * sines[i];
        }
    }
}

/// The softmax of `values` in place.
#[inline(always)]
pub(crate) unsafe fn softmax<L: Lanes>(values: &mut [f32]) {
    let whole = values.len() - values.len() % L::WIDTH;
    // SAFETY: the caller's promise of the processor; places below `whole` have a vector's floats behind them.
    unsafe {
        let mut largest = L::splat(f32::NEG_INFINITY);
        for at in (0..whole).step_by(L::WIDTH) {
            largest = L::max(largest, L::load(values.as_ptr().add(at)));
        }
        let largest = values[whole..].iter().copied().fold(L::largest(largest), f32::max);
        map!(L, values, x => exp::<L>(L::sub(x, L::splat(largest))));
        let mut sums = L::splat(0.0);
        for at in (0..whole).step_by(L::WIDTH) {
            sums = L::add(sums, L::load(values.as_ptr().add(at)));
        }
        let sum = L::sum(sums) + values[whole..].iter().sum::<f32>();
        map!(L, values, x => L::mul(x, L::splat(1.0 / sum)));
    }
}

/// e^x, to about one unit in the last place: 2^n times a polynomial of what is left (Cephes, expf).
#[inline(always)]
unsafe fn exp<L: Lanes>(x: L::Vector) -> L::Vector {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const TERMS: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];
    // SAFETY: the caller's promise of the processor.
    unsafe {
        // Below the first nothing is left, and n stays within what `scale` takes; NaN stays what it is, as the second operand.
        let x = L::min(L::splat(88.0), L::max(L::splat(-87.0), x));
        let n = L::round(L::mul(x, L::splat(std::f32::consts::LOG2_E)));
        let rest = L::fma(n, L::splat(-LN2_LOW), L::fma(n, L::splat(-LN2_HIGH), x));
        let mut sum = L::splat(TERMS[0]);
        for term in &TERMS[1..] {
            sum = L::fma(sum, rest, L::splat(*term));
        }
        L::scale(L::add(L::fma(sum, L::mul(rest, rest), rest), L::splat(1.0)), n)
    }
}

/// Phi of the normal distribution by Abramowitz and Stegun, 7.1.26: off by 1.5e-7 at most.
#[inline(always)]
unsafe fn gelu<L: Lanes>(x: L::Vector) -> L::Vector {
    const P: f32 = 0.327_591_1;
    const TERMS: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    // SAFETY: the caller's promise of the processor.
    unsafe {
        let size = L::max(x, L::sub(L::splat(0.0), x));
        let z = L::mul(size, L::splat(std::f32::consts::FRAC_1_SQRT_2));
        let t = L::div(L::splat(1.0), L::fma(L::splat(P), z, L::splat(1.0)));
        let mut sum = L::splat(TERMS[0]);
        for term in &TERMS[1..] {
            sum = L::fma(sum, t, L::splat(*term));
        }
        // What lies beyond |x|, half of erfc(z): max(x, 0) - |x| * beyond is x * Phi(x) on both sides of 0.
        let beyond = L::mul(L::mul(L::mul(sum, t), L::splat(0.5)), exp::<L>(L::sub(L::splat(0.0), L::mul(z, z))));
        L::sub(L::max(x, L::splat(0.0)), L::mul(size, beyond))
    }
}

#[inline(always)]
unsafe fn gelu_tanh<L: Lanes>(x: L::Vector) -> L::Vector {
    /// The root of 2/pi.
    const ROOT: f32 = 0.797_884_6;
    // SAFETY: the caller's promise of the processor.
    unsafe {
        let cube = L::mul(L::mul(x, x), x);
        let inner = L::mul(L::splat(ROOT), L::fma(L::splat(0.044_715), cube, x));
        let half = L::mul(L::splat(0.5), x);
        L::fma(half, tanh::<L>(inner), half)
    }
}

/// 1 - 2 / (e^2x + 1), whose error is absolute: what is small is a difference of what is not.
#[inline(always)]
unsafe fn tanh<L: Lanes>(x: L::Vector) -> L::Vector {
    // SAFETY: the caller's promise of the processor.
    unsafe {
        let grown = exp::<L>(L::add(x, x));
        L::sub(L::splat(1.0), L::div(L::splat(2.0), L::add(grown, L::splat(1.0))))
    }
}

/// The floats that `bytes` are, little-endian.
///
/// # Panics
/// Where they are not as many as `values`.
pub fn read_floats(bytes: &[u8], values: &mut [f32]) {
    assert_eq!(bytes.len(), size_of_val(values), "four bytes for each value");
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
        *value = f32::from_le_bytes(*bytes);
    }
}
