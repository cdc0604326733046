//! The objects of an API server in memory: versions, generations, conflicts, subresources, ownership of fields, deletion by owner,
//! and the events that watches read. Knows no HTTP.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::defaults;
use super::ownership::{self, Path};
use super::rules;

/// Kind, namespace and name.
pub(crate) type Key = (String, String, String);

/// What a watch sees.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) kind: &'static str,
    pub(crate) key: Key,
    pub(crate) object: Value,
}

/// A refusal: HTTP status, reason and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

fn refuse<T>(code: u16, reason: &'static str, message: String) -> Result<T, Refusal> {
    Err(Refusal { code, reason, message })
}

/// How many changes are kept for watches that start in the past.
const HISTORY: usize = 1000;

#[derive(Debug, Default)]
pub(crate) struct Store {
    objects: BTreeMap<Key, Value>,
    version: u64,
    created: u64,
    changes: Vec<Change>,
    forgotten: u64,
    /// The uids of what was deleted: what names one as its owner afterwards goes too, as the garbage collector has it.
    ended: BTreeSet<String>,
}

impl Store {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    /// The objects of a kind, of one namespace or all, whose labels fit `selector` (`a=b`, `a`, joined by commas).
    pub(crate) fn list(&self, kind: &str, namespace: Option<&str>, selector: &str) -> Vec<Value> {
        let own = self.objects.iter().filter(|(key, _)| key.0 == kind && namespace.is_none_or(|own| own == key.1));
        own.filter(|(_, object)| fits(object, selector)).map(|(_, object)| object.clone()).collect()
    }

    /// The changes after `version`; none if some of them are forgotten.
    pub(crate) fn since(&self, version: u64) -> Option<Vec<Change>> {
        (version >= self.forgotten).then(|| self.changes.iter().filter(|own| own.version > version).cloned().collect())
    }

    /// Forgets all changes so far, as compaction does: watches that start before now get 410.
    pub(crate) fn compact(&mut self) {
        self.changes.clear();
        self.forgotten = self.version;
    }

    pub(crate) fn create(&mut self, key: Key, mut object: Value, manager: &str) -> Result<Value, Refusal> {
        if self.objects.contains_key(&key) {
            return refuse(409, "AlreadyExists", format!("{} \"{}\" already exists", key.0, key.2));
        }
        self.created += 1;
        object["metadata"]["uid"] = json!(format!("uid-{}", self.created));
        object["metadata"]["generation"] = json!(1);
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        if key.1.is_empty() {
            object["metadata"].as_object_mut().unwrap().remove("namespace");
        } else {
            object["metadata"]["namespace"] = json!(key.1);
        }
        if object["metadata"].get("managedFields").is_none() {
            let fields = ownership::fields(&object);
            own(&mut object, manager, "Update", fields);
        }
        defaults::fill(&mut object);
        rules::check(&key.0, None, &object).or_else(|error| invalid(&key, error))?;
        Ok(self.put("ADDED", key, object))
    }

    /// Replaces an object; with `subresource`, only that part of it.
    pub(crate) fn update(
        &mut self,
        key: &Key,
        mut object: Value,
        subresource: Option<&str>,
        manager: &str,
    ) -> Result<Value, Refusal> {
        let Some(now) = self.objects.get(key).cloned() else { return missing(key) };
        let stated = object["metadata"]["resourceVersion"].as_str().filter(|stated| !stated.is_empty());
        if stated.is_some_and(|stated| now["metadata"]["resourceVersion"] != stated) {
            return refuse(409, "Conflict", format!("{} \"{}\": the object has been modified", key.0, key.2));
        }
        let mut next = now.clone();
        match subresource {
            Some("status") => next["status"] = object["status"].take(),
            Some("scale") => next["spec"]["replicas"] = object["spec"]["replicas"].take(),
            _ => {
                next = object;
                keep(&mut next, &now);
                if has_status(&key.0) {
                    set(&mut next, "status", now.get("status"));
                }
            }
        }
        let before = ownership::fields(&now);
        let changed = ownership::fields(&next)
            .into_iter()
            .filter(|path| !before.contains(path) || ownership::at(&now, path) != ownership::at(&next, path))
            .collect();
        take_over(&mut next, manager, "Update", changed);
        rules::check(&key.0, Some(&now), &next).or_else(|error| invalid(key, error))?;
        Ok(self.commit(key, &now, next))
    }

