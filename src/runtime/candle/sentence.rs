//! What sentence-transformers puts behind an encoder, per its `modules.json`: one vector for a row.

use std::path::{Component, Path};

use serde_json::Value;
use tensorgate_kernels::Activation;

use super::checkpoint::Checkpoint;
use super::config::{Config, read_json};
use super::head::{Head, Select, Step};
use crate::error::{Error, Result};

/// The list of modules.
const MODULES: &str = "modules.json";

/// Modules that are served, by the last word of their type.
const SERVED: &str = "Transformer, Pooling, Dense, Normalize";

/// The words for what a row's vector is made of, in the order in which sentence-transformers joins them; each with the flag
/// that older versions of it write.
const POOLINGS: [(&str, &str, Option<Select>); 6] = [
    ("cls", "pooling_mode_cls_token", Some(Select::First)),
    ("max", "pooling_mode_max_tokens", Some(Select::Largest)),
    ("mean", "pooling_mode_mean_tokens", Some(Select::Mean)),
    ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", Some(Select::MeanByRoot)),
    ("weightedmean", "pooling_mode_weightedmean_tokens", None),
    ("lasttoken", "pooling_mode_lasttoken", None),
];

/// The modules behind the encoder in `folder`, whose values have `width`; `None` where there is no `modules.json`, or nothing
/// behind the encoder in it.
///
/// # Errors
/// `ModelUnavailable` that names the file and what in it is not served.
pub(super) fn head(folder: &Path, width: usize) -> Result<Option<Head>> {
    let path = folder.join(MODULES);
    if !path.exists() {
        return Ok(None);
    }
    let wrong = |why: String| Error::unavailable(format!("{}: {why}", path.display()));
    let Value::Array(modules) = read_json(&path)? else { return Err(wrong("is no list of modules".into())) };
    let mut modules =
        modules.into_iter().map(|module| Config::of(&path, module)).collect::<Result<Vec<_>>>()?.into_iter();
    let Some(first) = modules.next() else { return Err(wrong("lists no modules".into())) };
    if kind(&first)? != "Transformer" || !below(folder, &first)?.eq(folder) {
        return Err(first.wrong("its first module has to be a Transformer with the path \"\""));
    }
    let (mut select, mut steps, mut width_now) = (Vec::new(), Vec::new(), width);
    for module in modules {
        let place = below(folder, &module)?;
        match (kind(&module)?, select.is_empty()) {
            ("Pooling", true) => {
                select = pooling(&Config::read(&place.join("config.json"))?, width)?;
                width_now = width * select.len();
            }
            ("Dense", false) => {
                let (step, outer) = dense(&place, width_now)?;
                steps.push(step);
                width_now = outer;
            }
            ("Normalize", false) => steps.push(Step::Unit),
            (other, _) => {
                return Err(module.wrong(format!("'{other}' is not served at its place: {SERVED} are, in this order")));
            }
        }
    }
    Ok((!select.is_empty()).then(|| Head::new(select, steps, width)))
}

/// The last word of a module's type, which is the name of a class with its package.
fn kind(module: &Config) -> Result<&str> {
    let kind = module.text("type")?.ok_or_else(|| module.wrong("a module has no 'type'"))?;
    Ok(kind.rsplit('.').next().unwrap_or(kind))
}

/// Where a module's files are: never outside of the model's folder.
fn below(folder: &Path, module: &Config) -> Result<std::path::PathBuf> {
    let path = module.text("path")?.unwrap_or_default();
    if Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Ok(if path.is_empty() { folder.to_owned() } else { folder.join(path) });
    }
    Err(module.wrong(format!("the path '{}' leads out of the model's folder", path.escape_debug())))
}

fn pooling(config: &Config, width: usize) -> Result<Vec<Select>> {
    for key in ["word_embedding_dimension", "embedding_dimension"] {
        let stated = config.size_or(key, width)?;
        if stated != width {
            return Err(config.wrong(format!("'{key}' is {stated}, and the encoder's width {width}")));
        }
    }
    let named: Vec<&str> = match config.get("pooling_mode") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().map(|name| name.as_str().unwrap_or("?")).collect(),
        Some(_) => return Err(config.wrong("'pooling_mode' is neither a string nor a list of them")),
        None => {
            let mut named = Vec::new();
            for (name, flag, _) in POOLINGS {
                if config.flag(flag)? {
                    named.push(name);
                }
            }
            named
        }
    };
    let select = |name: &&str| {
        let known = POOLINGS.iter().find(|(known, ..)| known == name).and_then(|(.., select)| *select);
        known.ok_or_else(|| {
            let served = POOLINGS.iter().filter(|(.., select)| select.is_some()).map(|(name, ..)| *name);
            config.wrong(format!("pooling '{name}' is not served, {} are", served.collect::<Vec<_>>().join(", ")))
        })
    };
    if named.is_empty() {
        return Err(config.wrong("no pooling is switched on"));
    }
    named.iter().map(select).collect()
}

/// A dense layer of values of `width`, and the width of what it gives.
fn dense(place: &Path, width: usize) -> Result<(Step, usize)> {
    let config = Config::read(&place.join("config.json"))?;
    let outer = config.size("out_features")?;
    let function = config.text("activation_function")?.unwrap_or("Tanh");
    let activation = match function.rsplit('.').next() {
        Some("Identity") => Activation::Identity,
        Some("Tanh") => Activation::Tanh,
        Some("ReLU") => Activation::Relu,
        Some("GELU") => Activation::Gelu,
        _ => {
            let why = "expected torch's Identity, Tanh, ReLU or GELU";
            return Err(config.wrong(format!("'activation_function' is '{function}', {why}")));
        }
    };
    let checkpoint = Checkpoint::open(place)?;
    let dense = checkpoint.weights().dense("linear", outer, width)?;
    Ok((Step::Dense(dense, activation), outer))
}
