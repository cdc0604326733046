//! Logs: human on a terminal, JSON lines for collectors; which levels there are can be changed while serving.
//!
//! `tracing` has one subscriber a process, so the settings are the process's too: servers that share one share them.

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::error::{Error, Result};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// The value of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSetting {
    /// Whether there are lines of a level.
    Switch(bool),
    /// How much more there is than `info`.
    Number(u32),
    /// A file or format.
    Text(String),
}

/// The settings of the logging extension, by Triton's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `log_error`.
    pub error: bool,
    /// `log_warning`.
    pub warning: bool,
    /// `log_info`.
    pub info: bool,
    /// `log_verbose_level`: 0 for none, 1 for what `debug` shows, from 2 on also what `trace` shows.
    pub verbose: u32,
    /// `log_format`: kept for who reads it. Lines carry ISO 8601 times under either name.
    pub format: String,
}

const FORMATS: [&str; 2] = ["default", "ISO8601"];

impl LogSettings {
    fn of(level: LevelFilter) -> Self {
        Self {
            error: level >= LevelFilter::ERROR,
            warning: level >= LevelFilter::WARN,
            info: level >= LevelFilter::INFO,
            verbose: u32::from(level >= LevelFilter::DEBUG) + u32::from(level >= LevelFilter::TRACE),
            format: FORMATS[0].into(),
        }
    }

    fn shows(&self, level: &Level) -> bool {
        match *level {
            Level::ERROR => self.error,
            Level::WARN => self.warning,
            Level::INFO => self.info,
            Level::DEBUG => self.verbose >= 1,
            Level::TRACE => self.verbose >= 2,
        }
    }

    /// Names and values, in the order in which Triton tells them.
    pub fn list(&self) -> [(&'static str, LogSetting); 6] {
        use LogSetting::{Number, Switch, Text};
        [
            ("log_file", Text(String::new())),
            ("log_info", Switch(self.info)),
            ("log_warning", Switch(self.warning)),
            ("log_error", Switch(self.error)),
            ("log_verbose_level", Number(self.verbose)),
            ("log_format", Text(self.format.clone())),
        ]
    }

    /// # Errors
    /// `InvalidRequest` for a name or value that is none; `Unsupported` for the file: lines go to standard error.
    fn set(&mut self, name: &str, value: &LogSetting) -> Result<()> {
        use LogSetting::{Number, Switch, Text};
        match (name, value) {
            ("log_info", Switch(on)) => self.info = *on,
            ("log_warning", Switch(on)) => self.warning = *on,
            ("log_error", Switch(on)) => self.error = *on,
            ("log_verbose_level", Number(level)) => self.verbose = *level,
            ("log_format", Text(format)) if FORMATS.contains(&format.as_str()) => self.format.clone_from(format),
            ("log_file", Text(file)) if file.is_empty() => {}
            ("log_file", _) => {
                return Err(Error::unsupported("log setting 'log_file' cannot be changed: lines go to standard error"));
            }
            _ => return Err(refusal(name, value)),
        }
        Ok(())
    }
}

fn refusal(name: &str, value: &LogSetting) -> Error {
    let expected = match name {
        "log_info" | "log_warning" | "log_error" => "true or false",
        "log_verbose_level" => "a whole number from 0",
        "log_format" => "\"default\" or \"ISO8601\"",
        _ => {
            let known = "log_info, log_warning, log_error, log_verbose_level, log_format";
            return Error::invalid(format!("unknown log setting '{name}', expected one of {known}"));
        }
    };
    let given = match value {
        LogSetting::Switch(on) => on.to_string(),
        LogSetting::Number(number) => number.to_string(),
        LogSetting::Text(text) => format!("\"{}\"", text.chars().take(40).collect::<String>()),
    };
    Error::invalid(format!("log setting '{name}' is {given}, expected {expected}"))
}

/// Which lines there are.
enum Lines {
    /// What the command line asked for, until a caller changes it.
    Filter(Box<EnvFilter>),
    /// What callers asked for.
    Settings(LogSettings),
}

impl<S: Subscriber> Layer<S> for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self {
            Lines::Filter(filter) => Layer::<S>::register_callsite(&**filter, metadata),
            Lines::Settings(settings) if settings.shows(metadata.level()) => Interest::always(),
            Lines::Settings(_) => Interest::never(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        match self {
            Lines::Filter(filter) => Layer::<S>::enabled(&**filter, metadata, context),
            Lines::Settings(settings) => settings.shows(metadata.level()),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        match self {
            Lines::Filter(filter) => Layer::<S>::max_level_hint(&**filter),
            Lines::Settings(settings) => {
                let levels = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
                let most = levels.into_iter().find(|level| settings.shows(level));
                Some(most.map_or(LevelFilter::OFF, LevelFilter::from_level))
            }
        }
    }
}

struct Logs {
    settings: LogSettings,
    /// `None` where nobody set up logs.
    lines: Option<reload::Handle<Lines, Registry>>,
}

static LOGS: Mutex<Option<Logs>> = Mutex::new(None);

fn logs() -> MutexGuard<'static, Option<Logs>> {
    LOGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends log lines of `level` ("info", or a filter such as "tensorgate=debug") to standard error. A second call in one
/// process changes nothing.
///
/// # Errors
/// The filter's own message where `level` is none.
pub fn init(format: LogFormat, level: &str) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(level).map_err(|cause| format!("log level '{level}': {cause}"))?;
    let settings = LogSettings::of(filter.max_level_hint().unwrap_or(LevelFilter::TRACE));
    let (lines, handle) = reload::Layer::new(Lines::Filter(Box::new(filter)));
    let subscriber = tracing_subscriber::registry().with(lines);
    let layer = fmt::layer().with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Human => {
            let ansi = std::io::stderr().is_terminal();
            subscriber.with(layer.with_target(false).with_ansi(ansi)).try_init()
        }
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_current_span(false).with_span_list(false);
            subscriber.with(layer).try_init()
        }
    };
    // Only a second call can fail: tests start several servers in one process.
    if set.is_ok() {
        *logs() = Some(Logs { settings, lines: Some(handle) });
    }
    Ok(())
}

