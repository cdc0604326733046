//! The dashboard asks for metrics that there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// The words of `text` that look like our metrics.
fn metrics_named(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let ours = |word: &&str| ["tensorgate_", "process_", "nv_"].iter().any(|prefix| word.starts_with(prefix));
    text.split(|c| !word(c)).filter(ours).map(str::to_owned).collect()
}

fn strings(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match field.as_str() {
                    Some(text) if key == "expr" || key == "query" => into.push(text.into()),
                    _ => strings(field, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, into)),
        _ => {}
    }
}

#[test]
fn every_metric_of_the_dashboards_is_in_the_contract() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let contract = fs::read_to_string(root.join("contract/src/metrics.rs")).unwrap();
    let known = metrics_named(&contract);
    for (board, least) in [("tensorgate.json", 15), ("autoscaling.json", 7)] {
        let text = fs::read_to_string(root.join("deploy/grafana").join(board)).unwrap();
        let mut expressions = Vec::new();
        strings(&serde_json::from_str(&text).unwrap(), &mut expressions);
        let named = metrics_named(&expressions.join(" "));
        assert!(named.len() > least, "{board}: {named:?}");
        for name in named {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let known = known.contains(&name) || family.is_some_and(|family| known.contains(family));
            assert!(known, "{board}: {name}");
        }
    }
}
