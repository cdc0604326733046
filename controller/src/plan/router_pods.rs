//! The pods of routers, before a component's revisions or an inference graph's services.

use serde_json::{Value, json};

use crate::api::keys;

/// Where a router listens, for HTTP and gRPC alike.
pub const PORT: i64 = 8080;
/// Where its health and metrics are.
pub const ADMIN_PORT: i64 = 8081;

/// What differs between routers.
pub struct RouterPods<'a> {
    /// Of the Deployment.
    pub name: &'a str,
    /// Of the pods; `app` is what they are selected by.
    pub labels: Value,
    /// What the router serves: its flag and file.
    pub arguments: Vec<String>,
    /// The ConfigMap with that file.
    pub config: &'a str,
    /// How many; none where an autoscaler says.
    pub replicas: Option<i64>,
    /// Seconds that a pod may take to end: the router's own delay and time-out, and a reserve.
    pub grace: i64,
}

/// The Deployment of a router from `image`, the controller's own.
pub fn deployment(image: Option<&str>, pods: &RouterPods<'_>) -> Value {
    let mut arguments = pods.arguments.clone();
    arguments.push("--log-format=json".into());
    let container = json!({
        "name": "router",
        "image": image,
        "command": ["/tensorgate-controller", "router"],
        "args": arguments,
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}, {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": ADMIN_PORT}, "periodSeconds": 2},
        "volumeMounts": [{"name": "routes", "mountPath": "/etc/tensorgate", "readOnly": true}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true, "runAsUser": 65532,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    let mut deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": pods.name},
        "spec": {
            "selector": {"matchLabels": {keys::APP: pods.labels[keys::APP]}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": pods.labels},
                "spec": {
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": pods.grace,
                    "containers": [container],
                    "volumes": [{"name": "routes", "configMap": {"name": pods.config}}],
                },
            },
        },
    });
    if let Some(replicas) = pods.replicas {
        deployment["spec"]["replicas"] = json!(replicas);
    }
    deployment
}

/// Lets a drain of nodes take one router at a time.
pub fn budget(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {keys::APP: app}}},
    })
}
