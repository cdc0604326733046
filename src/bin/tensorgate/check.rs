//! `tensorgate check`: everything that is wrong, at once.

use std::process::ExitCode;

use tensorgate::config::{Config, Fault};
use tensorgate::model::ModelState;
use tensorgate::repository::{Control, Repository, Runtimes, layout};
use tensorgate::runtime::find_library;
use tensorgate::telemetry::Telemetry;

/// Reads the configuration and every repository, loads each model as serving would, and lists what is wrong.
pub(crate) fn run(config: Result<Config, Vec<Fault>>) -> ExitCode {
    let mut report = Report::default();
    match config {
        Err(faults) => report.faults.extend(faults.iter().map(ToString::to_string)),
        Ok(config) => check(config, &mut report),
    }
    for warning in &report.warnings {
        println!("warning: {warning}");
    }
    for fault in &report.faults {
        println!("fault: {fault}");
    }
    println!("{} models, {} faults, {} warnings", report.models, report.faults.len(), report.warnings.len());
    if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Report {
    models: usize,
    faults: Vec<String>,
    warnings: Vec<String>,
}

fn check(mut config: Config, report: &mut Report) {
    let repositories = std::mem::take(&mut config.repository.repositories);
    let stores = !config.repository.remote.is_empty();
    if repositories.is_empty() && config.repository.single.is_empty() && !stores {
        report.faults.push("nothing to check: name a repository".into());
    }
    let single = config.repository.single.iter();
    let mut listings = vec![
        single.map(|(name, directory)| layout::scan_model(&layout::Local, name.clone(), directory, None)).collect(),
    ];
    for path in repositories {
        report.faults.extend(layout::mistaken_for_model(&layout::Local, &path));
        match layout::scan(&layout::Local, &path) {
            Ok(found) => {
                listings.push(found);
                config.repository.repositories.push(path);
            }
            Err(error) => report.faults.push(error.message().into()),
        }
    }
    for listing in layout::merge(listings) {
        let named = |text: &String| format!("{}: {text}", listing.name);
        report.warnings.extend(listing.warnings.iter().map(named));
        report.faults.extend(listing.faults.iter().map(named));
    }
    config.repository.control = Control::None;
    config.repository.load_at_start.clear();
    // A check leaves nothing behind.
    config.repository.state_directory = None;
    match super::runtime(&config) {
        Ok(runtime) => runtime.block_on(load(config, report)),
        Err(cause) => report.faults.push(format!("cannot start threads: {cause}")),
    }
}

async fn load(config: Config, report: &mut Report) {
    let library = find_library();
    if library.is_none() {
        report.warnings.push("no libonnxruntime.so found: ONNX models run on tract".into());
    }
    let repository =
        match Repository::open(config.repository, Runtimes::new(library).into(), Telemetry::new().into()).await {
            Ok(repository) => repository,
            Err(error) => return report.faults.push(error.message().into()),
        };
    repository.settled().await;
    for model in repository.index() {
        report.models += 1;
        for status in model.versions {
            if status.state == ModelState::Ready {
                continue;
            }
            let Some(version) = status.version else {
                // The listing has told already, each fault on its line, where it is of this machine.
                let told = format!("{}: ", model.name);
                if !report.faults.iter().any(|fault| fault.starts_with(&told)) {
                    report.faults.push(format!("{told}{}", status.state.reason()));
                }
                continue;
            };
            report.faults.push(format!("{} version {version}: {}", model.name, status.state.reason()));
        }
    }
}
