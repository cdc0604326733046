use std::collections::BTreeSet;

use super::*;
use crate::server::http::routes::{self, Route};

fn everything() -> Value {
    document(&Served { shared_memory: true, ..Served::default() })
}

/// A path as a client would send it.
fn filled(template: &str) -> String {
    template.replace("{model}", "m").replace("{version}", "1").replace("{region}", "r")
}

fn route(template: &str) -> Route {
    routes::parse(&filled(template)).unwrap().unwrap_or_else(|| panic!("{template} is no route"))
}

fn variant(route: &Route) -> String {
    format!("{route:?}").split([' ', '{', '(']).next().unwrap().to_owned()
}

#[test]
fn every_operation_is_a_route_with_exactly_its_methods() {
    let document = everything();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let methods: Vec<&str> = route(path).methods().split(", ").filter(|method| *method != "OPTIONS").collect();
        let documented: BTreeSet<String> =
            operations.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        assert_eq!(documented, methods.into_iter().map(str::to_owned).collect(), "{path}");
    }
}

#[test]
fn every_route_is_in_the_document_but_those_that_are_always_refused() {
    // The enum's own text, so that a route which is added is found.
    let source = include_str!("../routes.rs");
    let body = source.split("pub(super) enum Route {").nth(1).unwrap().split("\n}").next().unwrap();
    let name = |line: &str| line.trim().split([' ', ',', '{']).next().unwrap().to_owned();
    let declared: BTreeSet<String> = body.lines().map(name).filter(|name| !name.is_empty()).collect();
    let paths = everything()["paths"].clone();
    let mut documented: BTreeSet<String> =
        paths.as_object().unwrap().keys().map(|path| variant(&route(path))).collect();
    documented.insert("Explain".into());
    assert_eq!(documented, declared);
}

#[test]
fn paths_with_and_without_a_version_are_both_there() {
    let paths = everything()["paths"].clone();
    let paths = paths.as_object().unwrap();
    for path in paths.keys() {
        for (from, to) in [("{model}", "{model}/versions/{version}"), ("/versions/{version}", "")] {
            let other = path.replacen(from, to, 1);
            let is_route =
                routes::parse(&filled(&other)).unwrap().is_some_and(|found| variant(&found) == variant(&route(path)));
            assert!(!is_route || paths.contains_key(&other), "{other} is a route, but not in the document");
        }
    }
}

#[test]
fn only_what_is_on_is_in_the_document() {
    let has = |served: &Served, path: &str| document(served)["paths"].get(path).is_some();
    let plain = Served::default();
    assert!(!has(&plain, "/v2/systemsharedmemory/status") && has(&plain, "/v2/logging"));
    assert!(document(&plain)["components"].get("securitySchemes").is_none());
    let refused = Served { refused: vec![Scope::Admin], ..Served::default() };
    assert!(!has(&refused, "/v2/logging") && has(&refused, "/v2/models/{model}/infer"));
    let keys = document(&Served { keys: true, path_prefix: Some("/serving".into()), ..Served::default() });
    assert_eq!(keys["servers"][0]["url"], "/serving");
    let infer = &keys["paths"]["/v2/models/{model}/infer"]["post"];
    assert!(infer["security"].is_array() && infer["responses"]["401"]["headers"]["www-authenticate"].is_object());
    assert!(keys["paths"]["/v2/health/live"]["get"].get("security").is_none());
}

#[test]
fn every_schema_that_is_named_is_there_and_every_one_there_is_named() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(name)) = members.get("$ref") {
                    found.insert(name.trim_start_matches("#/components/schemas/").into());
                }
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = everything();
    let mut named = BTreeSet::new();
    references(&document, &mut named);
    let there: BTreeSet<String> = document["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(named, there);
}

#[test]
fn ids_of_operations_are_there_once() {
    let mut ids = BTreeSet::new();
    for operation in OPERATIONS {
        assert!(ids.insert(operation.id) && !operation.summary.is_empty(), "{}", operation.path);
    }
}
