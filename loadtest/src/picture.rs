//! `loadtest picture`: what the objective does. Servers of one model that differ in nothing but it, from a quarter of
//! what the model can do to five times as much.

use std::error::Error;
use std::ffi::OsStr;
use std::time::Duration;

use crate::bench::{Door, Pool, Process, Scratch, Source};
use crate::cli::PictureArgs;
use crate::html::{Curve, Page};
use crate::payload::{Encoding, ModelSpec};
use crate::process;
use crate::report::text::{HEADING, row};

/// A model of which batches gain much, so that the objective is seen to make them.
const MODEL: &str = "wide";
/// What is offered, as shares of the capacity: close together where goodput bends.
const LOADS: [f64; 12] = [0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0];
/// Requests at once in the closed loop that finds the capacity.
const BUSY: usize = 256;

/// A server with its objective, and the figures of each load.
struct Subject {
    slo: Duration,
    server: Process,
    pools: Vec<Pool>,
}

/// Measures and draws.
pub(crate) fn run(args: &PictureArgs) -> Result<(), Box<dyn Error>> {
    let scratch = Scratch::new("picture")?;
    let repository = scratch.repository("models", &[MODEL], &scratch.path("none"))?;
    let mut subjects = Vec::new();
    for slo in &args.slo {
        let flag = format!("{}us", slo.as_micros());
        let further: [&OsStr; 2] = ["--slo".as_ref(), flag.as_ref()];
        let server = Process::server(&args.server, &repository, None, scratch.path(&format!("{flag}.log")), &further)?;
        server.wait_ready()?;
        subjects.push(Subject { slo: *slo, server, pools: LOADS.iter().map(|_| Pool::new()).collect() });
    }
    let model = ModelSpec::parse(MODEL)?;
    let source = |subject: &Subject| {
        let source = Source::new(&subject.server, Door::Http(Encoding::Binary), &model);
        source.slo(subject.slo).arrivals(args.arrivals.clone())
    };
    // What can be done at all shows where requests may wait longest.
    let patient = subjects.iter().max_by_key(|subject| subject.slo).ok_or("no objective")?;
    let capacity = source(patient).closed(BUSY, args.duration)?.rate;
    println!("{capacity:.0}/s is what a closed loop of {BUSY} requests reaches\n{HEADING}");
    for turn in 0..args.turns {
        for (index, load) in LOADS.iter().enumerate() {
            for subject in &mut subjects {
                let report =
                    source(subject).any_window(load * capacity, args.seed.wrapping_add(turn), args.duration)?;
                println!("{}  SLO {:?}", row(&report), subject.slo);
                subject.pools[index].add(&report);
            }
        }
    }
    let page = page(args, capacity, &subjects)?;
    std::fs::write(&args.svg, page.figure()).map_err(|error| format!("{}: {error}", args.svg.display()))?;
    Ok(())
}

fn page(args: &PictureArgs, capacity: f64, subjects: &[Subject]) -> Result<Page<'static>, Box<dyn Error>> {
    let curve = |subject: &Subject| {
        let slo_ms = subject.slo.as_secs_f64() * 1e3;
        let points = LOADS.iter().zip(&subject.pools).map(|(load, pool)| pool.point(load * capacity)).collect();
        Curve { name: format!("SLO {slo_ms} ms"), slo_ms: Some(slo_ms), points }
    };
    let cores = process::cores()?.len();
    Ok(Page {
        title: "The objective is the only knob".to_owned(),
        about: format!(
            "One model under {} objectives, all else alike. {} arrivals from a quarter to five times the capacity, \
             {cores} cores shared with the generator.",
            subjects.len(),
            capitalised(&args.arrivals.to_string())
        ),
        curves: subjects.iter().map(curve).collect(),
        ..Page::default()
    })
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
