//! Settings of the trace extension: the server's, and what models have of their own.
//!
//! They are kept and told as Triton tells them, so that its clients can set them, and decide which requests are traced and
//! where to. A trace is written only where the server was started with somewhere for it to go; who switches one on elsewhere
//! finds that in the log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{Error, Result};

/// Names and defaults, in the order in which Triton tells them.
const DEFAULTS: [(&str, &str); 6] = [
    ("trace_level", "OFF"),
    ("trace_rate", "1000"),
    ("trace_count", "-1"),
    ("log_frequency", "0"),
    ("trace_file", ""),
    ("trace_mode", "triton"),
];

/// The file where nobody names one.
const FILE: &str = "trace.json";

/// Bytes of a file's name.
const FILE_BYTES_MAX: usize = 100;

const LEVELS: [&str; 3] = ["OFF", "TIMESTAMPS", "TENSORS"];

/// One setting as it holds: `trace_level` is a list, the others have one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSetting {
    /// Its name on the wire.
    pub name: &'static str,
    /// Its values.
    pub values: Vec<String>,
}

impl TraceSetting {
    /// Whether it is told as a list.
    pub fn is_list(&self) -> bool {
        self.name == "trace_level"
    }
}

type Given = BTreeMap<&'static str, Vec<String>>;

/// Where traces may go, which whoever starts the server says.
#[derive(Clone, Debug, Default)]
pub struct TraceSinks {
    /// The directory of Triton's files.
    pub directory: Option<PathBuf>,
    /// Whether there is a receiver of spans.
    pub otlp: bool,
}

/// Where the trace of one request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceTo {
    /// Into a file of Triton's form.
    File {
        /// Its name in the directory.
        name: String,
        /// Traces of one file before the next is begun; 0 for all in one.
        frequency: u64,
    },
    /// To the receiver of spans.
    Otlp,
}

/// Requests of one scope since its settings were last changed.
#[derive(Debug, Default)]
struct Counter {
    seen: u64,
    traced: u64,
}

#[derive(Default)]
struct Inner {
    server: Given,
    models: BTreeMap<String, Given>,
    counters: BTreeMap<Option<String>, Counter>,
}

/// All of them. What a model does not set is the server's, what the server does not set has its default.
#[derive(Default)]
pub struct TraceSettings {
    inner: Mutex<Inner>,
    /// Whether anything is traced: what a request pays where nothing is.
    on: AtomicBool,
    sinks: OnceLock<TraceSinks>,
}

impl TraceSettings {
    /// What holds for `model`, or for the server.
    pub fn of(&self, model: Option<&str>) -> Vec<TraceSetting> {
        let inner = self.lock();
        let own = model.and_then(|model| inner.models.get(model));
        let setting = |(name, default): (&'static str, &str)| {
            let given = own.and_then(|own| own.get(name)).or_else(|| inner.server.get(name));
            let default = if name == "trace_file" && self.directory().is_some() { FILE } else { default };
            TraceSetting { name, values: given.cloned().unwrap_or_else(|| vec![default.into()]) }
        };
        DEFAULTS.map(setting).into()
    }

    /// Sets each name to its values, or takes it back where there are none. All of `changes` or none is done.
    ///
    /// `model` has to be one that there is, which the caller checks: the table grows by the names given.
    ///
    /// # Errors
    /// `InvalidRequest` for a name or value that is none; `Unsupported` for what cannot be set over the network.
    pub fn change(&self, model: Option<&str>, changes: Vec<(String, Vec<String>)>) -> Result<()> {
        let check = |change| checked(change, self.directory());
        let checked: Vec<_> = changes.into_iter().map(check).collect::<Result<_>>()?;
        if checked.iter().any(|(name, values)| *name == "trace_level" && values.iter().any(|level| level != "OFF")) {
            let sinks = self.sinks.get();
            if sinks.is_none_or(|sinks| sinks.directory.is_none() && !sinks.otlp) {
                let message = "tracing was switched on, but no trace is written without --trace-dir or --otlp-endpoint";
                tracing::warn!(model, "{message}");
            }
        }
        let mut inner = self.lock();
        let given = match model {
            Some(model) => inner.models.entry(model.to_owned()).or_default(),
            None => &mut inner.server,
        };
        for (name, values) in checked {
            if values.is_empty() {
                given.remove(name);
            } else {
                given.insert(name, values);
            }
        }
        inner.counters.remove(&model.map(str::to_owned));
        let any = std::iter::once(&inner.server).chain(inner.models.values()).any(traces);
        self.on.store(any, Relaxed);
        Ok(())
    }

    /// Drops the settings of a model that is gone.
    pub fn forget(&self, model: &str) {
        let mut inner = self.lock();
        inner.models.remove(model);
        inner.counters.remove(&Some(model.to_owned()));
    }

