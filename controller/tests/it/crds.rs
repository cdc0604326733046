//! The definitions in deploy/ are those of the types, and say what users rely on.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tensorgate_controller::api::crd;
use tensorgate_controller::tree;

#[test]
fn the_definitions_in_deploy_are_those_that_the_controller_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds/crds.yaml");
    let text = crd::yaml().unwrap();
    if std::env::var("GOLDEN").is_ok_and(|word| word == "write") {
        fs::write(&path, &text).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap_or_default() == text, "GOLDEN=write writes them anew");
}

/// The rules of a structural schema that Kubernetes checks: a type everywhere, no union without one, no reference.
fn check(schema: &Value, path: &str) {
    let fields = schema.as_object().unwrap_or_else(|| panic!("{path} is no schema: {schema}"));
    assert!(fields.get("type").is_some_and(Value::is_string), "{path} has no type: {schema}");
    for unknown in ["$ref", "anyOf", "oneOf", "allOf", "nullable", "$schema", "title", "definitions"] {
        assert!(!fields.contains_key(unknown), "{path} has {unknown}");
    }
    for (name, inner) in tree::at(schema, &["properties"]).as_object().into_iter().flatten() {
        check(inner, &format!("{path}.{name}"));
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get(nested) {
            check(inner, &format!("{path}[{nested}]"));
        }
    }
    assert!(!(fields.contains_key("properties") && fields.contains_key("additionalProperties")), "{path} has both");
    if fields["type"] == "array" {
        assert!(fields.contains_key("items"), "{path} has no items");
    }
}

#[test]
fn the_schemas_are_structural_and_keep_fields_that_nobody_declared() {
    let all = crd::all();
    assert_eq!(all.len(), 4);
    for definition in &all {
        let version = &definition["spec"]["versions"][0];
        let schema = &version["schema"]["openAPIV3Schema"];
        let name = tree::name(definition);
        check(schema, name);
        assert_eq!(schema["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"], true, "{name}");
    }
    let service = &all[0]["spec"]["versions"][0];
    let spec = &service["schema"]["openAPIV3Schema"]["properties"]["spec"];
    assert_eq!(spec["required"], serde_json::json!(["predictor"]));
    let predictor = &spec["properties"]["predictor"];
    assert_eq!(predictor["x-kubernetes-preserve-unknown-fields"], true);
    assert_eq!(predictor["properties"]["minReplicas"]["default"], 1);
    assert_eq!(predictor["properties"]["canaryTrafficPercent"]["maximum"], 100);
    assert_eq!(service["subresources"], serde_json::json!({"status": {}}));
    assert!(tree::list(service, &["additionalPrinterColumns"]).iter().any(|column| column["name"] == "Ready"));
}
