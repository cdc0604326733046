//! Who of several controllers leads: the holder of a Lease, renewed in time, taken over only when it has run out or was given up.
//! Every write is bound to the version that was read, so two can never both win.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::Instant;

use crate::api::MANAGER;

/// How long a lease holds without being renewed, client-go's default.
const HOLDS: Duration = Duration::from_secs(15);
/// How often it is renewed, or looked at by those who wait: three chances before it runs out. And how long an API server may take to
/// answer: one that says nothing must not keep us believing that we lead.
const PERIOD: Duration = Duration::from_secs(4);
/// After an attempt that failed: before it runs out there is time for some.
const AGAIN: Duration = Duration::from_secs(1);

/// This controller's side of the Lease.
pub struct Election {
    api: Api<Lease>,
    identity: String,
    held: Option<Lease>,
    renewed: Instant,
    /// What another holder wrote last, and when we saw it: its clock need not be ours.
    seen: Option<(Option<String>, Option<MicroTime>, Instant)>,
}

/// What became of an attempt to get or renew it.
enum Attempt {
    /// We hold it.
    Ours,
    /// Another does.
    Taken,
    /// Another has written it in between.
    Raced,
}

impl Election {
    /// For the Lease `tensorgate-controller` of `namespace`.
    pub fn new(client: Client, namespace: &str, identity: String) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, identity, held: None, renewed: Instant::now(), seen: None }
    }

    /// Waits until this controller leads.
    pub async fn win(&mut self) {
        loop {
            match self.attempt_within(PERIOD).await {
                Ok(Attempt::Ours) => return,
                Ok(Attempt::Taken | Attempt::Raced) => {}
                Err(error) => tracing::warn!(error, "the lease could not be read or written; trying again"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Keeps the lease; comes back only when it is lost.
    pub async fn keep(&mut self) {
        let mut pause = PERIOD;
        loop {
            // One period before others may take it, so that never two lead.
            let lost = self.renewed + (HOLDS - PERIOD);
            tokio::time::sleep_until(lost.min(Instant::now() + pause)).await;
            let left = lost.saturating_duration_since(Instant::now());
            pause = match self.attempt_within(left.min(PERIOD)).await {
                Ok(Attempt::Ours) => PERIOD,
                Ok(Attempt::Taken) => return,
                // Somebody else has written it, who need not have taken it: a label, for one.
                Ok(Attempt::Raced) => AGAIN,
                Err(error) => {
                    tracing::warn!(error, "the lease could not be renewed");
                    AGAIN
                }
            };
            if pause == AGAIN && Instant::now() >= lost {
                return;
            }
        }
    }

    async fn attempt_within(&mut self, time: Duration) -> Result<Attempt, String> {
        match tokio::time::timeout(time, self.attempt()).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {time:?}")),
        }
    }

    /// Gives the lease up, so that the next need not wait for it to run out.
    pub async fn release(&mut self) {
        let Some(mut lease) = self.held.take() else { return };
        if let Some(spec) = lease.spec.as_mut() {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        let parameters = PostParams::default();
        let error = match tokio::time::timeout(PERIOD, self.api.replace(MANAGER, &parameters, &lease)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PERIOD:?}"),
        };
        tracing::warn!(error, "the lease could not be given up; it runs out by itself");
    }

    async fn attempt(&mut self) -> Result<Attempt, kube::Error> {
        let (now, asked) = (Timestamp::now(), Instant::now());
        let Some(mut lease) = self.api.get_opt(MANAGER).await? else {
            let metadata = ObjectMeta { name: Some(MANAGER.into()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(now, 0)) };
            let outcome = self.api.create(&PostParams::default(), &lease).await;
            return self.written(outcome, asked);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let ours = holder == self.identity;
        if !ours && !holder.is_empty() && !self.has_run_out(&spec) {
            self.held = None;
            return Ok(Attempt::Taken);
        }
        let transitions = spec.lease_transitions.unwrap_or(0) + i32::from(!ours);
        let mut renewed = self.spec(now, transitions);
        if ours {
            renewed.acquire_time = spec.acquire_time;
        }
        lease.spec = Some(renewed);
        let outcome = self.api.replace(MANAGER, &PostParams::default(), &lease).await;
        self.written(outcome, asked)
    }

    /// Whether another's lease has not been renewed for as long as it holds, by our clock since we first saw it.
    fn has_run_out(&mut self, spec: &LeaseSpec) -> bool {
        let state = (spec.holder_identity.clone(), spec.renew_time.clone());
        let holds = Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(15)).unwrap_or(15));
        match &self.seen {
            Some((holder, renewed, since)) if *holder == state.0 && *renewed == state.1 => since.elapsed() >= holds,
            _ => {
                self.seen = Some((state.0, state.1, Instant::now()));
                // One that ran out long ago by any clock need not be watched: nobody has been there.
                let old = spec
                    .renew_time
                    .as_ref()
                    .is_some_and(|at| Timestamp::now().duration_since(at.0) > SignedDuration::from_mins(2));
                old || spec.renew_time.is_none()
            }
        }
    }

    /// It holds from when it was asked for: an answer may be long on its way.
    fn written(&mut self, outcome: Result<Lease, kube::Error>, asked: Instant) -> Result<Attempt, kube::Error> {
        match outcome {
            Ok(lease) => {
                self.held = Some(lease);
                self.renewed = asked;
                Ok(Attempt::Ours)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Attempt::Raced),
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
