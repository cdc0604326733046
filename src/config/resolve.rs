//! From what was given to what holds.

mod doors;

pub(in crate::config) use self::doors::Reading;
use super::guard::guard;
use super::storage::{storage, user_cache};
use super::watch::watch;
use super::{Config, Fault, File, Flags};
use crate::model::settings::{nearest, parse_duration};
use crate::repository::Control;
use crate::shared_memory::{REGIONS_MAX, RegionsConfig};
use crate::telemetry::LogFormat;

/// Merges and checks.
///
/// # Errors
/// Every fault, each with its key.
pub fn resolve(flags: &Flags) -> Result<Config, Vec<Fault>> {
    let mut faults = Vec::new();
    let flags = match flags.config.as_deref().map(File::read) {
        Some(Ok(file)) => file.under(flags),
        Some(Err(fault)) => {
            faults.push(fault);
            flags.clone()
        }
        None => flags.clone(),
    };
    let mut config =
        Config { log_level: flags.log_level.clone().unwrap_or_else(|| "info".into()), ..Config::default() };
    repository(&flags, &mut config, &mut faults);
    doors::resolve(&flags, &mut config.server, &mut faults);
    shared_memory(&flags, &mut config, &mut faults);
    Reading { faults: &mut faults }.size(
        "--response-cache-bytes-max",
        &flags.response_cache_bytes_max,
        1..=usize::MAX,
        "what memory holds, such as 256MiB",
        &mut config.response_cache_bytes_max,
    );
    guard(&flags.guard, &mut config, &mut faults);
    watch(&flags.watch, &mut config, &mut faults);
    if let Some(format) = &flags.log_format {
        match format.as_str() {
            "human" => config.log_format = LogFormat::Human,
            "json" => config.log_format = LogFormat::Json,
            other => faults.push(one_of("--log-format", other, &["human", "json"])),
        }
    }
    if faults.is_empty() { Ok(config) } else { Err(faults) }
}

fn repository(flags: &Flags, config: &mut Config, faults: &mut Vec<Fault>) {
    let repository = &mut config.repository;
    storage(flags, repository, faults);
    match flags.model_control.as_deref() {
        None | Some("none") => {}
        Some("explicit") => repository.control = Control::Explicit,
        Some("poll") => repository.control = Control::Poll,
        Some(other) => faults.push(one_of("--model-control", other, &["none", "poll", "explicit"])),
    }
    if let Some(text) = &flags.poll_interval {
        match parse_duration(text) {
            Ok(_) if repository.control != Control::Poll => {
                faults.push(Fault::new("--poll-interval", "needs --model-control poll"));
            }
            Ok(interval) if !interval.is_zero() => repository.poll_interval = interval,
            Ok(_) => faults.push(Fault::new("--poll-interval", "is 0, expected a time such as 15s")),
            Err(message) => faults.push(Fault::new("--poll-interval", message)),
        }
    }
    if repository.control != Control::Explicit && !flags.load_model.is_empty() {
        faults.push(Fault::new("--load-model", "needs --model-control explicit; without it every model is loaded"));
    }
    repository.load_at_start = flags.load_model.clone();
    if let Some(text) = &flags.slo {
        match parse_duration(text) {
            Ok(objective) if !objective.is_zero() => repository.objective = Some(objective),
            Ok(_) => faults.push(Fault::new("--slo", "is 0, expected a time such as 100ms")),
            Err(message) => faults.push(Fault::new("--slo", message)),
        }
    }
    Reading { faults }.size(
        "--uploads-max",
        &flags.uploads_max,
        1..=usize::MAX,
        "what a disk holds, such as 1GiB",
        &mut repository.uploads_bytes_max,
    );
    if flags.memory_max.is_some() {
        let mut bytes = 0;
        let most = "what the machine has, such as 8GiB";
        Reading { faults }.size("--memory-max", &flags.memory_max, 1..=usize::MAX, most, &mut bytes);
        repository.memory_bytes_max = Some(bytes as u64);
    }
    if flags.gpu_memory_max.is_some() {
        let mut bytes = 0;
        let most = "what a GPU has, such as 16GiB";
        Reading { faults }.size("--gpu-memory-max", &flags.gpu_memory_max, 1..=usize::MAX, most, &mut bytes);
        repository.gpu_memory_bytes_max = Some(bytes as u64);
    }
    repository.state_directory = match &flags.state_dir {
        Some(given) => (!given.is_empty()).then(|| given.into()),
        None => user_cache(|name| std::env::var_os(name)),
    };
    if let Some(cores) = flags.cores {
        if cores == 0 {
            faults.push(Fault::new("--cores", "is 0, expected at least 1"));
        }
        repository.cores = cores.max(1);
        repository.loads_at_once = repository.cores.div_ceil(2);
    }
}

fn shared_memory(flags: &Flags, config: &mut Config, faults: &mut Vec<Fault>) {
    let regions_max = flags.shared_memory_regions_max;
    if regions_max == Some(0) {
        faults.push(Fault::new("--shared-memory-regions-max", "is 0, expected at least 1"));
    }
    let Some(prefix) = &flags.shared_memory_prefix else {
        if regions_max.is_some() {
            faults.push(Fault::new("--shared-memory-regions-max", "needs --shared-memory-prefix"));
        }
        return;
    };
    // Tensors copied out of regions are held like those that came in a body.
    let held_bytes_max = config.server.bounds.buffered_bytes_max;
    match RegionsConfig::new(prefix, regions_max.unwrap_or(REGIONS_MAX), held_bytes_max) {
        Ok(regions) => config.shared_memory = Some(regions),
        Err(message) => faults.push(Fault::new("--shared-memory-prefix", message)),
    }
}

pub(super) fn one_of(key: &str, given: &str, known: &[&str]) -> Fault {
    let hint =
        nearest(given, known.iter().copied()).map(|near| format!(", did you mean '{near}'?")).unwrap_or_default();
    Fault::new(key, format!("'{given}' is unknown, expected {}{hint}", known.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_is_in_the_users_cache_unless_somebody_says_otherwise() {
        let with = |set: &[(&str, &str)]| {
            user_cache(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
        };
        assert_eq!(with(&[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")]), Some("/c/tensorgate".into()));
        assert_eq!(with(&[("XDG_CACHE_HOME", "relative"), ("HOME", "/h")]), Some("/h/.cache/tensorgate".into()));
        assert_eq!(with(&[]), None);
        let given = |text: &str| {
            resolve(&Flags { state_dir: Some(text.into()), ..Flags::default() }).unwrap().repository.state_directory
        };
        assert_eq!((given(""), given("/s")), (None, Some("/s".into())));
    }
}
