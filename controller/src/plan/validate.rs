//! What the schema's validations say too, for clusters whose definitions are not ours, and what only names and modes tell.

use std::collections::BTreeSet;

use serde_json::Value;

use super::fault::Fault;
use super::network::TIMEOUT_MAX;
use crate::api::keys;
use crate::tree;

/// The longest name of a Service.
const NAME_MAX: usize = 63;

/// Refuses what contradicts itself.
///
/// # Errors
/// With the first fault, and what would be right.
pub fn check(service: &Value) -> Result<(), Fault> {
    let spec = &service["spec"];
    if tree::annotation(service, keys::DEPLOYMENT_MODE) == Some("ModelMesh") {
        return Err(Fault::invalid(format!("{}: ModelMesh is not served; leave it out", keys::DEPLOYMENT_MODE)));
    }
    if !spec["predictor"].is_object() {
        return Err(Fault::invalid("spec.predictor is missing"));
    }
    let tracks = tree::list(spec, &["canary"]).iter().map(|canary| &canary["predictor"]).chain([&spec["predictor"]]);
    let longest = tracks.map(|track| tree::text(track, &["name"]).map_or(0, |name| name.len() + 1)).max().unwrap_or(0);
    // `-transformer-` and the five digits of a revision.
    let most = NAME_MAX.saturating_sub(longest + "-transformer-00001".len());
    let name = tree::name(service);
    check_label("metadata.name", name, true)?;
    if name.len() > most {
        return Err(Fault::invalid(format!(
            "metadata.name '{name}' is too long for the names of its Services: at most {most} letters"
        )));
    }
    if let Some(name) = tree::text(spec, &["predictor", "name"]) {
        check_label("predictor.name", name, false)?;
    }
    for kind in super::COMPONENTS {
        if spec[kind].get("workerSpec").is_some_and(|own| !own.is_null()) {
            return Err(Fault::invalid(format!(
                "{kind}.workerSpec: a model over several nodes is not served; leave it out"
            )));
        }
        if let Some(seconds) = tree::number(spec, &[kind, "timeout"]).filter(|own| !(0..=TIMEOUT_MAX).contains(own)) {
            return Err(Fault::invalid(format!(
                "{kind}.timeout is {seconds}; 0 to {TIMEOUT_MAX} seconds are possible"
            )));
        }
        if let Some(percent) =
            tree::number(spec, &[kind, "canaryTrafficPercent"]).filter(|own| !(0..=100).contains(own))
        {
            return Err(Fault::invalid(format!("{kind}.canaryTrafficPercent is {percent}; 0 to 100 are possible")));
        }
    }
    canaries(spec)
}

/// That a name may be part of a Service's (DNS-1035): the API server takes names of resources that it refuses for Services.
fn check_label(field: &str, name: &str, is_first: bool) -> Result<(), Fault> {
    let plain = name.bytes().all(|own| own.is_ascii_lowercase() || own.is_ascii_digit() || own == b'-');
    let begins = !is_first || name.starts_with(|own: char| own.is_ascii_lowercase());
    if plain && begins && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(());
    }
    let first = if is_first { ", a letter first" } else { "" };
    Err(Fault::invalid(format!("{field} '{name}' is no part of a Service's name: a-z, 0-9 and - are possible{first}")))
}

fn canaries(spec: &Value) -> Result<(), Fault> {
    let canaries = tree::list(spec, &["canary"]);
    if canaries.is_empty() {
        return Ok(());
    }
    if tree::number(spec, &["predictor", "canaryTrafficPercent"]).is_some() {
        return Err(Fault::invalid("canary and predictor.canaryTrafficPercent exclude each other; use one of them"));
    }
    let stable = tree::text(spec, &["predictor", "name"]);
    let stable_min = tree::number(spec, &["predictor", "minReplicas"]).unwrap_or(1);
    let mut names = BTreeSet::new();
    let mut sum = 0;
    for (index, canary) in canaries.iter().enumerate() {
        let predictor = &canary["predictor"];
        let Some(name) = tree::text(predictor, &["name"]) else {
            return Err(Fault::invalid(format!("canary[{index}].predictor.name is missing")));
        };
        check_label(&format!("canary[{index}].predictor.name"), name, false)?;
        if stable == Some(name) || !names.insert(name) {
            return Err(Fault::invalid(format!(
                "canary[{index}].predictor.name: '{name}' is taken; each needs a name of its own"
            )));
        }
        for field in ["maxReplicas", "scaleTarget", "scaleMetric", "autoScaling", "workerSpec", "canaryTrafficPercent"]
        {
            if predictor.get(field).is_some_and(|own| !own.is_null()) {
                return Err(Fault::invalid(format!(
                    "canary '{name}': {field} cannot be set; it has as many replicas as its share asks for, or minReplicas"
                )));
            }
        }
        if tree::number(predictor, &["minReplicas"]).is_some_and(|own| own > stable_min.max(1)) {
            return Err(Fault::invalid(format!(
                "canary '{name}': minReplicas is above the stable predictor's {stable_min}"
            )));
        }
        let percent = tree::number(canary, &["trafficPercent"]).unwrap_or(0);
        if !(0..=100).contains(&percent) {
            return Err(Fault::invalid(format!("canary '{name}': trafficPercent is {percent}; 0 to 100 are possible")));
        }
        sum += percent;
    }
    if sum > 100 {
        return Err(Fault::invalid(format!(
            "the trafficPercent of all canaries add up to {sum}; at most 100 are possible"
        )));
    }
    Ok(())
}
