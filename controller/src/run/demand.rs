//! Who waits at the routers of services that may have no pods: asked of each router, which answers at once where somebody waits.
//!
//! So a router needs no right at the API server and knows no controller, and a cold start begins within a round trip.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::{AbortHandle, JoinSet};

use super::index::Index;
use super::queue::{Key, Queues};
use crate::admin::Asker;
use crate::api::keys;
use crate::demand::{self, Demand};
use crate::tree;

/// The table of [`Index`] that has the pods of routers that are asked.
pub const ROUTERS: &str = "RouterPod";
/// How often it is looked for routers that came or went, and a router that did not answer is asked again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Routers that are asked at a time: a connection and a small task each.
const ROUTERS_MAX: usize = 2000;
/// Beyond the router's own patience, for the way.
const PATIENCE: Duration = Duration::from_secs(10);

/// What routers have told, by service and pod; none where one does not answer.
#[derive(Debug, Default)]
pub struct Demands {
    told: Mutex<BTreeMap<Key, BTreeMap<String, Option<Demand>>>>,
}

impl Demands {
    /// What all routers of a service tell together. Where one is silent it is known only that somebody waits, if so.
    pub fn of(&self, service: &Key) -> Option<Demand> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let routers = told.get(service)?;
        let mut whole: Option<Demand> = None;
        for demand in routers.values().flatten() {
            match &mut whole {
                Some(whole) => whole.add(demand),
                None => whole = Some(demand.clone()),
            }
        }
        let silent = routers.values().any(Option::is_none);
        whole.filter(|whole| !silent || whole.revisions.values().any(|own| own.waiting > 0))
    }

    /// Whether it is something else than before that a plan would look at.
    fn tell(&self, service: &Key, pod: &str, demand: Option<Demand>) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.entry(service.clone()).or_default().insert(pod.to_owned(), demand.clone());
        match (before.flatten(), demand) {
            (Some(before), Some(now)) => before.sequence != now.sequence,
            (before, now) => before.is_some() != now.is_some(),
        }
    }

    fn forget(&self, service: &Key, pod: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(routers) = told.get_mut(service) {
            routers.remove(pod);
            if routers.is_empty() {
                told.remove(service);
            }
        }
    }
}

/// A router's pod: its service, its name, and where it tells.
type Router = (Key, String, SocketAddr);

/// Asks all routers for ever.
pub async fn follow(index: Arc<Index>, demands: Arc<Demands>, queues: Arc<Queues>) {
    let mut asked: BTreeMap<Router, AbortHandle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let there: Vec<Router> = index.all(ROUTERS).iter().filter_map(|pod| router(pod)).take(ROUTERS_MAX).collect();
        asked.retain(|own, task| {
            let stays = there.contains(own);
            if !stays {
                task.abort();
                demands.forget(&own.0, &own.1);
                queues.services.touch(own.0.clone());
            }
            stays
        });
        for own in there {
            let (demands, queues) = (demands.clone(), queues.clone());
            asked.entry(own.clone()).or_insert_with(|| tasks.spawn(ask(own, demands, queues)));
        }
        while tasks.try_join_next().is_some() {}
    }
}

async fn ask((service, pod, address): Router, demands: Arc<Demands>, queues: Arc<Queues>) {
    demands.tell(&service, &pod, None);
    loop {
        if let Err(error) = listen(&service, &pod, address, &demands, &queues).await {
            tracing::debug!(namespace = service.0, pod, %error, "a router does not tell its demand; asking again");
        }
        if demands.tell(&service, &pod, None) {
            queues.services.touch(service.clone());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Asks one router as long as it answers.
async fn listen(
    service: &Key,
    pod: &str,
    address: SocketAddr,
    demands: &Demands,
    queues: &Queues,
) -> std::io::Result<()> {
    let mut asker = Asker::connect(address).await?;
    let mut path = demand::PATH.to_owned();
    loop {
        let text = asker.ask(&path, PATIENCE).await?;
        let told: Demand = serde_json::from_slice(&text).map_err(std::io::Error::other)?;
        path = format!("{}?seen={}", demand::PATH, told.sequence);
        if demands.tell(service, pod, Some(told)) {
            // Somebody may wait: at once, and not when what else there is has settled.
            queues.services.after(service.clone(), Duration::ZERO);
        }
    }
}

/// A pod that runs, by its address and the port that is named `admin`.
fn router(pod: &Value) -> Option<Router> {
    let holds = tree::label(pod, keys::HOLDS) == Some("true");
    if !holds || pod["metadata"].get("deletionTimestamp").is_some() || pod["status"]["phase"] != "Running" {
        return None;
    }
    let namespace = tree::text(pod, &["metadata", "namespace"])?;
    let service = tree::label(pod, keys::SERVICE)?;
    let address = tree::text(pod, &["status", "podIP"])?.parse().ok()?;
    let ports = tree::list(pod, &["spec", "containers"]).iter().flat_map(|own| tree::list(own, &["ports"]));
    let port = ports.into_iter().find(|port| port["name"] == "admin")?;
    let port = u16::try_from(tree::number(port, &["containerPort"])?).ok()?;
    Some(((namespace.to_owned(), service.to_owned()), tree::name(pod).to_owned(), SocketAddr::new(address, port)))
}

#[cfg(test)]
mod tests {
    use crate::demand::RevisionDemand;

    use super::*;

    fn waits(sequence: u64, waiting: usize) -> Option<Demand> {
        let own = RevisionDemand { waiting, running: 0, idle_seconds: 700 };
        Some(Demand { sequence, up_seconds: 900, revisions: [("r".to_owned(), own)].into() })
    }

    #[test]
    fn a_silent_router_keeps_a_service_awake_and_cannot_keep_it_asleep() {
        let (demands, key) = (Demands::default(), ("ns".to_owned(), "iris".to_owned()));
        assert_eq!(demands.of(&key), None);
        assert!(demands.tell(&key, "one", waits(1, 0)));
        assert!(!demands.tell(&key, "one", waits(1, 0)), "nothing new");
        assert_eq!(demands.of(&key).unwrap().revisions["r"].idle_seconds, 700);
        demands.tell(&key, "two", None);
        assert_eq!(demands.of(&key), None);
        assert!(demands.tell(&key, "one", waits(2, 3)));
        assert_eq!(demands.of(&key).unwrap().revisions["r"].waiting, 3);
        demands.forget(&key, "one");
        demands.forget(&key, "two");
        assert_eq!(demands.of(&key), None);
    }
}
