//! What the API server fills in, and how it writes what it was given: whoever compares what there is with what he wants has to see
//! through that, or writes for ever. Sources: Kubernetes' `pkg/apis/*/v1/defaults.go`, apimachinery's `resource.Quantity`, and the
//! defaults in the Gateway API's schemas.

use serde_json::{Value, json};
use tensorgate_controller::tree;

/// Fills an object in as the API server does when it is written.
pub(crate) fn fill(object: &mut Value) {
    match object["kind"].as_str().unwrap_or("") {
        // A definition is established at once.
        "CustomResourceDefinition" if object["status"].is_null() => {
            object["status"] = json!({"conditions": [{"type": "Established", "status": "True"}]});
        }
        "Deployment" => deployment(&mut object["spec"]),
        "Service" => service(&mut object["spec"]),
        "HorizontalPodAutoscaler" => autoscaler(&mut object["spec"]),
        "HTTPRoute" => route(&mut object["spec"]),
        _ => {}
    }
}

/// Fields that are missing.
fn add(object: &mut Value, fields: Value) {
    let Some(own) = object.as_object_mut() else { return };
    for (field, value) in fields.as_object().cloned().unwrap_or_default() {
        if own.get(&field).is_none_or(Value::is_null) {
            own.insert(field, value);
        }
    }
}

fn each(object: &mut Value, list: &str, work: impl FnMut(&mut Value)) {
    object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().for_each(work);
}

/// Values that Go leaves out where it writes an object (`omitempty`).
fn leave_out(object: &mut Value, fields: &[&str]) {
    let is_zero = |value: &Value| *value == json!(false) || *value == json!("") || *value == json!(0);
    if let Some(own) = object.as_object_mut() {
        own.retain(|field, value| !fields.contains(&field.as_str()) || !is_zero(value));
    }
}

/// An autoscaled Deployment whose replicas nobody states falls to 1, and one without a strategy gets one, whose details stay when its
/// type is another.
fn deployment(spec: &mut Value) {
    add(spec, json!({"replicas": 1, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10}));
    let strategy = &mut spec["strategy"];
    if strategy["type"].is_null() {
        strategy["type"] = json!("RollingUpdate");
    }
    if strategy["type"] == "RollingUpdate" && strategy["rollingUpdate"].is_null() {
        strategy["rollingUpdate"] = json!({"maxUnavailable": "25%", "maxSurge": "25%"});
    }
    let template = &mut spec["template"];
    if template["metadata"].is_object() {
        template["metadata"]["creationTimestamp"] = Value::Null;
    }
    if template["spec"].is_object() {
        pod(&mut template["spec"]);
    }
}

fn pod(pod: &mut Value) {
    add(
        pod,
        json!({
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "securityContext": {},
            "terminationGracePeriodSeconds": 30,
        }),
    );
    if let Some(account) = tree::text(pod, &["serviceAccountName"]).map(str::to_owned) {
        add(pod, json!({"serviceAccount": account}));
    }
    each(pod, "volumes", |volume| {
        for field in ["configMap", "secret"] {
            if volume[field].is_object() {
                add(&mut volume[field], json!({"defaultMode": 420}));
            }
        }
        if volume["hostPath"].is_object() {
            add(&mut volume["hostPath"], json!({"type": ""}));
        }
        if volume["persistentVolumeClaim"].is_object() {
            leave_out(&mut volume["persistentVolumeClaim"], &["readOnly"]);
        }
        if let Some(limit) = volume["emptyDir"].get_mut("sizeLimit") {
            *limit = quantity(limit);
        }
    });
    each(pod, "containers", container);
    each(pod, "initContainers", container);
}