    /// Says where traces may go; the first word holds.
    pub fn set_sinks(&self, sinks: TraceSinks) {
        // Said once, when the server starts.
        let _ = self.sinks.set(sinks);
    }

    /// Counts a request of `model`, and tells where its trace goes if it is one that is traced.
    pub fn sample(&self, model: &str) -> Option<TraceTo> {
        if !self.on.load(Relaxed) {
            return None;
        }
        let mut inner = self.lock();
        let Inner { server, models, counters } = &mut *inner;
        let own = models.get(model).filter(|own| !own.is_empty());
        let value = |name: &str| {
            let given = own.and_then(|own| own.get(name)).or_else(|| server.get(name));
            let default = DEFAULTS.iter().find(|(known, _)| *known == name).map_or("", |(_, default)| default);
            given.map_or(default, |values| values.first().map_or(default, String::as_str))
        };
        let number = |name| value(name).parse::<i64>().unwrap_or_default();
        let traced = match own.filter(|own| own.contains_key("trace_level")) {
            Some(own) => traces(own),
            None => traces(server),
        };
        if !traced {
            return None;
        }
        let (rate, count) = (number("trace_rate"), number("trace_count"));
        let counter = counters.entry(own.map(|_| model.to_owned())).or_default();
        counter.seen += 1;
        let due = rate > 0 && counter.seen % rate.unsigned_abs() == 0;
        if !due || (count >= 0 && counter.traced >= count.unsigned_abs()) {
            return None;
        }
        let sinks = self.sinks.get()?;
        let to = match value("trace_mode") {
            "opentelemetry" => sinks.otlp.then_some(TraceTo::Otlp),
            _ => sinks.directory.as_ref().map(|_| TraceTo::File {
                name: Some(value("trace_file")).filter(|name| !name.is_empty()).unwrap_or(FILE).to_owned(),
                frequency: number("log_frequency").unsigned_abs(),
            }),
        };
        counter.traced += 1;
        to
    }

