//! What a component asks for beside its pods: to be found by servers of KServe's, payloads to be logged, requests to be batched.

use serde_json::{Value, json};

use super::Context;
use super::fault::Fault;
use crate::tree;

/// What KServe's own transformers and explainers are started with to find the predictor. What the user states goes before.
pub fn add_predictor(cx: &Context<'_>, component: &Value, container: &mut Value) {
    let service = tree::name(cx.service);
    let host = format!("{service}-predictor.{}", cx.namespace);
    let workers = tree::number(component, &["containerConcurrency"]).map(|own| own.to_string());
    let arguments = tree::list_mut(container, "args");
    let wanted = [
        ("--model_name", Some(service)),
        ("--predictor_host", Some(&host)),
        ("--http_port", Some("8080")),
        ("--workers", workers.as_deref()),
    ];
    for (flag, value) in wanted {
        let is_it = |own: &str| own == flag || own.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='));
        let given = arguments.iter().filter_map(Value::as_str).any(is_it);
        if let Some(value) = value.filter(|_| !given) {
            arguments.extend([json!(flag), json!(value)]);
        }
    }
}

/// The arguments with which Tensorgate logs payloads as `logger` asks; it batches by itself, whatever `batcher` says.
///
/// # Errors
/// If another server would have to do either: KServe's sidecar for that is not among our pods.
pub fn server_arguments(cx: &Context<'_>, kind: &str, component: &Value, server: bool) -> Result<Vec<Value>, Fault> {
    let stated = |field: &str| component.get(field).filter(|own| !own.is_null());
    if let Some(field) = ["logger", "batcher"].into_iter().find(|field| stated(field).is_some()).filter(|_| !server) {
        return Err(Fault::invalid(format!("{kind}.{field}: only Tensorgate does that itself; leave it out")));
    }
    let Some(logger) = stated("logger") else { return Ok(Vec::new()) };
    let Some(url) = tree::text(logger, &["url"]) else {
        return Err(Fault::invalid(format!("{kind}.logger.url is missing; payloads go nowhere else")));
    };
    let mut arguments = vec![
        format!("--payload-log={url}"),
        format!("--payload-log-mode={}", tree::text(logger, &["mode"]).unwrap_or("all")),
        format!("--payload-log-service={}", tree::name(cx.service)),
        format!("--payload-log-namespace={}", cx.namespace),
        format!("--payload-log-component={kind}"),
    ];
    let headers = tree::list(logger, &["metadataHeaders"]).iter().filter_map(Value::as_str);
    arguments.extend(headers.map(|header| format!("--payload-log-header={header}")));
    for key in tree::list(logger, &["metadataAnnotations"]).iter().filter_map(Value::as_str) {
        if let Some(value) = tree::annotation(cx.service, key) {
            arguments.push(format!("--payload-log-annotation={key}={value}"));
        }
    }
    Ok(arguments.into_iter().map(Value::from).collect())
}
