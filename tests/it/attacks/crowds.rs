//! More connections than anybody can want.

use tensorgate::contract::metrics as names;
use tokio::net::TcpStream;

use super::{ended, others_are_served, row, serve};
use crate::support::metrics::Metrics;
use crate::support::process::{Process, command};
use crate::support::tensors::*;
use crate::support::{Models, eventually};

/// Connections of the crowd, where this machine allows a process that many descriptors.
const CROWD: usize = 10_000;

/// The limit on descriptors of this process, raised as far as it may be.
fn descriptors() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    limit.maximum.map_or(usize::MAX, |limit| limit as usize)
}

async fn crowd(address: std::net::SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut crowd = Vec::with_capacity(count);
    for _ in 0..count {
        crowd.push(TcpStream::connect(address).await.unwrap());
    }
    crowd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_are_held_and_others_are_served() {
    let count = CROWD.min(descriptors() - 1000);
    let models = Models::of(&["identity_fp32"]);
    let mut process = Process::start(&[models.argument()]).await;
    process.line("serving").await;
    let before = process.status("VmRSS");
    let _crowd = crowd(process.http, count).await;
    let mut http = process.http().await;
    eventually("all of them", async || {
        (Metrics::of(&mut http).await.sum(names::CONNECTIONS, &[]) > count as f64).then_some(())
    })
    .await;
    for _ in 0..100 {
        let answer = process.http().await.infer("identity_fp32", &json_body(&row())).await;
        assert_eq!(outputs_of(&answer)[0].1, row()[0].1);
    }
    let each = (process.status("VmRSS") - before) * 1024 / count;
    assert!(each < 16 << 10, "an idle connection takes {each} bytes");
}

#[tokio::test]
async fn a_crowd_beyond_the_bound_makes_room_for_whoever_comes() {
    let server = serve(|config| config.server.connections_max = 20).await;
    let mut regular = server.http().await;
    assert_eq!(regular.infer("identity_fp32", &json_body(&row())).await.status, 200);
    let _crowd = crowd(server.http, 100).await;
    ended(&server, "room", 80.0).await;
    others_are_served(&server).await;
}

#[tokio::test]
async fn a_crowd_beyond_the_descriptors_makes_room_for_whoever_comes() {
    let models = Models::of(&["identity_fp32"]);
    let serve = ["serve", "--http-port", "0", "--grpc-port", "0", "--log-format", "json", models.argument()];
    let limited = command(&[]);
    let program = limited.as_std().get_program().to_owned();
    let mut limited = tokio::process::Command::new("bash");
    limited.args(["-c", "ulimit -n 100 && exec \"$0\" \"$@\""]).arg(program).args(serve).kill_on_drop(true);
    let mut process = Process::of(&mut limited).await;
    process.line("serving").await;
    let _crowd = crowd(process.http, 200).await;
    process.line("cannot accept a connection").await;
    for _ in 0..3 {
        let answer = process.http().await.infer("identity_fp32", &json_body(&row())).await;
        assert_eq!(outputs_of(&answer)[0].1, row()[0].1);
    }
    let metrics = Metrics::of(&mut process.http().await).await;
    assert!(metrics.sum(names::ACCEPT_FAILURES, &[]) > 0.0);
    assert!(metrics.sum(names::CONNECTIONS_ENDED, &[("reason", "room")]) > 0.0);
}
