//! The controller's rights, as deploy/base/rbac.yaml grants them: what its own calls are held against.

use std::path::Path;

use serde_json::Value;
use tensorgate_controller::tree;

/// A rule, and the namespace that it is for; none for all.
#[derive(Debug)]
struct Rule {
    rule: Value,
    namespace: Option<String>,
}

/// The rules of all roles.
#[derive(Debug)]
pub(crate) struct Rights(Vec<Rule>);

/// What a call does.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) verb: &'a str,
    /// "" for the core's.
    pub(crate) group: &'a str,
    /// With its subresource: `deployments/scale`.
    pub(crate) resource: &'a str,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
}

impl Rights {
    /// As they are deployed; what is granted in the controller's own namespace is taken to be granted in `home`.
    pub(crate) fn deployed(home: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/base/rbac.yaml");
        let text = std::fs::read_to_string(file).unwrap();
        let roles: Vec<Value> = text.split("\n---\n").map(|own| serde_saphyr::from_str(own).unwrap()).collect();
        let roles = roles.iter().filter(|own| own["kind"] == "ClusterRole" || own["kind"] == "Role");
        let rules = roles.flat_map(|role| {
            let namespace = (role["kind"] == "Role").then(|| home.to_owned());
            tree::list(role, &["rules"])
                .iter()
                .map(move |rule| Rule { rule: rule.clone(), namespace: namespace.clone() })
        });
        Self(rules.collect())
    }

    pub(crate) fn allow(&self, asked: &Asked<'_>) -> bool {
        self.0.iter().any(|Rule { rule, namespace }| {
            let has = |field: &str, wanted: &str| tree::list(rule, &[field]).iter().any(|own| own == wanted);
            let names = tree::list(rule, &["resourceNames"]);
            namespace.as_deref().is_none_or(|own| asked.namespace == Some(own))
                && has("apiGroups", asked.group)
                && has("resources", asked.resource)
                && has("verbs", asked.verb)
                && (names.is_empty() || asked.name.is_some_and(|name| names.iter().any(|own| own == name)))
        })
    }
}

#[test]
fn what_is_granted_is_allowed_and_nothing_beside_it() {
    let rights = Rights::deployed("home");
    let asked = |verb, group, resource, namespace, name| {
        rights.allow(&Asked { verb, group, resource, namespace: Some(namespace), name })
    };
    assert!(asked("patch", "apps", "deployments/scale", "models", Some("a")));
    assert!(asked("update", "coordination.k8s.io", "leases", "home", Some("tensorgate-controller")));
    assert!(!asked("update", "coordination.k8s.io", "leases", "models", Some("tensorgate-controller")));
    assert!(!asked("update", "coordination.k8s.io", "leases", "home", Some("other")));
    assert!(!asked("list", "", "secrets", "models", None));
    assert!(!asked("delete", "serving.kserve.io", "inferenceservices", "models", Some("a")));
}
