//! Who of several controllers leads: the holder of a Lease, renewed in time, taken over only when it has run out or was given up.
//! Every write is bound to the version that was read, so two can never both win.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use crate::api::MANAGER;

/// How long a lease holds without being renewed, client-go's default.
const HOLDS: Duration = Duration::from_secs(15);
/// How often it is renewed, or looked at by those who wait: three chances before it runs out.
const PERIOD: Duration = Duration::from_secs(4);

/// This controller's side of the Lease.
pub struct Election {
    api: Api<Lease>,
    identity: String,
    held: Option<Lease>,
    renewed: tokio::time::Instant,
    /// What another holder wrote last, and when we saw it: its clock need not be ours.
    seen: Option<(Option<String>, Option<MicroTime>, tokio::time::Instant)>,
}

impl Election {
    /// For the Lease `tensorgate-controller` of `namespace`.
    pub fn new(client: Client, namespace: &str, identity: String) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, identity, held: None, renewed: tokio::time::Instant::now(), seen: None }
    }

    /// Waits until this controller leads.
    pub async fn win(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the lease could not be read or written; trying again"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Keeps the lease; comes back only when it is lost.
    pub async fn keep(&mut self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            match self.attempt().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "the lease could not be renewed");
                    // One period before others may take it, so that never two lead.
                    if self.renewed.elapsed() + PERIOD >= HOLDS {
                        return;
                    }
                }
            }
        }
    }

    /// Gives the lease up, so that the next need not wait for it to run out.
    pub async fn release(&mut self) {
        let Some(mut lease) = self.held.take() else { return };
        if let Some(spec) = lease.spec.as_mut() {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        if let Err(error) = self.api.replace(MANAGER, &PostParams::default(), &lease).await {
            tracing::warn!(%error, "the lease could not be given up; it runs out by itself");
        }
    }

    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let now = Timestamp::now();
        let Some(mut lease) = self.api.get_opt(MANAGER).await? else {
            let metadata = ObjectMeta { name: Some(MANAGER.into()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(now, 0)) };
            let outcome = self.api.create(&PostParams::default(), &lease).await;
            return self.written(outcome);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let ours = holder == self.identity;
        if !ours && !holder.is_empty() && !self.has_run_out(&spec) {
            self.held = None;
            return Ok(false);
        }
        let transitions = spec.lease_transitions.unwrap_or(0) + i32::from(!ours);
        let mut renewed = self.spec(now, transitions);
        if ours {
            renewed.acquire_time = spec.acquire_time;
        }
        lease.spec = Some(renewed);
        let outcome = self.api.replace(MANAGER, &PostParams::default(), &lease).await;
        self.written(outcome)
    }

    /// Whether another's lease has not been renewed for as long as it holds, by our clock since we first saw it.
    fn has_run_out(&mut self, spec: &LeaseSpec) -> bool {
        let state = (spec.holder_identity.clone(), spec.renew_time.clone());
        let holds = Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(15)).unwrap_or(15));
        match &self.seen {
            Some((holder, renewed, since)) if *holder == state.0 && *renewed == state.1 => since.elapsed() >= holds,
            _ => {
                self.seen = Some((state.0, state.1, tokio::time::Instant::now()));
                // One that ran out long ago by any clock need not be watched: nobody has been there.
                let old = spec
                    .renew_time
                    .as_ref()
                    .is_some_and(|at| Timestamp::now().duration_since(at.0) > SignedDuration::from_mins(2));
                old || spec.renew_time.is_none()
            }
        }
    }

    fn written(&mut self, outcome: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
        match outcome {
            Ok(lease) => {
                self.held = Some(lease);
                self.renewed = tokio::time::Instant::now();
                Ok(true)
            }
            // Somebody was quicker.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, now: Timestamp, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(HOLDS.as_secs()).ok(),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}