/// What holds now.
pub fn log_settings() -> LogSettings {
    logs().as_ref().map_or_else(|| LogSettings::of(LevelFilter::INFO), |logs| logs.settings.clone())
}

/// Changes settings by name, from now on; all of `changes` or none. A filter that was given at start gives way to them.
///
/// # Errors
/// `InvalidRequest` for a name or value that is none; `Unsupported` for what cannot be changed.
pub fn change_logs(changes: &[(String, LogSetting)]) -> Result<LogSettings> {
    let mut logs = logs();
    let logs = logs.get_or_insert_with(|| Logs { settings: LogSettings::of(LevelFilter::INFO), lines: None });
    let mut settings = logs.settings.clone();
    for (name, value) in changes {
        settings.set(name, value)?;
    }
    if settings != logs.settings {
        if let Some(lines) = &logs.lines {
            let changed = lines.reload(Lines::Settings(settings.clone()));
            changed.map_err(|cause| Error::internal(format!("cannot change which lines are logged: {cause}")))?;
        }
        logs.settings = settings;
    }
    Ok(logs.settings.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn levels_are_told_as_switches() {
        let quiet = LogSettings::of(LevelFilter::WARN);
        assert!(quiet.error && quiet.warning && !quiet.info && quiet.verbose == 0);
        assert_eq!(LogSettings::of(LevelFilter::DEBUG).verbose, 1);
        assert_eq!(LogSettings::of(LevelFilter::TRACE).verbose, 2);
        assert!(!LogSettings::of(LevelFilter::OFF).error);
    }

    #[test]
    fn switches_are_independent_of_each_other() {
        let mut settings = LogSettings::of(LevelFilter::INFO);
        settings.set("log_warning", &LogSetting::Switch(false)).unwrap();
        settings.set("log_verbose_level", &LogSetting::Number(2)).unwrap();
        let shown = |level| settings.shows(&level);
        assert!(shown(Level::ERROR) && !shown(Level::WARN) && shown(Level::INFO) && shown(Level::TRACE));
        let hint = Layer::<Registry>::max_level_hint(&Lines::Settings(settings.clone()));
        assert_eq!(hint, Some(LevelFilter::TRACE));
    }

    #[test]
    fn values_that_are_none_are_refused() {
        let mut settings = LogSettings::of(LevelFilter::INFO);
        for (name, value, kind) in [
            ("log_info", LogSetting::Number(1), Kind::InvalidRequest),
            ("log_verbose_level", LogSetting::Switch(true), Kind::InvalidRequest),
            ("log_format", LogSetting::Text("xml".into()), Kind::InvalidRequest),
            ("log_colour", LogSetting::Switch(true), Kind::InvalidRequest),
            ("log_file", LogSetting::Text("/tmp/x".into()), Kind::Unsupported),
        ] {
            let error = settings.set(name, &value).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.message().contains(name), "{error}");
        }
        assert_eq!(settings, LogSettings::of(LevelFilter::INFO));
    }
}
