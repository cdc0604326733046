//! The throughput and latency cases: what is sent, over which door, against which ceiling.

use super::table::{Target, Unit};
use crate::cli::Connect;
use crate::payload::{Encoding, ModelSpec};

/// How a request reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// HTTP/1.1.
    Http(Encoding),
    /// gRPC with raw contents.
    Grpc,
}

/// What the server is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    /// A bare echo of the same bytes through the same library.
    Echo,
    /// ONNX Runtime in-process at its best batch size.
    Session,
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
/// Requests at once on the compute-bound model: enough that work always waits, and little enough that no queue grows
/// beyond a latency objective.
const COMPUTE_BUSY: usize = 8;

/// All cases in the table's order.
pub(super) fn all() -> Vec<Case> {
    use Encoding::{Binary, Json};
    let mut cases = Vec::new();
    for model in ["identity", "iris"] {
        for door in [Door::Http(Json), Door::Http(Binary), Door::Grpc] {
            cases.push(case(model, door, BUSY, Connect::Burst));
        }
    }
    let mut alone = case("iris", Door::Http(Json), 1, Connect::Burst);
    alone.name = "iris HTTP JSON, 1 connection, median latency".to_owned();
    (alone.unit, alone.target) = (Unit::Micros, Target::None);
    cases.push(alone);
    for encoding in [Json, Binary] {
        let case = case("identity", Door::Http(encoding), BUSY, Connect::Burst);
        let name = format!("{} with TLS, against without", case.name);
        cases.push(Case { name, against: Against::Plain, target: Target::Share(0.7), ..case });
    }
    for door in [Door::Http(Binary), Door::Grpc] {
        for connect in [Connect::Burst, Connect::Spread] {
            let case = case("mlp", door, BUSY, connect);
            cases.push(Case { against: Against::Session, target: Target::Share(0.5), ..case });
        }
    }
    let compute = case("compute", Door::Http(Binary), COMPUTE_BUSY, Connect::Burst);
    cases.push(Case { against: Against::Session, target: Target::Share(0.95), ..compute });
    cases
}

fn case(model: &str, door: Door, busy: usize, connect: Connect) -> Case {
    let (way, connections, streams) = match door {
        Door::Http(Encoding::Json) => ("HTTP JSON", busy, 1),
        Door::Http(Encoding::Binary) => ("HTTP binary", busy, 1),
        Door::Grpc => ("gRPC", busy / 8, 8),
    };
    let load = if streams > 1 { format!("{connections} x {streams}") } else { connections.to_string() };
    let opened = if model == "mlp" { format!(" in a {connect:?}").to_lowercase() } else { String::new() };
    Case {
        name: format!("{model} {way}, {load} connections{opened}").replace(" x 8 connections", " connections x 8"),
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
        let names: std::collections::BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), cases.len());
        assert!(names.contains(&"mlp gRPC, 8 connections x 8 in a spread".to_owned()), "{names:?}");
        assert!(cases.iter().all(|case| case.connections * case.streams <= BUSY));
    }
}
