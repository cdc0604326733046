//! What an object of a pod says: whether it takes requests, and where it tells its metrics.

use serde_json::Value;

use crate::api::CONTAINER;
use crate::scrape::Target;
use crate::tree;

/// Where a pod of ours is asked when neither it nor its container says.
const PORT: i64 = 8080;

/// It takes requests, and is not on its way out.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = tree::list(pod, &["status", "conditions"]);
    let ready = conditions.iter().any(|own| own["type"] == "Ready" && own["status"] == "True");
    ready && pod["metadata"].get("deletionTimestamp").is_none()
}

/// Where it tells its metrics, once it has an address: as KServe's annotations say, else at its server's first port.
pub fn target(pod: &Value) -> Option<Target> {
    let host = host(pod)?;
    let containers = tree::list(pod, &["spec", "containers"]);
    let server = containers.iter().find(|own| own["name"] == CONTAINER).or(containers.first());
    let first = server.and_then(|own| tree::number(tree::list(own, &["ports"]).first()?, &["containerPort"]));
    let stated = tree::annotation(pod, "prometheus.kserve.io/port").and_then(|port| port.parse::<u16>().ok());
    let port = stated.map_or_else(|| first.unwrap_or(PORT), i64::from);
    Some(Target {
        uid: tree::text(pod, &["metadata", "uid"])?.to_owned(),
        address: format!("{host}:{port}"),
        path: tree::annotation(pod, "prometheus.kserve.io/path").unwrap_or("/metrics").to_owned(),
    })
}

/// Where a router tells its metrics: at the port that is named `admin`.
pub fn admin(pod: &Value) -> Option<Target> {
    let host = host(pod)?;
    let mut ports = tree::list(pod, &["spec", "containers"]).iter().flat_map(|own| tree::list(own, &["ports"]));
    let port = ports.find(|port| port["name"] == "admin")?;
    Some(Target {
        uid: tree::text(pod, &["metadata", "uid"])?.to_owned(),
        address: format!("{host}:{}", tree::number(port, &["containerPort"])?),
        path: "/metrics".to_owned(),
    })
}

fn host(pod: &Value) -> Option<String> {
    let ip = tree::text(pod, &["status", "podIP"])?;
    Some(if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_asked_where_its_annotations_say_else_at_its_servers_first_port() {
        let mut pod = json!({
            "metadata": {"uid": "u"},
            "spec": {"containers": [{"name": "sidecar", "ports": [{"containerPort": 1}]},
                {"name": CONTAINER, "ports": [{"containerPort": 9090}]}]},
        });
        assert_eq!(target(&pod), None);
        pod["status"]["podIP"] = json!("fd00::1");
        let first = Target { uid: "u".into(), address: "[fd00::1]:9090".into(), path: "/metrics".into() };
        assert_eq!(target(&pod), Some(first));
        pod["status"]["podIP"] = json!("10.0.0.1");
        pod["metadata"]["annotations"] =
            json!({"prometheus.kserve.io/port": "7000", "prometheus.kserve.io/path": "/numbers"});
        let stated = Target { uid: "u".into(), address: "10.0.0.1:7000".into(), path: "/numbers".into() };
        assert_eq!(target(&pod), Some(stated));
        assert!(!is_ready(&pod));
        pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        assert!(is_ready(&pod));
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(!is_ready(&pod));
    }
}
