//! The InferenceServices that a graph names: where they are asked, as KServe finds it, and whether they serve.

use serde_json::Value;

use super::super::pod;
use crate::tree;

/// A service of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Where it is asked; whether it says that it is ready.
    At {
        /// In full: by the protocol that the service states.
        url: String,
        /// Its gRPC beside that, as `grpc://HOST:PORT/MODEL`.
        grpc: Option<String>,
        /// As its condition says.
        ready: bool,
    },
    /// There is none of that name.
    Missing,
    /// It has no address yet.
    Waiting,
    /// It cannot be asked.
    Unfit(String),
}

/// The service `name` of the namespace whose services and runtimes these are.
pub(super) fn find(name: &str, services: &[&Value], runtimes: &[&Value], cluster_runtimes: &[&Value]) -> Found {
    let Some(service) = services.iter().find(|own| tree::name(own) == name) else { return Found::Missing };
    let (protocol, model) = match spoken(service, runtimes, cluster_runtimes) {
        Ok(spoken) => spoken,
        Err(unfit) => return Found::Unfit(unfit),
    };
    let Some(address) = tree::text(service, &["status", "address", "url"]) else { return Found::Waiting };
    let address = address.trim_end_matches('/');
    let entry = if service["spec"]["transformer"].is_object() { "transformer" } else { "predictor" };
    let grpc = tree::text(service, &["status", "components", entry, "grpcUrl"]).map(|own| format!("{own}/{model}"));
    let url = match protocol {
        Protocol::V1 => format!("{address}/v1/models/{model}:predict"),
        Protocol::V2 => format!("{address}/v2/models/{model}/infer"),
        Protocol::Grpc => grpc.clone().unwrap_or_else(|| {
            // A service that speaks nothing else has it where others have HTTP.
            let host = address.split_once("://").map_or(address, |(_, host)| host);
            let port =
                if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) { "" } else { ":80" };
            format!("grpc://{host}{port}/{model}")
        }),
    };
    let grpc = grpc.filter(|own| *own != url);
    let ready = tree::list(service, &["status", "conditions"])
        .iter()
        .any(|own| own["type"] == "Ready" && own["status"] == "True");
    Found::At { url, grpc, ready }
}

/// What a service states that it speaks.
enum Protocol {
    V1,
    V2,
    Grpc,
}

/// The protocol that a service states, V1 where it states none, and the name of its model.
fn spoken(service: &Value, runtimes: &[&Value], cluster_runtimes: &[&Value]) -> Result<(Protocol, String), String> {
    let name = tree::name(service);
    let spec = &service["spec"];
    let predictor =
        pod::normalized(&spec["predictor"]).map_err(|fault| format!("service '{name}': {}", fault.message))?;
    let model = model_name(spec, &predictor).unwrap_or(name).to_owned();
    let protocol = match spec.get("transformer").filter(|own| own.is_object()) {
        Some(transformer) => {
            tree::list(transformer, &["containers"]).first().and_then(|own| environment(own, "PROTOCOL"))
        }
        None => stated_protocol(&predictor).or_else(|| protocol_of_runtime(&predictor, runtimes, cluster_runtimes)),
    };
    match protocol.unwrap_or("v1") {
        "v1" => Ok((Protocol::V1, model)),
        "v2" => Ok((Protocol::V2, model)),
        "grpc-v2" => Ok((Protocol::Grpc, model)),
        other => Err(format!("service '{name}' speaks {other}; a graph asks over v1, v2 or grpc-v2")),
    }
}

fn stated_protocol(predictor: &Value) -> Option<&str> {
    tree::text(predictor, &["model", "protocolVersion"])
        .or_else(|| environment(tree::list(predictor, &["containers"]).first()?, "PROTOCOL"))
}

/// The first of v1 and v2 that a runtime lists which the service chooses by name.
fn protocol_of_runtime<'a>(predictor: &Value, own: &[&'a Value], cluster: &[&'a Value]) -> Option<&'a str> {
    let wanted = tree::text(predictor, &["model", "runtime"])?;
    let runtime = own.iter().chain(cluster).find(|runtime| tree::name(runtime) == wanted)?;
    let spoken = tree::list(runtime, &["spec", "protocolVersions"]);
    let fits = spoken.iter().filter_map(Value::as_str).find(|protocol| matches!(*protocol, "v1" | "v2"));
    fits.or_else(|| spoken.first().and_then(Value::as_str))
}

fn environment<'a>(container: &'a Value, name: &str) -> Option<&'a str> {
    let found = tree::list(container, &["env"]).iter().find(|own| own["name"] == name)?;
    tree::text(found, &["value"])
}

