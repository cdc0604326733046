//! The command line: what is checked, what is refused, and which of file, environment and flag wins.

mod check;
mod profile;

use std::net::TcpListener;

use crate::support::process::{Ended, command, run_to_end};
use crate::support::{Models, Process, eventually};

async fn run(arguments: &[&str]) -> Ended {
    run_to_end(&mut command(arguments)).await
}

#[tokio::test]
async fn usage_errors_exit_with_2_and_name_every_fault() {
    for (arguments, told) in [
        (&["serve", "--no-such-flag"][..], &["--no-such-flag"][..]),
        (&[], &["serve", "check"]),
        (&["serv"], &["serv"]),
        (&["serve", "--http-port", "99999"], &["99999", "--http-port"]),
        (&["serve", "--model-name", "m"], &["--model-name", "needs --model-dir"]),
        (&["serve", "ftp://host/models"], &["ftp://", "file:///path"]),
        (&["serve", "--load-model", "m"], &["--load-model", "--model-control explicit"]),
        (&["serve", "--log-level", "tensorgate=loud"], &["log level", "loud"]),
        (
            &["serve", "--model-control", "explicite", "--body-max", "64 megs", "--drain-delay", "5", "--cores", "0"],
            &["did you mean 'explicit'?", "--body-max", "64MiB", "--drain-delay", "'5s'", "--cores"],
        ),
        (&["serve", "--config", "/no/such/file.toml"], &["--config", "/no/such/file.toml", "No such file"]),
    ] {
        let ended = run(arguments).await;
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        for text in told {
            assert!(ended.errors.contains(text), "{arguments:?}: no '{text}' in {}", ended.errors);
        }
        assert_eq!(ended.output, "", "{arguments:?}");
    }
}

#[tokio::test]
async fn help_and_version_exit_with_0() {
    for arguments in
        [&["--help"][..], &["serve", "--help"], &["check", "--help"], &["profile", "--help"], &["--version"]]
    {
        let ended = run(arguments).await;
        assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(ended.output.contains("tensorgate"), "{}", ended.output);
    }
}

#[tokio::test]
async fn a_port_in_use_is_said_before_anything_is_loaded() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = taken.local_addr().unwrap().port().to_string();
    let models = Models::of(&["identity_fp32"]);
    for flags in [["--http-port", &port, "--grpc-port", "0"], ["--grpc-port", &port, "--http-port", "0"]] {
        let mut arguments = vec!["serve", models.argument()];
        arguments.extend(flags);
        let ended = run(&arguments).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.errors.contains(&format!("cannot listen on {address}")), "{ended:?}");
        assert!(ended.errors.contains("in use") && !ended.errors.contains("identity_fp32"), "{ended:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_served_at_all_exits_with_1() {
    let models = Models::of(&["identity_fp32"]);
    let free = ["--http-port", "0", "--grpc-port", "0"];
    for (arguments, told) in [
        (&["/no/such/repository"][..], "/no/such/repository"),
        (&[models.argument(), "--model-control", "explicit", "--load-model", "stranger"], "stranger"),
    ] {
        let ended = run(&[&["serve"], &free[..], arguments].concat()).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.errors.contains("cannot start") && ended.errors.contains(told), "{ended:?}");
    }
}

/// The largest body that `process` accepts, by what it says of one that is too large.
async fn body_max(process: &Process) -> usize {
    let answer = process.http().await.post("/v2/models/m/infer", "x".repeat(100_000)).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    let message = answer.error();
    let (_, number) = message.split_once("at most ").unwrap();
    number.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
    let directory = Models::new();
    let file = directory.path().join("tensorgate.toml");
    let text = "body_max = \"1KiB\"\nhttp_port = 0\ngrpc_port = 0\nlog_format = \"json\"\n";
    std::fs::write(&file, text).unwrap();
    let arguments = ["serve", "--config", file.to_str().unwrap()];
    let from_file = Process::of(&mut command(&arguments)).await;
    assert_eq!(body_max(&from_file).await, 1024);
    let from_environment = Process::of(command(&arguments).env("TENSORGATE_BODY_MAX", "2KiB")).await;
    assert_eq!(body_max(&from_environment).await, 2048);
    let all = [&arguments[..], &["--body-max", "3KiB"]].concat();
    let from_flag = Process::of(command(&all).env("TENSORGATE_BODY_MAX", "2KiB")).await;
    assert_eq!(body_max(&from_flag).await, 3072);
}

#[tokio::test]
async fn repositories_come_from_the_command_line_the_environment_or_the_file() {
    let (one, other) = (Models::of(&["identity_fp32"]), Models::of(&["scalar"]));
    let file = one.path().join("tensorgate.toml");
    std::fs::write(&file, format!("repositories = [{:?}, {:?}]", one.argument(), other.argument())).unwrap();
    let doors = ["serve", "--http-port", "0", "--grpc-port", "0", "--log-format", "json"];
    let with = |more: &[&str]| command(&[&doors, more].concat());
    let uri = format!("file://{}", one.argument());
    let both = format!("{},{}", one.argument(), other.argument());
    for (mut command, names) in [
        (with(&[&uri]), &["identity_fp32"][..]),
        (with(&[one.argument(), other.argument()]), &["identity_fp32", "scalar"]),
        (
            with(&["--model-repository", one.argument(), "--model-repository", other.argument()]),
            &["identity_fp32", "scalar"],
        ),
        (with(&["--config", file.to_str().unwrap()]), &["identity_fp32", "scalar"]),
        (with(&["--config", file.to_str().unwrap(), other.argument()]), &["scalar"]),
    ] {
        serves(&mut command, names).await;
    }
    serves(with(&[]).env("TENSORGATE_REPOSITORIES", both), &["identity_fp32", "scalar"]).await;
}

async fn serves(command: &mut tokio::process::Command, names: &[&str]) {
    let process = Process::of(command).await;
    let index = process.http().await.post("/v2/repository/index", "").await.json();
    let served: Vec<&str> = index.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(served, names, "{command:?}");
}

#[tokio::test]
async fn a_server_without_a_repository_is_idle_and_ready() {
    let process = Process::start(&[]).await;
    let mut http = process.http().await;
    eventually("the server to be ready", async || (http.get("/v2/health/ready").await.status == 200).then_some(()))
        .await;
    assert_eq!(http.post("/v2/repository/index", "").await.json(), serde_json::json!([]));
    assert_eq!(http.get("/v2/models/anything").await.status, 404);
    process.signal("TERM").await;
    process.signal("INT").await;
    assert_eq!(process.exit().await, Some(1));
}
