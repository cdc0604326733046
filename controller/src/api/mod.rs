//! The custom resources as KServe's users write them: typed views of what we act on, and the definitions made from them.
//! Fields that have no view are carried through as they are.

pub mod crd;
pub mod inference_graph;
pub mod inference_service;
pub mod schema;
pub mod serving_runtime;
pub mod status;

/// The group of KServe's resources.
pub const GROUP: &str = "serving.kserve.io";

/// The field manager of everything that the controller applies.
pub const MANAGER: &str = "tensorgate-controller";

/// The container of a predictor that serves the model.
pub const CONTAINER: &str = "kserve-container";

/// Keys of annotations and labels, KServe's own where it has one.
pub mod keys {
    /// The InferenceService that a pod or child belongs to.
    pub const SERVICE: &str = "serving.kserve.io/inferenceservice";
    /// The InferenceGraph that a child belongs to.
    pub const GRAPH: &str = "serving.kserve.io/inferencegraph";
    /// predictor, transformer or explainer.
    pub const COMPONENT: &str = "component";
    /// What Deployments select their pods by, as KServe names it: `isvc.` and the Deployment's name.
    pub const APP: &str = "app";
    /// The revision a pod or child belongs to.
    pub const REVISION: &str = "tensorgate.dev/revision";
    /// Digest of all that a revision's pods are made from.
    pub const HASH: &str = "tensorgate.dev/hash";
    /// When a revision's Deployment lost its last share of the traffic, RFC 3339.
    pub const RETIRED_AT: &str = "tensorgate.dev/retired-at";
    /// On a serving runtime: `"server"` where its container is Tensorgate and fetches models itself.
    pub const FETCH: &str = "tensorgate.dev/fetch";
    /// `"true"` takes everything down but the history.
    pub const STOP: &str = "serving.kserve.io/stop";
    /// Standard, Knative or ModelMesh.
    pub const DEPLOYMENT_MODE: &str = "serving.kserve.io/deploymentMode";
    /// tensorgate, hpa, keda, external or none.
    pub const AUTOSCALER: &str = "serving.kserve.io/autoscalerClass";
    /// On a Deployment: within what our own autoscaler keeps its replicas, as JSON.
    pub const SCALE: &str = "tensorgate.dev/scale";
    /// On a Deployment: how many replicas our own autoscaler set last, and why.
    pub const SCALED: &str = "tensorgate.dev/scaled";
    /// On a Deployment: what our own autoscaler has to know after a start of the controller, as JSON.
    pub const SCALE_MEMORY: &str = "tensorgate.dev/scale-memory";
    /// On a Deployment: rows per second that one replica was learned to serve, for when there is none to ask.
    pub const CAPACITY: &str = "tensorgate.dev/capacity";
    /// cpu or memory, for the hpa class.
    pub const METRIC: &str = "serving.kserve.io/metrics";
    /// Per cent of the request, for the hpa class.
    pub const TARGET: &str = "serving.kserve.io/targetUtilizationPercentage";
    /// The Secret to use in place of the service account's.
    pub const STORAGE_SECRET: &str = "serving.kserve.io/storageSecretName";
    /// `"false"` mounts a PersistentVolumeClaim writable.
    pub const READ_ONLY: &str = "storage.kserve.io/readonly";
    /// `cluster-local` keeps a service off the Gateway.
    pub const VISIBILITY: &str = "networking.kserve.io/visibility";
    /// `"true"` puts a router before the revisions, so that callers inside the cluster get the split too.
    pub const ROUTER: &str = "tensorgate.dev/router";
    /// `"true"` or a JSON object guards rollouts: a new revision gets its share by steps, as long as it does as well as the old one.
    pub const ROLLOUT: &str = "tensorgate.dev/rollout";
    /// The header by whose value the router chooses.
    pub const STICKY_HEADER: &str = "tensorgate.dev/sticky-header";
    /// Seconds without a request after which a component with `minReplicas: 0` has no pods.
    pub const IDLE_SECONDS: &str = "tensorgate.dev/idle-seconds";
    /// On the pods of a router that the controller asks: `"true"` where requests wait there, `"false"` where it only compares answers.
    pub const HOLDS: &str = "tensorgate.dev/holds";
    /// On a service account: the IAM role of EKS.
    pub const IRSA: &str = "eks.amazonaws.com/role-arn";
    /// Scraping, as KServe's users switch it on.
    pub const SCRAPING: &str = "serving.kserve.io/enable-prometheus-scraping";
}
