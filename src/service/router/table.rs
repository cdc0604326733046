//! The traffic of one model: what was asked for, and what it has come to.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::arm::Arm;
use super::canary::{Phase, Rollout, Seen};
use super::mirror::{Compared, Mirror, Mirroring};
use super::note::Note;
use super::split::{Chance, Weights, pick};
use crate::infer::InferRequest;
use crate::model::Version;
use crate::model::traffic::TrafficSettings;
use crate::repository::{Model, Repository};
use crate::verdict::Counts;

/// See the module.
pub(super) struct Split {
    pub(super) settings: Arc<TrafficSettings>,
    /// The model's own settings that this follows; `None` where a caller has set it.
    pub(super) declared: Option<Arc<TrafficSettings>>,
    /// Whether there is nothing that was asked for in vain.
    resolved: bool,
    /// Weights above zero, as they are now; empty where all goes to the newest version.
    shares: RwLock<Weights>,
    mirrors: Vec<Arc<Mirror>>,
    guarded: Option<Guarded>,
}

/// A canary and what guards it.
struct Guarded {
    canary: Arc<Arm>,
    stable: Arc<Arm>,
    versions: [Version; 2],
    /// Whether it is still judged: else nothing is counted or mirrored.
    running: AtomicBool,
    rollout: Mutex<Judged>,
}

struct Judged {
    rollout: Rollout,
    /// When it is judged next.
    due: Instant,
}

/// What `settings` have mirrored; answers of a canary are held against those of its `stable`.
pub(super) fn mirrorings(settings: &TrafficSettings, stable: Option<Version>) -> impl Iterator<Item = Mirroring> {
    let compare = &settings.compare;
    let shadow = settings.shadow.as_ref().map(|shadow| Mirroring {
        version: shadow.version,
        share: shadow.share,
        of: None,
        compare: *compare,
    });
    let canary = settings.canary.as_ref().filter(|canary| canary.disagreement.is_some() && stable.is_some());
    let canary =
        canary.map(|canary| Mirroring { version: canary.version, share: canary.share, of: stable, compare: *compare });
    shadow.into_iter().chain(canary)
}

fn shares_of(rollout: &Rollout) -> Weights {
    let percent = rollout.percent();
    let mut shares = vec![(rollout.stable(), 100.0 - percent), (rollout.settings().version, percent)];
    shares.retain(|(_, share)| *share > 0.0);
    shares
}

impl Split {
    pub(super) fn new(
        now: Instant,
        settings: Arc<TrafficSettings>,
        declared: Option<Arc<TrafficSettings>>,
        stable: Option<Version>,
        mirrors: Vec<Mirror>,
    ) -> Self {
        let rollout = settings.canary.clone().zip(stable).map(|(canary, stable)| Rollout::new(now, canary, stable));
        let weights = settings.weights.iter().copied().filter(|(_, weight)| *weight > 0.0).collect();
        let shares = rollout.as_ref().map_or(weights, shares_of);
        let guarded = rollout.map(|rollout| Guarded {
            canary: Arc::default(),
            stable: Arc::default(),
            versions: [rollout.settings().version, rollout.stable()],
            running: AtomicBool::new(true),
            rollout: Mutex::new(Judged { due: now + rollout.settings().interval, rollout }),
        });
        let resolved = settings.canary.is_none() || guarded.is_some();
        let mirrors = mirrors.into_iter().map(Arc::new).collect();
        Self { settings, declared, resolved, shares: RwLock::new(shares), mirrors, guarded }
    }

    /// Whether this is what holds where the model's settings declare `declared`. The same settings read again are no change: a
    /// canary goes on.
    pub(super) fn holds(&self, declared: Option<&Arc<TrafficSettings>>) -> bool {
        match (&self.declared, declared) {
            (None, _) => true,
            (Some(own), Some(now)) => Arc::ptr_eq(own, now) || self.resolved && own == now,
            (Some(_), None) => false,
        }
    }

    pub(super) fn shares(&self) -> RwLockReadGuard<'_, Weights> {
        self.shares.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Versions that must not answer, whatever else is ready: those without weight, shadows, and a canary that was rolled back.
    pub(super) fn dark(&self) -> Vec<Version> {
        let zero = self.settings.weights.iter().filter(|(_, weight)| *weight == 0.0).map(|(version, _)| *version);
        let shadow = self.settings.shadow.iter().map(|shadow| shadow.version);
        let canary = self.guarded.iter().map(|guarded| guarded.versions[0]);
        let shares = self.shares();
        let canary = canary.filter(|canary| shares.iter().all(|(version, _)| version != canary));
        zero.chain(shadow).chain(canary).collect()
    }

    /// The version of those `ready` that answers the caller of `key`, or else by chance.
    pub(super) fn choose(&self, ready: &[Arc<Model>], key: Option<u64>, chance: &Chance) -> Option<Arc<Model>> {
        let find = |version: Version| ready.iter().find(|model| model.version() == version);
        let picked = pick(&self.shares(), |version| find(version).is_some(), key, || chance.draw());
        picked.and_then(find).or_else(|| self.instead(ready)).cloned()
    }

