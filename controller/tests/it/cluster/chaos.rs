//! A controller that is killed at every call of a guarded rollout, each time followed by another, while callers never stop.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tensorgate_controller::tree;

use super::scenario::{echo, storm, until_routed};
use super::{Cluster, Site, inference_service, revision_of};
use crate::apiserver::Trouble;
use crate::binary::Controller;

/// The models that follow one another: three, since who goes back to the one before is not kept waiting.
const PLACES: [&str; 3] = ["a", "b", "c"];

struct Chaos {
    cluster: Cluster,
    site: Site,
    controller: Controller,
    /// Which of the places serves.
    place: usize,
}

impl Chaos {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        PLACES.iter().for_each(|place| cluster.add_identity(&format!("echo/{place}"), 0));
        let (controller, site) = (cluster.controller().await, cluster.site().await);
        let own = Self { cluster, site, controller, place: 0 };
        own.ask_for(0).await;
        until_routed(&own.site, "echo").await;
        own
    }

    async fn ask_for(&self, place: usize) {
        let rollout =
            r#"{"steps": [50], "stepRequests": 10, "stepTime": "0s", "errors": 0.3, "late": 0.5, "latency": 100}"#;
        let uri = format!("pvc://models/echo/{}", PLACES[place]);
        self.site.apply(&inference_service("echo", &uri, json!({}), json!({"tensorgate.dev/rollout": rollout}))).await;
    }

    async fn until_rolled_out(&self) {
        let number = u32::try_from(self.place + 1).unwrap();
        self.site.wait_for_shares("echo", &[(number, 100)]).await;
        self.site
            .wait("echo", "the rollout to be told", |own| {
                let rollout = tree::at(own, &["status", "components", "predictor", "rollout"]);
                rollout["phase"] == "Promoted" && rollout["revision"] == revision_of("echo", number)
            })
            .await;
    }

    /// Has the next model rolled out, with the controller killed at its `at`-th writing call, then started again; gives the number
    /// of such calls.
    async fn killed_at(&mut self, at: usize) -> usize {
        let before = self.cluster.server.writes();
        let writes = AtomicUsize::new(0);
        let (died, mut dead) = tokio::sync::mpsc::unbounded_channel();
        self.cluster.server.break_calls(move |call| {
            if call.method == "GET" || call.path.contains("/leases") {
                return None;
            }
            let number = writes.fetch_add(1, Ordering::Relaxed);
            if number > at {
                // Nothing more of this controller arrives: it is as good as dead from here on.
                let _told_before = died.send(());
                return Some(Trouble::Refused(503));
            }
            None
        });
        self.place = (self.place + 1) % PLACES.len();
        // The first of these calls.
        self.ask_for(self.place).await;
        let killed = tokio::select! {
            () = self.until_rolled_out() => false,
            _ = dead.recv() => true,
        };
        if killed {
            self.controller.kill().await;
            self.cluster.server.mend();
            self.controller = self.cluster.controller().await;
            self.until_rolled_out().await;
        }
        self.cluster.server.mend();
        self.cluster.server.writes() - before - 1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_rollout_ends_alike_wherever_its_controller_is_killed_and_nobody_loses_a_request() {
    let mut chaos = Chaos::start().await;
    let storm = storm(&chaos.site, &echo(), "echo").await;
    // The first run is not killed, and tells how many calls there are.
    let calls = chaos.killed_at(usize::MAX).await;
    assert!((8..60).contains(&calls), "{calls} calls");
    for at in 0..calls {
        chaos.killed_at(at).await;
    }
    let revisions = chaos.cluster.server.look(|store| store.list("ControllerRevision", None, "").len());
    assert_eq!(revisions, PLACES.len(), "a controller that was killed must not make a revision twice");
    let counted = storm.stop().await;
    assert_eq!((counted.failed, &counted.failures), (0, &Vec::new()));
    assert!(counted.all() > 1000, "{} answers", counted.all());
}
