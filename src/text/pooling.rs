//! From the vectors of a text's tokens to one vector for the text, as sentence-transformers has it (its `models/Pooling.py`).

use serde_json::{Map, Value};

/// How vectors become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The first token's.
    First,
    /// The greatest value in each place.
    Max,
    /// The mean.
    Mean,
    /// The sum by the root of the number of tokens.
    MeanSqrt,
    /// The mean weighted by the place, the last token most.
    WeightedMean,
    /// The last token's.
    Last,
}

/// In the order in which sentence-transformers puts them one behind the other, by the names in its settings: as a switch, and as
/// newer ones have it.
const MODES: [(&str, &str, Pooling); 6] = [
    ("pooling_mode_cls_token", "cls", Pooling::First),
    ("pooling_mode_max_tokens", "max", Pooling::Max),
    ("pooling_mode_mean_tokens", "mean", Pooling::Mean),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", Pooling::MeanSqrt),
    ("pooling_mode_weightedmean_tokens", "weightedmean", Pooling::WeightedMean),
    ("pooling_mode_lasttoken", "lasttoken", Pooling::Last),
];

impl Pooling {
    /// What the settings of a pooling module say.
    pub(super) fn of_settings(settings: &Map<String, Value>) -> Result<Vec<Self>, String> {
        let known = || MODES.map(|(_, name, _)| name).join(", ");
        let named = |name: &str| {
            let mode = MODES.iter().find(|(_, known, _)| *known == name).map(|(.., mode)| *mode);
            mode.ok_or_else(|| format!("pooling_mode is '{name}', expected one of {}", known()))
        };
        match settings.get("pooling_mode") {
            Some(Value::String(name)) => return Ok(vec![named(name)?]),
            Some(Value::Array(names)) if !names.is_empty() => {
                return names.iter().map(|name| named(name.as_str().unwrap_or_default())).collect();
            }
            _ => {}
        }
        let is_on = |key: &str| settings.get(key).and_then(Value::as_bool).unwrap_or(false);
        let modes: Vec<Self> = MODES.iter().filter(|(key, ..)| is_on(key)).map(|(.., mode)| *mode).collect();
        // The switches' own defaults: only the mean is on.
        Ok(if modes.is_empty() { vec![Self::Mean] } else { modes })
    }

    /// Appends what `tokens`, at least one vector of `width` values each, become.
    pub(super) fn pool(self, tokens: &[f32], width: usize, out: &mut Vec<f32>) {
        let count = tokens.len() / width;
        match self {
            Self::First => out.extend_from_slice(&tokens[..width]),
            Self::Last => out.extend_from_slice(&tokens[tokens.len() - width..]),
            Self::Max => {
                let start = out.len();
                out.extend_from_slice(&tokens[..width]);
                for token in tokens.chunks_exact(width).skip(1) {
                    out[start..].iter_mut().zip(token).for_each(|(most, value)| *most = most.max(*value));
                }
            }
            Self::Mean => weighted(tokens, width, |_| 1.0, count as f32, out),
            Self::MeanSqrt => weighted(tokens, width, |_| 1.0, (count as f32).sqrt(), out),
            Self::WeightedMean => {
                let all = (count * (count + 1) / 2) as f32;
                weighted(tokens, width, |place| (place + 1) as f32, all, out);
            }
        }
    }
}

fn weighted(tokens: &[f32], width: usize, weight: impl Fn(usize) -> f32, all: f32, out: &mut Vec<f32>) {
    let start = out.len();
    out.resize(start + width, 0.0);
    for (place, token) in tokens.chunks_exact(width).enumerate() {
        let weight = weight(place);
        out[start..].iter_mut().zip(token).for_each(|(sum, value)| *sum += weight * value);
    }
    out[start..].iter_mut().for_each(|sum| *sum /= all);
}

/// Makes `vector` have the length 1; one of length 0 stays (torch's `normalize`).
pub(super) fn normalize(vector: &mut [f32]) {
    const LEAST: f32 = 1e-12;
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(LEAST);
    vector.iter_mut().for_each(|value| *value /= length);
}
