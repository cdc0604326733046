//! The closed loops: what is sent, over which door, against which ceiling.

use super::table::{Target, Unit};
use super::traffic::Door;
use crate::cli::Connect;
use crate::payload::{Encoding, ModelSpec};

/// What the server is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    /// A bare echo of the same bytes through the same library.
    Echo,
    /// ONNX Runtime in-process at its best batch size.
    Session,
    /// ONNX Runtime in-process with as many rows as come, in the order in which they do, padded to the longest.
    InOrder(usize),
    /// ONNX Runtime in-process with a single row, and a bare echo's round trip.
    SessionAndEcho,
    /// The same server without TLS.
    Plain,
}

/// One case.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// How the table calls it.
    pub(super) name: String,
    /// The model asked, always with single rows.
    pub(super) model: ModelSpec,
    /// The way in.
    pub(super) door: Door,
    /// Connections.
    pub(super) connections: usize,
    /// Requests at once on each connection.
    pub(super) streams: usize,
    /// How connections are opened.
    pub(super) connect: Connect,
    /// The ceiling.
    pub(super) against: Against,
    /// Whether rate or median latency is compared.
    pub(super) unit: Unit,
    /// What has to be reached.
    pub(super) target: Target,
}

/// Requests at once in the throughput cases.
const BUSY: usize = 64;
/// Requests at once on models of milliseconds: enough that work always waits, and little enough that no queue grows
/// beyond a latency objective.
const COMPUTE_BUSY: usize = 8;
/// Sentences at once, and those that a server without regard to their length would join.
const SENTENCES: usize = 32;
const SENTENCES_JOINED: usize = 8;
/// One connection may wait 1.2 times as long as for the model and a bare echo.
const ALONE: f64 = 1.0 / 1.2;

/// All cases in the table's order.
pub(super) fn all() -> Vec<Case> {
    use Encoding::{Binary, Json};
    let mut cases = Vec::new();
    for (model, target) in [("identity", 0.6), ("iris", 0.4)] {
        for door in [Door::Http(Json), Door::Http(Binary), Door::Grpc] {
            let share = if door == Door::Http(Json) { 0.4 } else { target };
            cases.push(Case { target: Target::Share(share), ..case(model, door, BUSY, Connect::Burst) });
        }
    }
    let alone = case("iris", Door::Http(Json), 1, Connect::Burst);
    let name = median_latency(&alone.name);
    cases.push(Case { name, unit: Unit::Micros, target: Target::None, ..alone });
    for encoding in [Json, Binary] {
        let case = case("identity", Door::Http(encoding), BUSY, Connect::Burst);
        let name = format!("{} with TLS, against without", case.name);
        cases.push(Case { name, against: Against::Plain, target: Target::Share(0.7), ..case });
    }
    for door in [Door::Http(Binary), Door::Grpc] {
        for connect in [Connect::Burst, Connect::Spread] {
            cases.push(in_process("mlp", door, BUSY, connect, 0.65));
        }
    }
    cases.push(in_process("compute", Door::Http(Binary), COMPUTE_BUSY, Connect::Burst, 0.95));
    for door in [Door::Http(Binary), Door::Grpc] {
        cases.push(in_process("minilm", door, COMPUTE_BUSY, Connect::Burst, 0.97));
    }
    let sentences = case("sentences", Door::Http(Binary), SENTENCES, Connect::Burst);
    for (against, how, target) in [
        (Against::InOrder(SENTENCES_JOINED), "against batches of 8 padded in order of arrival", Target::Share(1.5)),
        (Against::InOrder(1), "against one after the other", Target::None),
    ] {
        let name = format!("{}, {how}", sentences.name.replace("sentences", "sentences of 8 to 256 tokens"));
        cases.push(Case { name, against, target, ..sentences.clone() });
    }
    for (model, door) in [("mlp", Door::Http(Binary)), ("minilm", Door::Http(Binary)), ("minilm", Door::Grpc)] {
        let alone = case(model, door, 1, Connect::Burst);
        let name = median_latency(&alone.name);
        let (against, target) = (Against::SessionAndEcho, Target::Share(ALONE));
        cases.push(Case { name, against, target, unit: Unit::Micros, ..alone });
    }
    cases
}

fn median_latency(name: &str) -> String {
    format!("{}, median latency", name.replace(" in a burst", "").replace("1 connections", "1 connection"))
}

fn in_process(model: &str, door: Door, busy: usize, connect: Connect, share: f64) -> Case {
    Case { against: Against::Session, target: Target::Share(share), ..case(model, door, busy, connect) }
}

fn case(model: &str, door: Door, busy: usize, connect: Connect) -> Case {
    // Many calls share connections, as those of one process do; few come from as many clients.
    let streams = if door == Door::Grpc && busy > 8 { 8 } else { 1 };
    let connections = busy / streams;
    let load = if streams > 1 { format!("{connections} x {streams}") } else { connections.to_string() };
    let opened = if model == "mlp" { format!(" in a {connect:?}").to_lowercase() } else { String::new() };
    let name = format!("{model} {}, {load} connections{opened}", door.name());
    Case {
        name: name.replace(" x 8 connections", " connections x 8"),
        model: ModelSpec::parse(model).expect("a preset"),
        door,
        connections,
        streams,
        connect,
        against: Against::Echo,
        unit: Unit::PerSecond,
        target: Target::Share(0.4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own_and_the_load_that_it_names() {
        let cases = all();
        let names: std::collections::BTreeSet<_> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
        for name in [
            "mlp gRPC, 8 connections x 8 in a spread",
            "minilm gRPC, 8 connections",
            "minilm gRPC, 1 connection, median latency",
            "mlp HTTP binary, 1 connection, median latency",
        ] {
            assert!(names.contains(name), "{name} is not in {names:?}");
        }
        assert!(cases.iter().all(|case| case.connections * case.streams <= BUSY));
    }
}
