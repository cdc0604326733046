//! The kinds of objects that services and graphs have made for them.

/// A kind of children, and where the API has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildKind {
    /// Its name.
    pub name: &'static str,
    /// Its group; empty for the core's.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its name in paths.
    pub plural: &'static str,
}

const fn kind(group: &'static str, version: &'static str, name: &'static str, plural: &'static str) -> ChildKind {
    ChildKind { name, group, version, plural }
}

/// Routes of a Gateway, whose definition may be missing where there is none.
pub const ROUTE: ChildKind = kind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes");

/// KEDA's, whose definition may be missing too.
pub const SCALED_OBJECT: ChildKind = kind("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects");

/// All of them, in the order in which they are written: history first, since a revision without it would lose its number; routes
/// last, when what they lead to is there.
pub const CHILDREN: [ChildKind; 8] = [
    kind("apps", "v1", "ControllerRevision", "controllerrevisions"),
    kind("", "v1", "ConfigMap", "configmaps"),
    kind("apps", "v1", "Deployment", "deployments"),
    kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    SCALED_OBJECT,
    kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    kind("", "v1", "Service", "services"),
    ROUTE,
];
