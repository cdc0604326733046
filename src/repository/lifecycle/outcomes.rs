//! What loads and unloads came to.

use std::sync::Arc;
use std::time::Duration;

use super::super::Model;
use super::super::loader::Loaded;
use super::super::policy::{Fingerprint, Id, Phase};
use super::super::sha256::Identity;
use super::{Ended, Keeper, Measured, Stopping, give_memory_back};
use crate::error::Error;
use crate::model::ModelState;
use crate::scheduler::{Batching, Padded, Scheduler};

impl Keeper {
    pub(super) fn note(&mut self, ended: Ended) {
        let (Ended::Loaded(id, ..) | Ended::Unloaded(id) | Ended::PagedOut(id)) = &ended;
        let name = id.0.clone();
        match ended {
            Ended::Unloaded(id) => {
                tracing::info!(model = %id.0, version = %id.1, "unloaded");
                self.actual.remove(&id);
                self.set_state(&id, ModelState::Unavailable("unloaded".into()));
                self.show_memory();
            }
            Ended::PagedOut(id) => self.note_paged_out(&id),
            Ended::Loaded(id, fingerprint, loaded, measured) => {
                self.end_load(&id);
                match *loaded {
                    Ok(loaded) => self.publish(id, fingerprint, loaded, &measured),
                    Err(error) => self.note_failure(id, fingerprint, &error),
                }
            }
        }
        self.let_go(&name);
    }

    pub(super) fn note_failure(&mut self, id: Id, fingerprint: Fingerprint, error: &Error) {
        tracing::error!(model = %id.0, version = %id.1, "failed to load: {error}");
        // What an earlier load serves from does not matter to the policy, only that it does.
        let serves = self.stopping.contains_key(&id).then_some(fingerprint);
        self.actual.insert(id.clone(), Phase::Failed(fingerprint, serves));
        self.catalog.note_failure(&id.0, id.1, error.message());
        let retry = if serves.is_none() { self.retry_later(&id) } else { None };
        self.set_state(&id, ModelState::Unavailable(error.message().into()));
        let refusal = Error::unavailable(format!("model '{}' version {} failed to load: {error}", id.0, id.1));
        let refusal = match retry {
            Some(pause) => refusal.with_retry_after(pause),
            None => refusal,
        };
        self.answer_summons(&id, &Err(refusal));
    }

    fn publish(&mut self, id: Id, fingerprint: Fingerprint, loaded: Loaded, measured: &Measured) {
        // What comes back as it was goes on counting.
        let (metrics, life) = match self.taken_back(&id, fingerprint) {
            Some(earlier) => (Arc::clone(&earlier.metrics), Arc::clone(&earlier.life)),
            None => (Arc::new(self.telemetry.model(id.0.as_str(), &id.1.to_string())), Arc::default()),
        };
        let (took, runtime, device) = (measured.took, loaded.runtime, loaded.device);
        metrics.load_seconds.set(took.as_secs_f64());
        report(&id, &loaded, took);
        let (signature, precedent) = (loaded.model.signature().clone(), Arc::new(loaded.precedent()));
        let (instances, scheduling) = (loaded.instances.len(), loaded.scheduler.clone());
        let (scheduler, stopped) = Scheduler::start(
            loaded.model,
            loaded.instances,
            loaded.warm_up.curve,
            loaded.scheduler,
            loaded.shares_cores.then_some(&self.cores),
            Arc::clone(&metrics),
        );
        let model = Model {
            name: id.0.clone(),
            version: id.1,
            signature,
            labels: loaded.labels,
            text: loaded.text,
            runtime: loaded.runtime,
            platform: loaded.platform,
            device: loaded.device,
            request_rows_max: loaded.request_rows_max,
            settings: loaded.settings,
            instances,
            scheduling,
            precedent,
            life,
            scheduler: Some(scheduler),
            twin: loaded.twin,
            metrics,
            identity: loaded.identity,
            curve_file: loaded.curve_file.clone(),
        };
        let stopping = Stopping { stopped, curve_file: loaded.curve_file };
        let model = Arc::new(model);
        self.catalog.publish(Arc::clone(&model));
        self.answer_summons(&id, &Ok(model));
        self.telemetry.set_state(id.0.as_str(), &id.1.to_string(), ModelState::Ready.name());
        if let Some(earlier) = self.stopping.insert(id.clone(), stopping) {
            // The memory of the load that this one replaces is free once its last request is answered.
            tokio::spawn(async move {
                earlier.done().await;
                give_memory_back().await;
            });
        }
        self.actual.insert(id.clone(), Phase::Ready(fingerprint));
        self.note_in_memory(&id, measured, runtime, device);
    }

    pub(super) fn set_state(&self, id: &Id, state: ModelState) {
        if !self.stopping.contains_key(id) {
            self.telemetry.set_state(id.0.as_str(), &id.1.to_string(), state.name());
        }
        self.catalog.set_state(&id.0, id.1, state);
    }
}

fn report(id: &Id, loaded: &Loaded, took: Duration) {
    let (model, version) = (&id.0, id.1);
    let (instances, rows_max) = (loaded.instances.len(), loaded.scheduler.limits.rows_max);
    // The first run was of one row, which is several units of work where rows are padded.
    let curve = &loaded.warm_up.curve;
    let row = curve.centre(curve.points().next().map_or(1, |point| point.work));
    // As metadata tells it.
    let sha256 = loaded.identity.as_ref().and_then(Identity::sha256);
    let digest = sha256.map(|sha256| format!("sha256:{sha256}"));
    let device = loaded.device.is_gpu().then(|| tracing::field::display(loaded.device));
    tracing::info!(%model, %version, runtime = loaded.runtime, device, instances, rows_max, ?row, ?took, digest, "ready");
    if let Batching::Off { reason, suspicious: true } = &loaded.warm_up.batching {
        tracing::warn!(%model, %version, "requests are not joined into batches: {reason}");
    }
    if let Padded::Off { reason } = &loaded.warm_up.padded {
        tracing::warn!(%model, %version, "requests of different lengths are not padded to share a batch: {reason}");
    }
    if let Some(cause) = &loaded.warm_up.not_run {
        tracing::warn!(%model, %version, "not warmed up, no made-up input could be run: {cause}");
    }
}
