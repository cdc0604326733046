//! Flags of `tensorgate-controller run`, and the settings that follow from them.

use std::net::SocketAddr;

use clap::Args;

use crate::plan::Settings;

/// How the controller runs. Flags go before `TENSORGATE_CONTROLLER_*`, and these before the defaults.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Watch this namespace only, not all
    #[arg(long, env = "TENSORGATE_CONTROLLER_NAMESPACE")]
    pub namespace: Option<String>,

    /// The Gateway for HTTPRoutes, NAMESPACE/NAME; without it services are reached inside the cluster only
    #[arg(long, env = "TENSORGATE_CONTROLLER_GATEWAY", value_parser = gateway)]
    pub gateway: Option<(String, String)>,

    /// The domain of hosts at the Gateway
    #[arg(long, env = "TENSORGATE_CONTROLLER_DOMAIN", default_value = "example.com")]
    pub domain: String,

    /// Hosts at the Gateway, as KServe's domainTemplate
    #[arg(
        long,
        env = "TENSORGATE_CONTROLLER_DOMAIN_TEMPLATE",
        default_value = "{{.Name}}-{{.Namespace}}.{{.IngressDomain}}"
    )]
    pub domain_template: String,

    /// http or https, in the addresses that statuses tell
    #[arg(long, env = "TENSORGATE_CONTROLLER_URL_SCHEME", default_value = "http")]
    pub url_scheme: String,

    /// The cluster's own domain
    #[arg(long, env = "TENSORGATE_CONTROLLER_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,

    /// Seconds that a revision's pods stay after their last share of the traffic, for Gateways that follow late
    #[arg(long, env = "TENSORGATE_CONTROLLER_RETIRE_AFTER", default_value_t = 30)]
    pub retire_after: u32,

    /// A folder of the nodes for what servers fetched, writable for their user and shared by the pods of a node [default: each
    /// pod's own emptyDir]
    #[arg(long, env = "TENSORGATE_CONTROLLER_NODE_CACHE")]
    pub node_cache: Option<String>,

    /// KServe's storage initializer, for runtimes that do not fetch models themselves [default: such are refused]
    #[arg(long, env = "TENSORGATE_CONTROLLER_STORAGE_INITIALIZER_IMAGE")]
    pub storage_initializer_image: Option<String>,

    /// The image of routers, this controller's own; services ask for one by the annotation tensorgate.dev/router, and graphs need one
    #[arg(long, env = "TENSORGATE_CONTROLLER_ROUTER_IMAGE")]
    pub router_image: Option<String>,

    /// KEDA is installed, so that services may be of its class; without it such are refused
    #[arg(long, env = "TENSORGATE_CONTROLLER_KEDA")]
    pub keda: bool,

    /// Headers that reach every step of a graph, as regular expressions [default: none but those of tracing]
    #[arg(long, env = "TENSORGATE_CONTROLLER_GRAPH_HEADERS", value_delimiter = ',')]
    pub graph_headers: Vec<String>,

    /// Where health and metrics are served: /healthz, /readyz, /metrics
    #[arg(long, env = "TENSORGATE_CONTROLLER_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// The namespace of the Lease by which one of several controllers leads
    #[arg(long, env = "TENSORGATE_CONTROLLER_LEASE_NAMESPACE", default_value = "tensorgate-system")]
    pub lease_namespace: String,

    /// This controller's name in the Lease [default: the host's name and the process id]
    #[arg(long, env = "TENSORGATE_CONTROLLER_IDENTITY")]
    pub identity: Option<String>,

    /// Seconds for which the highest need counts before our own autoscaler lets replicas go, and at least as long as a pod's start
    #[arg(long, env = "TENSORGATE_CONTROLLER_SCALE_DOWN_AFTER", default_value_t = 60)]
    pub scale_down_after: u32,

    /// Services that are worked on at a time
    #[arg(long, env = "TENSORGATE_CONTROLLER_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// How logs are written
    #[arg(long, env = "TENSORGATE_CONTROLLER_LOG_FORMAT", default_value = "human", value_parser = ["human", "json"])]
    pub log_format: String,
}

impl RunArgs {
    /// What plans depend on.
    pub fn settings(&self) -> Settings {
        Settings {
            gateway: self.gateway.clone(),
            without_routes: false,
            domain: self.domain.clone(),
            domain_template: self.domain_template.clone(),
            url_scheme: self.url_scheme.clone(),
            cluster_domain: self.cluster_domain.clone(),
            retire_after: i64::from(self.retire_after),
            node_cache: self.node_cache.clone(),
            storage_initializer: self.storage_initializer_image.clone(),
            router_image: self.router_image.clone(),
            graph_headers: self.graph_headers.clone(),
            keda: self.keda,
        }
    }
}

fn gateway(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("NAMESPACE/NAME is wanted, kserve/kserve-ingress-gateway for example".into()),
    }
}