    /// Applies what `manager` wants to own: sets it, takes out what it wanted before and does not any more.
    pub(crate) fn apply(
        &mut self,
        key: &Key,
        wanted: &Value,
        subresource: Option<&str>,
        manager: &str,
        force: bool,
    ) -> Result<Value, Refusal> {
        let mut wanted = wanted.clone();
        if has_status(&key.0) && subresource != Some("status") {
            wanted.as_object_mut().unwrap().remove("status");
        }
        // Of fields that a definition does not describe the server knows no keys.
        if !wanted["apiVersion"].as_str().is_some_and(|own| own.starts_with("serving.kserve.io/")) {
            rules::check_applied(&wanted).or_else(|error| invalid(key, error))?;
        }
        let fields = ownership::fields(&wanted);
        let Some(now) = self.objects.get(key).cloned() else {
            if subresource.is_some() {
                return missing(key);
            }
            own(&mut wanted, manager, "Apply", fields);
            return self.create(key.clone(), wanted, manager);
        };
        let mut next = now.clone();
        for path in &fields {
            let value = ownership::at(&wanted, path).cloned().unwrap_or_default();
            if ownership::at(&now, path) == Some(&value) {
                continue;
            }
            if let Some(other) = owner(&now, path, manager).filter(|_| !force) {
                return refuse(409, "Conflict", format!("conflict with \"{other}\": .{}", path.join(".")));
            }
            disown(&mut next, path, manager);
            ownership::put(&mut next, path, value);
        }
        for path in owned(&now, manager, "Apply") {
            let covered = fields.iter().any(|other| other.starts_with(&path) || path.starts_with(other));
            if !covered && owner(&next, &path, manager).is_none() {
                ownership::take_out(&mut next, &path);
            }
        }
        own(&mut next, manager, "Apply", fields);
        defaults::fill(&mut next);
        rules::check(&key.0, Some(&now), &next).or_else(|error| invalid(key, error))?;
        Ok(self.commit(key, &now, next))
    }

    /// Lays a patch over an object, `null` taking fields out (RFC 7386).
    pub(crate) fn merge(
        &mut self,
        key: &Key,
        patch: &Value,
        subresource: Option<&str>,
        manager: &str,
    ) -> Result<Value, Refusal> {
        let Some(mut next) = self.objects.get(key).cloned() else { return missing(key) };
        merge_patch(&mut next, patch);
        self.update(key, next, subresource, manager)
    }

