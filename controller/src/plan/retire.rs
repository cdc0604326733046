//! A revision that has lost its last share stays until everybody who sends to it knows: routes and endpoints change later than we
//! write them, and a Service without pods would answer what is still on its way with errors.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Context;
use super::component::render_deployment;
use super::revision::Revision;
use crate::api::keys;
use crate::tree;

/// The Deployment of a revision that is no longer wanted, and what is left of the `retire_after` seconds that it stays; none once it
/// may go.
pub fn linger(cx: &Context<'_>, own: &Revision, retire_after: i64) -> Option<(Value, i64)> {
    let found = cx.children.iter().find(|child| child["kind"] == "Deployment" && tree::name(child) == own.name)?;
    if found["metadata"].get("deletionTimestamp").is_some() {
        return None;
    }
    let now: Timestamp = cx.now.parse().ok()?;
    let stated = tree::annotation(found, keys::RETIRED_AT);
    let since = stated.and_then(|at| at.parse::<Timestamp>().ok()).unwrap_or(now);
    let left = retire_after - (now.as_second() - since.as_second());
    if left <= 0 {
        return None;
    }
    let mut rest = render_deployment(own, Value::Null);
    rest["metadata"]["annotations"] = json!({keys::RETIRED_AT: stated.unwrap_or(cx.now)});
    rest["spec"]["replicas"] = json!(tree::number(found, &["spec", "replicas"]).unwrap_or(1));
    Some((rest, left))
}