    fn directory(&self) -> Option<&Path> {
        self.sinks.get()?.directory.as_deref()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether these settings trace times, which is what we trace.
fn traces(given: &Given) -> bool {
    given.get("trace_level").is_some_and(|levels| levels.iter().any(|level| level == "TIMESTAMPS"))
}

/// The name of a file in `directory`, given alone or with the directory before it.
fn file_name(given: &str, directory: &Path) -> Option<String> {
    let name = Path::new(given).strip_prefix(directory).ok().and_then(Path::to_str).unwrap_or(given);
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let fits = plain && !name.starts_with('.') && (1..=FILE_BYTES_MAX).contains(&name.len());
    fits.then(|| name.to_owned())
}

fn checked((name, values): (String, Vec<String>), directory: Option<&Path>) -> Result<(&'static str, Vec<String>)> {
    let Some((name, _)) = DEFAULTS.into_iter().find(|(known, _)| *known == name) else {
        let known = DEFAULTS.map(|(name, _)| name).join(", ");
        return Err(Error::invalid(format!("unknown trace setting '{name}', expected one of {known}")));
    };
    if values.is_empty() {
        return Ok((name, values));
    }
    if name == "trace_file" {
        let Some(directory) = directory else {
            let message = "trace setting 'trace_file' cannot be changed over the network without --trace-dir";
            return Err(Error::unsupported(message));
        };
        let file = values.first().and_then(|given| file_name(given, directory));
        return file.map(|file| (name, vec![file])).ok_or_else(|| {
            let expected = "the name of a file in --trace-dir: letters, digits, '.', '_' and '-'";
            Error::invalid(format!("trace setting 'trace_file' is {values:?}, expected {expected}"))
        });
    }
    let fits = match name {
        "trace_level" => {
            let known = values.iter().all(|level| LEVELS.contains(&level.as_str()));
            known && (values.len() == 1 || values.iter().all(|level| level != "OFF"))
        }
        "trace_mode" => matches!(values.as_slice(), [mode] if mode == "triton" || mode == "opentelemetry"),
        "trace_count" => one(&values).is_some_and(|count| count >= -1),
        _ => one(&values).is_some_and(|number| (0..=i64::from(u32::MAX)).contains(&number)),
    };
    if fits {
        return Ok((name, values));
    }
    let expected = match name {
        "trace_level" => "OFF, or some of TIMESTAMPS and TENSORS",
        "trace_mode" => "triton or opentelemetry",
        "trace_count" => "a whole number from -1, which stands for no limit",
        _ => "a whole number from 0",
    };
    Err(Error::invalid(format!("trace setting '{name}' is {values:?}, expected {expected}")))
}

fn one(values: &[String]) -> Option<i64> {
    let [value] = values else { return None };
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn set(name: &str, values: &[&str]) -> Vec<(String, Vec<String>)> {
        vec![(name.into(), values.iter().map(ToString::to_string).collect())]
    }

    fn value(settings: &TraceSettings, model: Option<&str>, name: &str) -> String {
        let all = settings.of(model);
        all.into_iter().find(|setting| setting.name == name).unwrap().values.join("+")
    }

    #[test]
    fn a_model_has_the_servers_settings_until_it_has_its_own() {
        let settings = TraceSettings::default();
        assert_eq!(value(&settings, Some("m"), "trace_rate"), "1000");
        settings.change(None, set("trace_rate", &["5"])).unwrap();
        assert_eq!(value(&settings, Some("m"), "trace_rate"), "5");
        settings.change(Some("m"), set("trace_rate", &["7"])).unwrap();
        assert_eq!(
            (value(&settings, Some("m"), "trace_rate"), value(&settings, None, "trace_rate")),
            ("7".into(), "5".into())
        );
        settings.change(Some("m"), set("trace_rate", &[])).unwrap();
        settings.change(None, set("trace_rate", &[])).unwrap();
        assert_eq!(value(&settings, Some("m"), "trace_rate"), "1000");
    }

    #[test]
    fn values_that_are_none_change_nothing() {
        let settings = TraceSettings::default();
        for (name, values, kind) in [
            ("trace_level", &["LOUD"][..], Kind::InvalidRequest),
            ("trace_level", &["OFF", "TENSORS"], Kind::InvalidRequest),
            ("trace_rate", &["-1"], Kind::InvalidRequest),
            ("trace_rate", &["1", "2"], Kind::InvalidRequest),
            ("trace_count", &["-2"], Kind::InvalidRequest),
            ("log_frequency", &["often"], Kind::InvalidRequest),
            ("trace_colour", &["red"], Kind::InvalidRequest),
            ("trace_file", &["/tmp/x"], Kind::Unsupported),
            ("trace_mode", &["zipkin"], Kind::InvalidRequest),
        ] {
            let mut changes = set("trace_count", &["9"]);
            changes.extend(set(name, values));
            let error = settings.change(None, changes).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains(name), "{error}");
        }
        assert_eq!(settings.of(None), TraceSettings::default().of(None));
        settings.change(None, set("trace_level", &["TIMESTAMPS", "TENSORS"])).unwrap();
        assert_eq!(value(&settings, None, "trace_level"), "TIMESTAMPS+TENSORS");
    }

    fn with_directory() -> TraceSettings {
        let settings = TraceSettings::default();
        settings.set_sinks(TraceSinks { directory: Some("/traces".into()), otlp: true });
        settings
    }

    #[test]
    fn one_request_in_so_many_is_traced_until_there_are_enough() {
        let settings = with_directory();
        assert_eq!(settings.sample("m"), None);
        let mut changes = set("trace_level", &["TIMESTAMPS"]);
        changes.extend(set("trace_rate", &["3"]));
        changes.extend(set("trace_count", &["2"]));
        settings.change(None, changes).unwrap();
        let traced = |_| settings.sample("m").is_some();
        assert_eq!((0..10).map(traced).collect::<Vec<_>>().iter().filter(|traced| **traced).count(), 2);
        // Set anew, it counts anew.
        settings.change(None, set("trace_count", &["1"])).unwrap();
        assert_eq!([0; 6].map(traced), [false, false, true, false, false, false]);
        settings.change(Some("m"), set("trace_level", &["OFF"])).unwrap();
        settings.change(None, set("trace_count", &["-1"])).unwrap();
        assert_eq!([0; 6].map(traced), [false; 6]);
        assert_eq!((0..6).filter(|_| settings.sample("other").is_some()).count(), 2);
    }

    #[test]
    fn a_file_is_one_of_the_directory_and_nothing_else() {
        let settings = with_directory();
        assert_eq!(value(&settings, None, "trace_file"), FILE);
        for (given, kept) in [("a.json", "a.json"), ("/traces/b-1.json", "b-1.json")] {
            settings.change(None, set("trace_file", &[given])).unwrap();
            assert_eq!(value(&settings, None, "trace_file"), kept);
        }
        for given in ["", "/etc/passwd", "../x", "/traces/../x", "a/b", ".hidden", "/traces/", "x\0", &"x".repeat(101)]
        {
            let error = settings.change(None, set("trace_file", &[given])).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidRequest, "{given}");
        }
        let mut changes = set("trace_level", &["TIMESTAMPS"]);
        changes.extend(set("trace_rate", &["1"]));
        settings.change(None, changes).unwrap();
        assert_eq!(settings.sample("m"), Some(TraceTo::File { name: "b-1.json".into(), frequency: 0 }));
        settings.change(None, set("trace_mode", &["opentelemetry"])).unwrap();
        assert_eq!(settings.sample("m"), Some(TraceTo::Otlp));
    }
}
