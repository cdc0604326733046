//! Every function against the plain formula in FP64, with each width of vectors that this processor has.

use super::*;
use crate::lanes::{FORCED, Level, widest};

/// Runs `check` with each width.
fn with_each_width(check: impl Fn()) {
    let levels = [
        Level::Portable,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512,
    ];
    let widest = widest();
    let known = levels.iter().position(|level| *level == widest).unwrap();
    for level in &levels[..=known] {
        FORCED.set(Some(*level));
        check();
    }
    FORCED.set(None);
}

/// Numbers from -1 to 1, always the same.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[track_caller]
fn near(got: f32, expected: f64, within: f64) {
    assert!((f64::from(got) - expected).abs() <= within * expected.abs().max(1.0), "{got} instead of {expected}");
}

fn exact(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Gelu => x * phi(x),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
    }
}

/// The normal distribution, by its series around 0.
fn phi(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= x * x / f64::from(2 * n + 1);
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

const ACTIVATIONS: [Activation; 6] = [
    Activation::Identity,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Relu,
    Activation::Silu,
    Activation::Tanh,
];

#[test]
fn activations_are_their_formulas() {
    with_each_width(|| {
        for activation in ACTIVATIONS {
            let values: Vec<f32> = (-1000..=1003).map(|i| i as f32 / 50.0).collect();
            let mut made = values.clone();
            activate(&mut made, activation);
            for (&x, &y) in values.iter().zip(&made) {
                near(y, exact(activation, x.into()), 1e-6);
            }
            let mut extreme = [1e30, -1e30, f32::NAN, 0.0];
            activate(&mut extreme, activation);
            assert!(extreme[2].is_nan() || activation == Activation::Relu, "{activation:?}: {extreme:?}");
            assert!(extreme[0] > 0.0 && extreme[1] <= 0.0 && extreme[3] == 0.0, "{activation:?}: {extreme:?}");
        }
    });
}

#[test]
fn a_product_is_the_sum_of_products_whatever_the_sizes_and_what_becomes_of_it() {
    with_each_width(|| {
        for (count, inner, outer) in
            [(0, 3, 5), (1, 1, 1), (3, 0, 4), (5, 7, 31), (12, 16, 32), (13, 33, 65), (40, 384, 96)]
        {
            let (stride, out_stride) = (stride_for(inner), stride_for(outer));
            let rows = numbers(count * stride, 1);
            let columns = numbers(outer * inner, 2);
            let bias = numbers(outer, 3);
            let mut weights = Panels::new(outer, inner);
            weights.set_columns(0, &columns[..outer / 2 * inner]);
            weights.set_columns(outer / 2, &columns[outer / 2 * inner..]);
            let before = numbers(count * out_stride, 4);
            for finish in [Finish::Write, Finish::Add, Finish::Activate(Activation::Gelu)] {
                let mut out = before.clone();
                let from = Rows::new(&rows, count, inner, stride);
                multiply(from, &weights, Some(&bias), &mut RowsMut::new(&mut out, count, outer, out_stride), finish);
                for row in 0..count {
                    for column in 0..outer {
                        let pairs = from.row(row).iter().zip(&columns[column * inner..][..inner]);
                        let sum: f64 =
                            pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() + f64::from(bias[column]);
                        let at = row * out_stride + column;
                        let expected = match finish {
                            Finish::Write => sum,
                            Finish::Add => sum + f64::from(before[at]),
                            Finish::Activate(activation) => exact(activation, sum),
                        };
                        near(out[at], expected, 1e-5);
                    }
                    let beside = row * out_stride + outer..((row + 1) * out_stride).min(out.len());
                    assert_eq!(out[beside.clone()], before[beside], "nothing beside the columns is written");
                }
            }
        }
    });
}

#[test]
fn a_row_is_the_same_bits_whatever_rows_are_beside_it() {
    with_each_width(|| {
        let (inner, outer) = (50, 40);
        let rows = numbers(30 * 64, 5);
        let mut weights = Panels::new(outer, inner);
        weights.set_columns(0, &numbers(outer * inner, 6));
        let product = |first: usize, count: usize| {
            let mut out = vec![0.0; count * outer];
            let from = Rows::new(&rows[first * 64..], count, inner, 64);
            multiply(from, &weights, None, &mut RowsMut::new(&mut out, count, outer, outer), Finish::Write);
            out
        };
        let all = product(0, 30);
        for row in 0..30 {
            assert_eq!(product(row, 1), all[row * outer..][..outer], "row {row}");
        }
    });
}

#[test]
fn a_norm_has_the_mean_0_and_the_variance_1_before_it_is_weighed() {
    with_each_width(|| {
        for width in [1, 5, 16, 100, 384] {
            let rows = numbers(3 * width, 7);
            let (weight, bias) = (numbers(width, 8), numbers(width, 9));
            let mut out = vec![0.0; 3 * width];
            let from = Rows::new(&rows, 3, width, width);
            norm(from, &weight, Some(&bias), 1e-5, &mut RowsMut::new(&mut out, 3, width, width));
            for row in 0..3 {
                let values: Vec<f64> = from.row(row).iter().map(|&value| value.into()).collect();
                let mean = values.iter().sum::<f64>() / width as f64;
                let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / width as f64;
                for at in 0..width {
                    let off = (values[at] - mean) / (variance + 1e-5).sqrt();
                    near(out[row * width + at], off * f64::from(weight[at]) + f64::from(bias[at]), 1e-5);
                }
            }
        }
    });
}

#[test]
fn gates_and_rotations_are_their_formulas() {
    with_each_width(|| {
        let before = numbers(2 * 20, 10);
        let mut gated = before.clone();
        gate(&mut RowsMut::new(&mut gated, 2, 20, 20), Activation::Silu);
        for (row, at) in [(0, 0), (0, 9), (1, 4)] {
            let (x, by) = (f64::from(before[row * 20 + at]), f64::from(before[row * 20 + 10 + at]));
            near(gated[row * 20 + at], exact(Activation::Silu, x) * by, 1e-6);
        }
    });
    let mut turned = vec![1.0, 2.0, 3.0, 4.0, 1.0, 0.0, 0.0, 1.0];
    rotate(&mut turned, &[0.0, 1.0], &[1.0, 0.0]);
    assert_eq!(turned, [-3.0, 2.0, 1.0, 4.0, 0.0, 0.0, 1.0, 1.0]);
}

/// What `attend` computes, by its definition.
fn attended(heads: &Heads<'_>, projected: Rows<'_>, keys: &Keys<'_>, query: usize) -> Vec<f64> {
    let all = heads.count * heads.width;
    let place = |token: usize| i64::from(keys.places[token]);
    let kept: Vec<usize> = match keys.kept {
        Some(kept) => kept.iter().map(|&token| token as usize).collect(),
        None => (0..keys.places.len()).collect(),
    };
    let mut out = vec![0.0; all];
    for head in 0..heads.count {
        let part =
            |token: usize, which: usize| &projected.row(token)[which * all + head * heads.width..][..heads.width];
        let within =
            |token: &&usize| heads.window.is_none_or(|window| place(**token).abs_diff(place(query)) <= window as u64);
        let scores: Vec<(usize, f64)> = kept
            .iter()
            .filter(within)
            .map(|&token| {
                let pairs = part(query, 0).iter().zip(part(token, 1));
                let score =
                    pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() / (heads.width as f64).sqrt();
                let bias = heads.bias.map_or(0.0, |bias| {
                    let distances = bias.len() / heads.count;
                    let at = place(token) - place(query) + (distances as i64 - 1) / 2;
                    f64::from(bias[head * distances + at as usize])
                });
                (token, score + bias)
            })
            .collect();
        let sum: f64 = scores.iter().map(|(_, score)| score.exp()).sum();
        for (token, score) in scores {
            for (to, &value) in out[head * heads.width..].iter_mut().zip(part(token, 2)) {
                *to += score.exp() / sum * f64::from(value);
            }
        }
    }
    out
}

#[test]
fn attention_is_its_definition_with_masks_windows_and_distances() {
    with_each_width(|| {
        let mut scratch = AttentionScratch::default();
        for (tokens, count, width) in [(1, 1, 2), (9, 2, 8), (33, 3, 32), (70, 2, 40), (130, 1, 64)] {
            let all = count * width;
            let values = numbers(tokens * 3 * all, 11);
            let projected = Rows::new(&values, tokens, 3 * all, 3 * all);
            // Places with gaps, as rows have them whose masked tokens are left out.
            let places: Vec<u32> = (0..tokens as u32).map(|token| token + token / 4).collect();
            let reach = 2 * tokens;
            let bias = numbers(count * (2 * reach - 1), 12);
            let some: Vec<u32> = (0..tokens as u32).filter(|token| token % 3 != 1).collect();
            for window in [None, Some(0), Some(3), Some(50)] {
                for (kept, bias) in
                    [(None, None), (Some(&*some), None), (None, Some(&*bias)), (Some(&*some), Some(&*bias))]
                {
                    let heads = Heads { count, width, window, bias };
                    let keys = Keys { places: &places, kept };
                    let mut out = vec![9.0; tokens * all];
                    attend(&heads, projected, &keys, &mut scratch, &mut RowsMut::new(&mut out, tokens, all, all));
                    for query in 0..tokens {
                        let expected = attended(&heads, projected, &keys, query);
                        out[query * all..]
                            .iter()
                            .zip(&expected)
                            .for_each(|(&got, &expected)| near(got, expected, 1e-5));
                    }
                }
            }
        }
        let heads = Heads { count: 1, width: 2, window: None, bias: None };
        let mut out = vec![9.0; 2];
        let keys = Keys { places: &[0], kept: Some(&[]) };
        attend(&heads, Rows::new(&[1.0; 6], 1, 6, 6), &keys, &mut scratch, &mut RowsMut::new(&mut out, 1, 2, 2));
        assert_eq!(out, [0.0, 0.0], "nothing to attend to");
    });
}

#[test]
fn rows_that_are_not_there_are_refused() {
    let outside = [(2, 3, 3, 5), (2, 3, 2, 9), (usize::MAX, 2, 2, 9), (2, 3, usize::MAX, 9)];
    for (count, width, stride, length) in outside {
        let data = vec![0.0; length];
        let made = std::panic::catch_unwind(|| Rows::new(&data, count, width, stride).count());
        assert!(made.is_err(), "{count} rows of {width} at {stride} in {length}");
    }
    assert_eq!(Rows::new(&[0.0; 5], 2, 2, 3).row(1).len(), 2);
}

#[test]
fn panels_give_back_the_columns_that_they_were_given() {
    for (outer, inner) in [(1, 1), (31, 7), (32, 16), (33, 17), (70, 5), (3, 0), (0, 3)] {
        let columns: Vec<f32> = (0..outer * inner).map(|value| value as f32).collect();
        let mut panels = Panels::new(outer, inner);
        panels.set_columns(0, &columns);
        assert_eq!(panels.columns(), columns, "{outer} columns of {inner}");
    }
}
