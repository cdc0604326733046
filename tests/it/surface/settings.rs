//! The trace and logging extensions.

use std::collections::HashMap;

use serde_json::json;
use tensorgate::protocol::proto::log_settings_request::setting_value::ParameterChoice;
use tensorgate::protocol::proto::{
    LogSettingsRequest, TraceSettingRequest, log_settings_request, log_settings_response, trace_setting_request,
};
use tonic::Code;

use crate::support::tensors::*;
use crate::support::{Grpc, Models, Process, Server};

async fn trace(grpc: &mut Grpc, model: &str, changes: &[(&str, &[&str])]) -> HashMap<String, Vec<String>> {
    let value = |values: &[&str]| trace_setting_request::SettingValue {
        value: values.iter().map(ToString::to_string).collect(),
    };
    let settings = changes.iter().map(|(name, values)| (name.to_string(), value(values))).collect();
    let request = TraceSettingRequest { settings, model_name: model.into() };
    let answer = grpc.trace_setting(request).await.unwrap().into_inner();
    answer.settings.into_iter().map(|(name, setting)| (name, setting.value)).collect()
}

#[tokio::test]
async fn trace_settings_are_kept_and_told_as_strings() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    let defaults = json!({
        "trace_level": ["OFF"], "trace_rate": "1000", "trace_count": "-1", "log_frequency": "0", "trace_file": "",
        "trace_mode": "triton",
    });
    assert_eq!(http.get("/v2/trace/setting").await.json(), defaults);
    assert_eq!(http.get("/v2/models/identity_fp32/trace/setting").await.json(), defaults);
    let changed = http.post("/v2/trace/setting", r#"{"trace_level": ["TIMESTAMPS"], "trace_rate": 5}"#).await.json();
    assert_eq!((&changed["trace_level"], &changed["trace_rate"]), (&json!(["TIMESTAMPS"]), &json!("5")));
    let own = trace(&mut grpc, "identity_fp32", &[("trace_rate", &["7"])]).await;
    assert_eq!(
        (own["trace_rate"].as_slice(), own["trace_level"].as_slice()),
        (&["7".into()][..], &["TIMESTAMPS".into()][..])
    );
    assert_eq!(trace(&mut grpc, "", &[]).await["trace_rate"], ["5"]);
    let back = http.post("/v2/models/identity_fp32/trace/setting", r#"{"trace_rate": null}"#).await.json();
    assert_eq!(back["trace_rate"], "5");
    trace(&mut grpc, "", &[("trace_rate", &[]), ("trace_level", &[])]).await;
    assert_eq!(http.get("/v2/trace/setting").await.json(), defaults);
}

#[tokio::test]
async fn trace_settings_that_are_none_are_refused_over_both_doors() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    for (path, body, status) in [
        ("/v2/trace/setting", r#"{"trace_rate": "often"}"#, 400),
        ("/v2/trace/setting", r#"{"trace_rate": {}}"#, 400),
        ("/v2/trace/setting", r#"{"trace_colour": "red"}"#, 400),
        ("/v2/trace/setting", "[]", 400),
        ("/v2/trace/setting", r#"{"trace_file": "/tmp/x"}"#, 501),
        ("/v2/models/nowhere/trace/setting", "{}", 404),
    ] {
        let answer = http.post(path, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.error());
    }
    let request = TraceSettingRequest { model_name: "nowhere".into(), ..TraceSettingRequest::default() };
    assert_eq!(grpc.trace_setting(request).await.unwrap_err().code(), Code::NotFound);
    let settings = [("trace_rate".to_owned(), trace_setting_request::SettingValue { value: vec!["often".into()] })];
    let request = TraceSettingRequest { settings: settings.into(), model_name: String::new() };
    let refusal = grpc.trace_setting(request).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("trace_rate"), "{refusal}");
}

fn log_change(name: &str, value: ParameterChoice) -> LogSettingsRequest {
    let value = log_settings_request::SettingValue { parameter_choice: Some(value) };
    LogSettingsRequest { settings: [(name.to_owned(), value)].into() }
}

#[tokio::test]
async fn a_changed_log_level_changes_what_is_logged() {
    let models = Models::of(&["identity_fp32"]);
    let mut process = Process::start(&[models.argument()]).await;
    process.line("serving").await;
    let (mut http, mut grpc) = (process.http().await, process.grpc().await);
    let defaults = json!({
        "log_file": "", "log_info": true, "log_warning": true, "log_error": true, "log_verbose_level": 0,
        "log_format": "default",
    });
    assert_eq!(http.get("/v2/logging").await.json(), defaults);
    let body = |id: &str| {
        let mut body = json_body(&named([("x", tensor([1, 2], [1_f32, 2.]))]));
        body["id"] = id.into();
        body
    };
    assert_eq!(http.infer("identity_fp32", &body("quiet")).await.status, 200);
    let changed = http.post("/v2/logging", r#"{"log_verbose_level": 1}"#).await.json();
    assert_eq!(changed["log_verbose_level"], 1);
    assert_eq!(http.infer("identity_fp32", &body("loud")).await.status, 200);
    // The first such line: the request before the change has none.
    assert_eq!(process.line("answered").await["request_id"], "loud");
    let answer = grpc.log_settings(log_change("log_verbose_level", ParameterChoice::Uint32Param(0))).await.unwrap();
    let level = answer.into_inner().settings.remove("log_verbose_level").unwrap().parameter_choice.unwrap();
    assert_eq!(level, log_settings_response::setting_value::ParameterChoice::Uint32Param(0));
    assert_eq!(http.infer("identity_fp32", &body("quiet again")).await.status, 200);
    http.post("/v2/logging", r#"{"log_verbose_level": 2}"#).await;
    assert_eq!(http.infer("identity_fp32", &body("loud again")).await.status, 200);
    assert_eq!(process.line("answered").await["request_id"], "loud again");
}

#[tokio::test]
async fn log_settings_that_are_none_are_refused_over_both_doors() {
    let server = Server::start(&Models::of(&["identity_fp32"])).await;
    let (mut http, mut grpc) = (server.http().await, server.grpc().await);
    for (body, status) in [
        (r#"{"log_info": 1}"#, 400),
        (r#"{"log_verbose_level": -1}"#, 400),
        (r#"{"log_format": "xml"}"#, 400),
        (r#"{"log_colour": true}"#, 400),
        (r#"{"log_info": null}"#, 400),
        (r#"{"log_file": "/tmp/x"}"#, 501),
    ] {
        let answer = http.post("/v2/logging", body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.error());
    }
    let refusal = grpc.log_settings(log_change("log_info", ParameterChoice::Uint32Param(1))).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("log_info"), "{refusal}");
}