    /// The one that answers most requests.
    pub(super) fn heaviest(&self, ready: &[Arc<Model>]) -> Option<Arc<Model>> {
        let shares = self.shares();
        let weight = |model: &Arc<Model>| shares.iter().find(|(version, _)| *version == model.version());
        let serving = ready.iter().filter_map(|model| Some((model, weight(model)?.1)));
        let heaviest = serving.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(model, _)| model);
        heaviest.or_else(|| self.instead(ready)).cloned()
    }

    /// The newest version that may answer, where none that has a weight is ready.
    fn instead<'a>(&self, ready: &'a [Arc<Model>]) -> Option<&'a Arc<Model>> {
        let dark = self.dark();
        ready.iter().rev().find(|model| !dark.contains(&model.version()))
    }

    /// What is to be noted of a request that `model` answers, if anything.
    pub(super) fn note(&self, model: &Model, request: &InferRequest, chance: &Chance) -> Option<Box<Note>> {
        let guarded = self.guarded.as_ref().filter(|guarded| guarded.running.load(Relaxed));
        let arm = guarded.and_then(|guarded| guarded.arm(model.version()));
        // A client may change what lies in its memory meanwhile.
        let own = request.placed.is_empty() && request.outputs.iter().all(|output| output.place.is_none());
        let wanted = |mirror: &&Arc<Mirror>| {
            let asked = mirror.of.is_none_or(|of| guarded.is_some() && of == model.version());
            own && asked && mirror.version != model.version() && chance.draw() < mirror.share
        };
        let mirrors = self.mirrors.iter().filter(wanted).filter(|mirror| mirror.has_room());
        let copies: Vec<_> = mirrors.map(|mirror| (Arc::clone(mirror), request.clone())).collect();
        (arm.is_some() || !copies.is_empty()).then(|| {
            let rows = request.inputs.first().and_then(|input| input.tensor.rows()).unwrap_or(1);
            Box::new(Note::new(arm.cloned(), copies, rows, model.objective()))
        })
    }

    /// Judges the canary where it is due; gives when it is due next.
    pub(super) fn judge(&self, name: &str, repository: &Repository, now: Instant) -> Option<Instant> {
        let guarded = self.guarded.as_ref().filter(|guarded| guarded.running.load(Relaxed))?;
        let mut judged = guarded.judged();
        if judged.due > now {
            return Some(judged.due);
        }
        let models = guarded.versions.map(|version| repository.resolve(name, Some(&version.to_string())));
        let missing = models.iter().find_map(|model| Some(model.as_ref().err()?.to_string()));
        let mut objective = Duration::MAX;
        if let [Ok(canary), Ok(stable)] = &models {
            objective = canary.objective();
            let strict = canary.signature() != stable.signature();
            [&guarded.canary, &guarded.stable].iter().for_each(|arm| arm.strict.store(strict, Relaxed));
        }
        let compared = self.canary_compared().unwrap_or_default();
        let compared = Counts::new(compared.disagreed, compared.agreed + compared.disagreed);
        let (canary, stable) = (guarded.canary.read(), guarded.stable.read());
        let changed = judged.rollout.judge(now, Seen { canary, stable, compared, objective, missing });
        judged.due = now + judged.rollout.settings().interval;
        if changed {
            *self.shares.write().unwrap_or_else(PoisonError::into_inner) = shares_of(&judged.rollout);
            guarded.running.store(matches!(judged.rollout.phase(), Phase::Running(_)), Relaxed);
            match judged.rollout.phase() {
                Phase::RolledBack => tracing::warn!(model = name, "canary: {}", judged.rollout),
                _ => tracing::info!(model = name, "canary: {}", judged.rollout),
            }
        }
        Some(judged.due)
    }

    /// The rollout as it stands.
    pub(super) fn rollout(&self) -> Option<Rollout> {
        self.guarded.as_ref().map(|guarded| guarded.judged().rollout.clone())
    }

    /// What comparing the shadow, of this version and share, has come to.
    pub(super) fn shadow_compared(&self) -> Option<(Version, f64, Compared)> {
        let mirror = self.mirrors.iter().find(|mirror| mirror.of.is_none())?;
        Some((mirror.version, mirror.share, mirror.compared()))
    }

    /// What comparing the canary has come to, where its answers are compared.
    pub(super) fn canary_compared(&self) -> Option<Compared> {
        self.mirrors.iter().find(|mirror| mirror.of.is_some()).map(|mirror| mirror.compared())
    }
}

impl Guarded {
    fn arm(&self, version: Version) -> Option<&Arc<Arm>> {
        let [canary, stable] = self.versions;
        if version == canary { Some(&self.canary) } else { (version == stable).then_some(&self.stable) }
    }

    fn judged(&self) -> MutexGuard<'_, Judged> {
        self.rollout.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