    /// Deletes an object and what it owns; with finalizers it is only marked.
    pub(crate) fn delete(&mut self, key: &Key, uid: Option<&str>) -> Result<Value, Refusal> {
        let Some(now) = self.objects.get(key).cloned() else { return missing(key) };
        if uid.is_some_and(|uid| now["metadata"]["uid"] != uid) {
            return refuse(409, "Conflict", format!("{} \"{}\": another uid", key.0, key.2));
        }
        if now["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty()) {
            let mut next = now.clone();
            next["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            return Ok(self.commit(key, &now, next));
        }
        self.objects.remove(key);
        let gone = self.put_event("DELETED", key.clone(), now);
        let uid = gone["metadata"]["uid"].clone();
        self.ended.extend(uid.as_str().map(str::to_owned));
        let owned = |object: &Value| {
            object["metadata"]["ownerReferences"].as_array().is_some_and(|all| all.iter().any(|own| own["uid"] == uid))
        };
        let orphans: Vec<Key> =
            self.objects.iter().filter(|(_, object)| owned(object)).map(|(key, _)| key.clone()).collect();
        for orphan in orphans {
            let _gone_with_its_owner = self.delete(&orphan, None);
        }
        Ok(gone)
    }

    fn commit(&mut self, key: &Key, now: &Value, mut next: Value) -> Value {
        next["metadata"]["generation"] = now["metadata"]["generation"].clone();
        if next == *now {
            return next;
        }
        let body = |object: &Value| {
            let mut body = object.clone();
            let fields = body.as_object_mut().unwrap();
            fields.remove("metadata");
            if has_status(&key.0) {
                fields.remove("status");
            }
            body
        };
        if body(&next) != body(now) {
            next["metadata"]["generation"] = json!(now["metadata"]["generation"].as_u64().unwrap_or(0) + 1);
        }
        self.put("MODIFIED", key.clone(), next)
    }

    fn put(&mut self, kind: &'static str, key: Key, object: Value) -> Value {
        let object = self.put_event(kind, key.clone(), object);
        self.objects.insert(key.clone(), object.clone());
        let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        if owners.filter_map(|own| own["uid"].as_str()).any(|uid| self.ended.contains(uid)) {
            let _gone_after_its_owner = self.delete(&key, None);
        }
        object
    }

    fn put_event(&mut self, kind: &'static str, key: Key, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.changes.push(Change { version: self.version, kind, key, object: object.clone() });
        if self.changes.len() > HISTORY {
            self.forgotten = self.changes.remove(0).version;
        }
        object
    }
}

fn invalid<T>(key: &Key, error: String) -> Result<T, Refusal> {
    refuse(422, "Invalid", format!("{} \"{}\" is invalid: {error}", key.0, key.2))
}

fn missing<T>(key: &Key) -> Result<T, Refusal> {
    refuse(404, "NotFound", format!("{} \"{}\" not found", key.0, key.2))
}

/// Kinds whose status is a subresource; writing the object leaves it alone.
fn has_status(kind: &str) -> bool {
    !matches!(kind, "Secret" | "ConfigMap" | "ServiceAccount" | "ControllerRevision" | "Lease" | "Event")
}

/// What nobody may change by writing the object.
fn keep(next: &mut Value, now: &Value) {
    for field in
        ["uid", "creationTimestamp", "managedFields", "resourceVersion", "generation", "namespace", "deletionTimestamp"]
    {
        let kept = now["metadata"].get(field).cloned();
        set(&mut next["metadata"], field, kept.as_ref());
    }
}

fn set(object: &mut Value, field: &str, value: Option<&Value>) {
    let fields = object.as_object_mut().unwrap();
    match value {
        Some(value) => drop(fields.insert(field.into(), value.clone())),
        None => drop(fields.remove(field)),
    }
}

fn entries(object: &Value) -> &[Value] {
    object["metadata"]["managedFields"].as_array().map_or(&[], Vec::as_slice)
}

fn owned(object: &Value, manager: &str, operation: &str) -> BTreeSet<Path> {
    let own = entries(object).iter().find(|own| own["manager"] == manager && own["operation"] == operation);
    own.map(|own| ownership::decode(&own["fieldsV1"])).unwrap_or_default()
}

/// Another manager that owns a path.
fn owner(object: &Value, path: &Path, manager: &str) -> Option<String> {
    let others = entries(object).iter().filter(|own| own["manager"] != manager);
    let found = others.into_iter().find(|own| ownership::decode(&own["fieldsV1"]).contains(path))?;
    found["manager"].as_str().map(str::to_owned)
}

/// Makes `fields` what a manager owns.
fn own(object: &mut Value, manager: &str, operation: &str, fields: BTreeSet<Path>) {
    let version = object["apiVersion"].clone();
    let mut all: Vec<Value> = entries(object)
        .iter()
        .filter(|own| own["manager"] != manager || own["operation"] != operation)
        .cloned()
        .collect();
    if !fields.is_empty() {
        all.push(json!({
            "manager": manager, "operation": operation, "apiVersion": version, "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": ownership::encode(&fields),
        }));
    }
    object["metadata"]["managedFields"] = json!(all);
}

/// Takes a path away from all other managers.
fn disown(object: &mut Value, path: &Path, manager: &str) {
    let mut all = entries(object).to_vec();
    for entry in all.iter_mut().filter(|own| own["manager"] != manager) {
        let mut fields = ownership::decode(&entry["fieldsV1"]);
        fields.remove(path);
        entry["fieldsV1"] = ownership::encode(&fields);
    }
    object["metadata"]["managedFields"] = json!(all);
}

/// Makes a manager the only owner of `fields`, beside what it owns already.
fn take_over(object: &mut Value, manager: &str, operation: &str, fields: BTreeSet<Path>) {
    for path in &fields {
        disown(object, path, manager);
    }
    let all = owned(object, manager, operation).into_iter().chain(fields).collect();
    own(object, manager, operation, all);
}

fn merge_patch(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let own = target.as_object_mut().unwrap();
    for (field, value) in fields {
        match value {
            Value::Null => drop(own.remove(field)),
            value => merge_patch(own.entry(field).or_insert(Value::Null), value),
        }
    }
}

/// Whether an object's labels fit a selector of equalities and names.
pub(crate) fn fits(object: &Value, selector: &str) -> bool {
    selector.split(',').filter(|term| !term.is_empty()).all(|term| match term.split_once('=') {
        Some((key, value)) => object["metadata"]["labels"][key] == value.trim_start_matches('='),
        None => object["metadata"]["labels"].get(term).is_some(),
    })
}
