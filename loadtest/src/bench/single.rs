//! The figures that are no throughput: memory of an idle server, and time from process start to the first answer.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::repository::Scratch;
use super::server::{Process, exchange};
use super::table::{Row, Target, Unit};
use crate::process::resident_bytes;

/// How the table calls the two.
pub(super) const MEMORY: &str = "resident memory, no model";
pub(super) const START: &str = "process start to the first right digit";

/// Targets of the project.
const IDLE_MAX_MB: f64 = 40.0;
const START_MAX_MS: f64 = 150.0;
/// Time for a started server to come to rest.
const SETTLE: Duration = Duration::from_secs(1);
/// Starts of which the median counts; one would be at the mercy of the page cache.
const STARTS: usize = 5;

/// Resident memory of a server with no model.
pub(super) fn idle_memory(server: &Path, scratch: &Scratch) -> Row {
    let (case, target) = (MEMORY, Target::Below(IDLE_MAX_MB));
    let measure = || -> Result<f64, Box<dyn Error>> {
        let process = Process::server(server, &scratch.empty()?, None, scratch.path("idle.log"), &[])?;
        process.wait_ready()?;
        std::thread::sleep(SETTLE);
        let bytes = resident_bytes(process.pid()).ok_or("the server is gone")?;
        Ok(bytes as f64 / 1e6)
    };
    let failed = Row::failed(case, Unit::Megabytes, target, String::new());
    Row { server: measure().map_err(|error| error.to_string()), ..failed }
}

/// Time from process start to the first right answer of the digits model.
pub(super) fn first_answer(server: &Path, models: &Path, scratch: &Scratch) -> Row {
    let (case, target) = (START, Target::Below(START_MAX_MS));
    let measure = || -> Result<f64, Box<dyn Error>> {
        let repository = scratch.repository("only-digits", &["digits"], models)?;
        let read = |file: &str| -> Result<Vec<u8>, Box<dyn Error>> {
            let path = models.join("digits").join(file);
            std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()).into())
        };
        let body = read("example.json")?;
        let labels = label(&serde_json::from_slice(&read("expected.json")?)?).ok_or("expected.json has no label")?;
        let mut times = Vec::new();
        for _ in 0..STARTS {
            times.push(start_once(server, &repository, scratch, &body, &labels)?);
        }
        times.sort_by(f64::total_cmp);
        Ok(times[STARTS / 2])
    };
    let failed = Row::failed(case, Unit::Millis, target, String::new());
    Row { server: measure().map_err(|error| error.to_string()), ..failed }
}

/// One start, in milliseconds. A wrong answer is an error; no answer yet is asked again.
fn start_once(
    server: &Path,
    repository: &Path,
    scratch: &Scratch,
    body: &[u8],
    labels: &Value,
) -> Result<f64, Box<dyn Error>> {
    let process = Process::server(server, repository, None, scratch.path("start.log"), &[])?;
    let mut request = format!(
        "POST /v2/models/digits/infer HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        process.http,
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    let answer = std::cell::RefCell::new(Vec::new());
    process.wait_until(|process| {
        let got = exchange(process.http, &request).ok().filter(|(status, _)| *status == 200);
        got.map(|(_, body)| answer.replace(body)).is_some()
    })?;
    let elapsed = process.started.elapsed();
    let answer: Value = serde_json::from_slice(&answer.into_inner())?;
    let got = label(&answer["outputs"]).ok_or("the answer has no label")?;
    if got != *labels {
        return Err(format!("the digits are {got}, expected {labels}").into());
    }
    Ok(elapsed.as_secs_f64() * 1e3)
}

/// The data of the output `label` in a list of V2 tensors.
fn label(outputs: &Value) -> Option<Value> {
    let label = outputs.as_array()?.iter().find(|output| output["name"] == "label")?;
    Some(label["data"].clone())
}