/// The name that a server is told by its arguments or, as MLServer has it, by its environment; the service's own otherwise.
fn model_name<'a>(spec: &'a Value, predictor: &'a Value) -> Option<&'a str> {
    let transformer = tree::list(spec, &["transformer", "containers"]).first();
    let container = tree::list(predictor, &["containers"]).first();
    let of_arguments = |own: &'a Value| {
        let arguments: Vec<&str> = tree::list(own, &["args"]).iter().filter_map(Value::as_str).collect();
        arguments.iter().enumerate().find_map(|(index, argument)| {
            let flag = argument.strip_prefix("--model_name").or_else(|| argument.strip_prefix("--model-name"))?;
            flag.strip_prefix('=').or_else(|| arguments.get(index + 1).copied().filter(|_| flag.is_empty()))
        })
    };
    let model = predictor.get("model");
    transformer
        .and_then(of_arguments)
        .or_else(|| environment(model?, "MLSERVER_MODEL_NAME"))
        .or_else(|| of_arguments(model?))
        .or_else(|| of_arguments(container?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn url(spec: Value) -> Found {
        let service = json!({
            "metadata": {"name": "iris"}, "spec": spec,
            "status": {"address": {"url": "http://iris.ns.svc"}, "conditions": [{"type": "Ready", "status": "True"}]},
        });
        let runtime = json!({"metadata": {"name": "mlserver"}, "spec": {"protocolVersions": ["grpc-v2", "v2"]}});
        let grpc = json!({"metadata": {"name": "grpc"}, "spec": {"protocolVersions": ["grpc-v2"]}});
        let odd = json!({"metadata": {"name": "odd"}, "spec": {"protocolVersions": ["grpc-v1"]}});
        find("iris", &[&service], &[&runtime], &[&grpc, &odd])
    }

    fn at(path: &str) -> Found {
        Found::At { url: format!("http://iris.ns.svc{path}"), grpc: None, ready: true }
    }

    #[test]
    fn grpc_is_asked_where_the_service_says_it_has_it() {
        let service = |protocol: &str| {
            json!({
                "metadata": {"name": "iris"}, "spec": {"predictor": {"model": {"protocolVersion": protocol}}},
                "status": {
                    "address": {"url": "http://iris.ns.svc"},
                    "components": {"predictor": {"grpcUrl": "grpc://iris-predictor.ns.svc:9000"}},
                },
            })
        };
        let grpc = "grpc://iris-predictor.ns.svc:9000/iris".to_owned();
        let both = Found::At {
            url: "http://iris.ns.svc/v1/models/iris:predict".into(),
            grpc: Some(grpc.clone()),
            ready: false,
        };
        assert_eq!(find("iris", &[&service("v1")], &[], &[]), both);
        let alone = Found::At { url: grpc, grpc: None, ready: false };
        assert_eq!(find("iris", &[&service("grpc-v2")], &[], &[]), alone);
    }

    #[test]
    fn services_are_asked_where_kserve_asks_them() {
        assert_eq!(url(json!({"predictor": {"sklearn": {"storageUri": "s3://a"}}})), at("/v1/models/iris:predict"));
        assert_eq!(
            url(json!({"predictor": {"model": {"protocolVersion": "v2", "args": ["--model_name", "m"]}}})),
            at("/v2/models/m/infer")
        );
        assert_eq!(url(json!({"predictor": {"model": {"runtime": "mlserver"}}})), at("/v2/models/iris/infer"));
        assert_eq!(
            url(json!({"predictor": {"containers": [{"args": ["--model-name=m"]}]}})),
            at("/v1/models/m:predict")
        );
        let transformed = json!({
            "predictor": {"model": {"protocolVersion": "grpc-v2"}},
            "transformer": {"containers": [{"args": ["--model_name=t"], "env": [{"name": "PROTOCOL", "value": "v2"}]}]},
        });
        assert_eq!(url(transformed), at("/v2/models/t/infer"));
        let alone = Found::At { url: "grpc://iris.ns.svc:80/iris".into(), grpc: None, ready: true };
        assert_eq!(url(json!({"predictor": {"model": {"runtime": "grpc"}}})), alone);
        assert!(matches!(url(json!({"predictor": {"model": {"runtime": "odd"}}})), Found::Unfit(_)));
        assert_eq!(find("other", &[], &[], &[]), Found::Missing);
        assert_eq!(find("iris", &[&json!({"metadata": {"name": "iris"}})], &[], &[]), Found::Waiting);
    }
}