fn container(container: &mut Value) {
    let is_latest = tree::text(container, &["image"]).is_some_and(|image| image.ends_with(":latest"));
    let fields = json!({
        "imagePullPolicy": if is_latest { "Always" } else { "IfNotPresent" }, "resources": {},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    });
    add(container, fields);
    each(container, "ports", |port| {
        add(port, json!({"protocol": "TCP"}));
        leave_out(port, &["hostPort", "hostIP", "name"]);
    });
    each(container, "env", |variable| leave_out(variable, &["value"]));
    each(container, "volumeMounts", |mount| leave_out(mount, &["readOnly", "subPath"]));
    for kind in ["limits", "requests"] {
        let amounts = container["resources"].get_mut(kind).and_then(Value::as_object_mut);
        amounts.into_iter().flatten().for_each(|(_, amount)| *amount = quantity(amount));
    }
    for kind in ["readinessProbe", "livenessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(kind).filter(|probe| probe.is_object()) else { continue };
        add(probe, json!({"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}));
        if probe["httpGet"].is_object() {
            add(&mut probe["httpGet"], json!({"scheme": "HTTP", "path": "/"}));
        }
        if probe["grpc"].is_object() {
            add(&mut probe["grpc"], json!({"service": ""}));
        }
    }
}

fn service(spec: &mut Value) {
    let fields = json!({
        "type": "ClusterIP", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
    });
    add(spec, fields);
    each(spec, "ports", |port| {
        let number = port["port"].clone();
        add(port, json!({"protocol": "TCP", "targetPort": number}));
    });
}

fn autoscaler(spec: &mut Value) {
    add(spec, json!({"minReplicas": 1}));
    each(spec, "metrics", |metric| {
        let target = metric["resource"].get_mut("target").and_then(Value::as_object_mut);
        for (field, amount) in target.into_iter().flatten() {
            if ["averageValue", "value"].contains(&field.as_str()) {
                *amount = quantity(amount);
            }
        }
    });
    if spec["behavior"].is_object() {
        add(&mut spec["behavior"], json!({"scaleUp": {}, "scaleDown": {}}));
        let down = json!({
            "selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
        });
        let up = json!({
            "stabilizationWindowSeconds": 0, "selectPolicy": "Max",
            "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}],
        });
        add(&mut spec["behavior"]["scaleUp"], up);
        add(&mut spec["behavior"]["scaleDown"], down);
    }
}

fn route(spec: &mut Value) {
    each(spec, "parentRefs", |parent| add(parent, json!({"group": "gateway.networking.k8s.io", "kind": "Gateway"})));
    each(spec, "rules", |rule| {
        add(rule, json!({"matches": [{}]}));
        each(rule, "matches", |own| {
            add(own, json!({"path": {"type": "PathPrefix", "value": "/"}}));
            each(own, "headers", |header| add(header, json!({"type": "Exact"})));
        });
        each(rule, "backendRefs", |backend| add(backend, json!({"group": "", "kind": "Service", "weight": 1})));
    });
}

/// A quantity in its one canonical form, as `resource.Quantity` writes it: no fraction, and the largest unit that leaves none.
/// What is none stays as it is.
pub(crate) fn quantity(written: &Value) -> Value {
    let text = match written {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    canonical(&text).map_or_else(|| written.clone(), Value::from)
}

fn canonical(text: &str) -> Option<String> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let exponent = unit.strip_prefix(['e', 'E']).and_then(|rest| rest.parse::<i32>().ok());
    let decimal = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let binary = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let (power, shift) =
        match (exponent, decimal.iter().position(|own| *own == unit), binary.iter().position(|own| *own == unit)) {
            (Some(exponent), ..) => (exponent, 0),
            (None, Some(place), _) => (i32::try_from(place).ok()? * 3 - 9, 0),
            (None, None, Some(place)) => (0, u32::try_from(place).ok()? * 10),
            _ => return None,
        };
    // In billionths, of which there are no parts.
    let power = power + 9 - i32::try_from(fraction.len()).ok()?;
    let scaled = digits.checked_mul(1_i128.checked_shl(shift)?)?;
    let nanos = match u32::try_from(power) {
        Ok(power) => scaled.checked_mul(10_i128.checked_pow(power)?)?,
        Err(_) => scaled.div_euclid(10_i128.checked_pow(power.unsigned_abs())?),
    };
    let one = 1_000_000_000;
    if shift > 0 && nanos % one == 0 && (nanos / one).abs() >= 1024 {
        let (mut value, mut place) = (nanos / one, 0);
        while value % 1024 == 0 && place + 1 < binary.len() {
            (value, place) = (value / 1024, place + 1);
        }
        return Some(format!("{value}{}", binary[place]));
    }
    let (mut value, mut place) = (nanos, 0);
    while value != 0 && value % 1000 == 0 && place + 1 < decimal.len() {
        (value, place) = (value / 1000, place + 1);
    }
    if value == 0 {
        return Some("0".into());
    }
    let power = i32::try_from(place).ok()? * 3 - 9;
    Some(match exponent {
        Some(_) if power != 0 => format!("{value}e{power}"),
        Some(_) => value.to_string(),
        None => format!("{value}{}", decimal[place]),
    })
}

#[test]
fn quantities_are_written_as_the_api_server_writes_them() {
    // From apimachinery's `quantity_test.go`.
    let cases = [
        ("0", "0"),
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1.5Gi", "1536Mi"),
        ("0.5Gi", "512Mi"),
        ("1024Mi", "1Gi"),
        ("1Ki", "1Ki"),
        ("0.5Ki", "512"),
        ("1000", "1k"),
        ("1000e3", "1e6"),
        ("0.5e3", "500"),
        ("1E3", "1e3"),
        ("2000P", "2E"),
        ("100u", "100u"),
        ("no amount", "no amount"),
    ];
    for (written, kept) in cases {
        assert_eq!(quantity(&json!(written)), json!(kept), "{written}");
    }
    assert_eq!((quantity(&json!(2)), quantity(&json!(0.25))), (json!("2"), json!("250m")));
}

#[test]
fn what_is_filled_in_stays_what_it_is() {
    let mut deployment = json!({
        "kind": "Deployment",
        "spec": {"template": {"metadata": {}, "spec": {"containers": [{
            "name": "c", "image": "i", "env": [{"name": "A", "value": ""}], "resources": {"limits": {"cpu": 1, "memory": "1000e3"}},
        }]}}},
    });
    fill(&mut deployment);
    let once = deployment.clone();
    fill(&mut deployment);
    assert_eq!(deployment, once);
    let own = &once["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(own["resources"]["limits"], json!({"cpu": "1", "memory": "1e6"}));
    assert_eq!(own["env"][0], json!({"name": "A"}));
}
