//! Revisions: what a component's pods were made from, numbered, kept as ControllerRevisions. A frozen revision is made from
//! what is kept, so neither an edit nor a newer controller changes it.

use serde_json::{Value, json};

use super::label;
use crate::api::keys;
use crate::tree;

/// One rollout of a component.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// The name of its Deployment, Service and ControllerRevision.
    pub name: String,
    /// Counted up within the component.
    pub number: i64,
    /// Digest of all that its pods are made from.
    pub hash: String,
    /// The pods.
    pub template: Value,
    /// The predictor's `name` in the spec, if it has one.
    pub track: Option<String>,
}

/// The revisions of a component that are kept, the oldest first.
pub fn kept(children: &[&Value], component: &str) -> Vec<Revision> {
    let own = children.iter().filter(|child| {
        child["kind"] == "ControllerRevision" && tree::label(child, keys::COMPONENT) == Some(component)
    });
    let read = |child: &&&Value| {
        Some(Revision {
            name: tree::name(child).to_owned(),
            number: tree::number(child, &["revision"])?,
            hash: tree::label(child, keys::HASH)?.to_owned(),
            template: tree::at(child, &["data", "template"]).clone(),
            track: tree::text(child, &["data", "track"]).map(str::to_owned),
        })
    };
    let mut revisions: Vec<Revision> = own.filter_map(|child| read(&child)).collect();
    revisions.sort_by_key(|revision| revision.number);
    revisions
}

/// The revision for pods made from `inputs`: one that is kept, if it was made from the same, else a new one, which is added.
/// `template` gets the labels by which the revision's pods are found.
pub fn resolve(
    revisions: &mut Vec<Revision>,
    service: &str,
    component: &str,
    track: Option<&str>,
    inputs: &Value,
    template: Value,
) -> Revision {
    let hash = digest(inputs);
    if let Some(same) = revisions.iter().rev().find(|own| own.hash == hash && own.track.as_deref() == track) {
        return same.clone();
    }
    let number = revisions.last().map_or(0, |newest| newest.number) + 1;
    let infix = track.map(|track| format!("-{track}")).unwrap_or_default();
    let name = format!("{service}{infix}-{component}-{number:05}");
    let mut template = template;
    let labels = tree::object_mut(tree::field(&mut template, "metadata"), "labels");
    labels.insert(keys::APP.into(), json!(app(&name)));
    labels.insert(keys::REVISION.into(), json!(name));
    let revision = Revision { name, number, hash, template, track: track.map(str::to_owned) };
    revisions.push(revision.clone());
    revision
}

/// What a revision's pods carry as `app`.
pub fn app(revision: &str) -> String {
    label::fitted(&format!("isvc.{revision}"))
}

/// The object that a revision is kept as.
pub fn render(revision: &Revision, component: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": revision.name, "labels": {keys::COMPONENT: component, keys::HASH: revision.hash}},
        "revision": revision.number,
        "data": {"template": revision.template, "track": revision.track.as_deref().unwrap_or("")},
    })
}

/// FNV-1a of 64 bits over the tree's text, in which fields are sorted.
pub fn digest(tree: &Value) -> String {
    let hash = tree
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}
