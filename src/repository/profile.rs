//! What a model takes, measured without serving it.

use std::sync::Arc;
use std::time::Duration;

use super::RepositoryConfig;
use super::catalog::unknown_model;
use super::curves::CurveStore;
use super::disk::Disk;
use super::layout::{ModelListing, VersionFiles};
use super::loader::{self, Loaded, Surroundings};
use super::places::Place;
use super::runtimes::Runtimes;
use crate::capacity::{self, Capacity, Conditions, Point};
use crate::error::{Error, Result};
use crate::model::Version;
use crate::scheduler::{Batching, Curve, profile as measure};
use crate::text::Pool;

/// How long the runs of one size take together: enough for a steady median of what takes milliseconds.
const EACH: Duration = Duration::from_millis(300);

/// Runs of each size that the kept curve learns from: it has settled after some tens.
const LEARNED_MAX: usize = 64;

/// A model's latency by batch size, and what follows from it.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The version measured: the newest that the settings allow.
    pub version: Version,
    /// What ran it.
    pub runtime: &'static str,
    /// Executable copies that serving would make.
    pub instances: usize,
    /// Threads of one execution.
    pub threads: usize,
    /// The latency objective.
    pub objective: Duration,
    /// Why requests are not joined, where they are not: then single rows alone are measured.
    pub not_joined: Option<String>,
    /// What was measured on one instance, by ascending rows.
    pub sizes: Vec<ProfiledSize>,
    /// What all instances serve within the objective, and in which batches.
    pub capacity: Capacity,
}

/// Batches of one size.
#[derive(Clone, Copy, Debug)]
pub struct ProfiledSize {
    /// Rows of the batch.
    pub rows: usize,
    /// What half of the runs stayed below.
    pub p50: Duration,
    /// What 95 % of them stayed below.
    pub p95: Duration,
    /// How many runs there were.
    pub runs: usize,
}

impl ProfiledSize {
    /// Rows per second of one instance.
    pub fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.p50.as_secs_f64().max(1e-9)
    }
}

/// Loads the model called `name` as serving would, and measures batches of 1, 2, 3, 4, 6, 8 and so on up to `rows_max` rows,
/// or else up to what the scheduler would form. What was learned is kept like what is learned by serving. Blocking.
///
/// # Errors
/// [`crate::error::Kind::UnknownModel`] where no repository holds the model; `ModelUnavailable` where it cannot be loaded;
/// `Execution` where it fails on inputs that were made up.
pub fn profile(config: &RepositoryConfig, runtimes: Runtimes, name: &str, rows_max: Option<usize>) -> Result<Profile> {
    let disk = Disk::new(config, &Arc::default())?;
    let listings = disk.scan()?;
    let Some(listing) = listings.iter().find(|listing| listing.name.as_str() == name) else {
        return Err(unknown_model(name, listings.iter().map(|listing| listing.name.clone()).collect()));
    };
    let files = newest(listing)?;
    let curves = config.state_directory.as_deref().and_then(CurveStore::open);
    let (cores, objective) = (config.cores, config.objective);
    let (runtimes, pool) = (Arc::new(runtimes), Arc::new(Pool::new(1)));
    let places = runtimes.places(&listing.settings, &files.path)?;
    let device = places.gpus.first().copied().unwrap_or_default();
    let place = Place { device, or_cpu: places.or_cpu, bytes_max: config.gpu_memory_bytes_max };
    let (sha256s, spare) = (Arc::default(), Arc::default());
    let surroundings = Surroundings { runtimes, curves, urgent: false, place, cores, objective, pool, sha256s, spare };
    let Loaded { model, instances, warm_up, curve_file, runtime, scheduler, .. } = disk
        .materialize(listing, files, false)
        .and_then(|here| loader::load(&surroundings, &here, None))
        .map_err(|error| error.within(format_args!("model '{name}' version {}", files.version)))?;
    let mut limits = scheduler.limits;
    let not_joined = match warm_up.batching {
        Batching::Verified => None,
        Batching::Off { reason, .. } => Some(reason),
    };
    let largest = match not_joined {
        None => rows_max.unwrap_or(limits.rows_max),
        Some(_) => 1,
    };
    limits.rows_max = limits.rows_max.min(largest);
    let count = instances.len();
    let mut instance =
        instances.into_iter().next().ok_or_else(|| Error::internal("a version without instances was loaded"))?;
    let (mut sizes, mut learned) = (Vec::<ProfiledSize>::new(), Vec::new());
    let note = |rows: usize, mut times: Vec<Duration>| {
        learned.push((rows, times[..times.len().min(LEARNED_MAX)].to_vec()));
        times.sort_unstable();
        let at = |share: f64| times[((times.len() as f64 * share) as usize).min(times.len() - 1)];
        sizes.push(ProfiledSize { rows, p50: at(0.5), p95: at(0.95), runs: times.len() });
    };
    measure(instance.as_mut(), model.signature(), capacity::sizes(largest), EACH, note)
        .map_err(|error| error.within(format_args!("model '{name}' fails on made-up inputs")))?;
    // Rows of one length tell little of padded ones.
    if let Some(file) = curve_file.filter(|_| scheduler.padding.is_none()) {
        file.save(&learned_from(warm_up.curve, &learned));
    }
    // Of what the table shows, and not of what was learned on the way there.
    let points: Vec<Point> =
        sizes.iter().map(|size| Point { work: size.rows, centre: size.p50, upper: size.p95 }).collect();
    let (objective, rows_max) = (limits.objective, limits.rows_max);
    let conditions = Conditions { objective, instances: count, rows_max, ..Conditions::default() };
    Ok(Profile {
        version: files.version,
        runtime,
        instances: count,
        threads: scheduler.threads,
        objective,
        not_joined,
        sizes,
        capacity: capacity::capacity(&points, &conditions),
    })
}

/// `curve` with the runs of all sizes in turn, as they come while serving: many of one size in a row would pass for news of
/// all.
fn learned_from(mut curve: Curve, runs: &[(usize, Vec<Duration>)]) -> Curve {
    for turn in 0..LEARNED_MAX {
        for (rows, times) in runs {
            if let Some(took) = times.get(turn) {
                curve.note(*rows, *took);
            }
        }
    }
    curve
}

/// The version that answers requests which name none.
fn newest(listing: &ModelListing) -> Result<&VersionFiles> {
    let name = &listing.name;
    if !listing.faults.is_empty() {
        return Err(Error::unavailable(format!("model '{name}' cannot be served: {}", listing.faults.join("; "))));
    }
    let available: Vec<Version> = listing.versions.iter().map(|files| files.version).collect();
    let newest = listing.settings.version_policy.select(&available).last().copied();
    let files = listing.versions.iter().find(|files| Some(files.version) == newest);
    files.ok_or_else(|| Error::unavailable(format!("model '{name}' has no version that its settings allow")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_the_table_shows_whatever_single_runs_took() {
        // Disturbed runs come in a row.
        let runs = |micros: u64| {
            let took = |run: u64| Duration::from_micros(if (30..34).contains(&run) { micros * 20 } else { micros });
            (0..64).map(took).collect::<Vec<_>>()
        };
        let measured: Vec<_> = [1_usize, 2, 4, 8, 16].map(|rows| (rows, runs(50 + 10 * rows as u64))).into();
        let curve = learned_from(Curve::default(), &measured);
        for rows in [1, 2, 4, 8, 16] {
            let ratio = curve.centre(rows).as_secs_f64() * 1e6 / (50 + 10 * rows) as f64;
            assert!((0.8..1.25).contains(&ratio), "{rows}: {ratio}");
        }
    }
}
