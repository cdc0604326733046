//! The real program, in a process of its own.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::{Grpc, Http, patiently};

/// `tensorgate serve`, killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    /// The HTTP port.
    pub(crate) http: SocketAddr,
    /// The gRPC port.
    pub(crate) grpc: SocketAddr,
}

/// What a program that ended by itself said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
}

/// The program, with an environment that holds none of its variables.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tensorgate"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TENSORGATE_")) {
        command.env_remove(name);
    }
    // Tests learn nothing from one another.
    command.env("TENSORGATE_STATE_DIR", "");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Runs `command` to its end.
pub(crate) async fn run_to_end(command: &mut Command) -> Ended {
    let output = patiently("the program's end", command.output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), output: text(output.stdout), errors: text(output.stderr) }
}

impl Process {
    /// Starts `tensorgate serve` with free ports and these arguments, and waits until it listens.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let mut all = vec!["serve", "--http-port", "0", "--grpc-port", "0", "--log-format", "json"];
        all.extend(arguments);
        Self::of(&mut command(&all)).await
    }

    /// Starts `command`, which has to log JSON, and waits until it listens.
    pub(crate) async fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, mut lines) = mpsc::unbounded_channel();
        // Read at all times: a program that nobody listens to stops when the pipe is full.
        tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                // A test that waits for no line has dropped the receiver's process, or reads later.
                let _ = sender.send(line);
            }
        });
        let listening = line(&mut lines, "listening").await;
        let address = |key: &str| listening[key].as_str().unwrap().parse().unwrap();
        Self { http: address("http"), grpc: address("grpc"), child, lines }
    }

    /// Waits for the next log line whose message holds `text`.
    pub(crate) async fn line(&mut self, text: &str) -> Value {
        line(&mut self.lines, text).await
    }

    /// A new HTTP/1.1 connection.
    pub(crate) async fn http(&self) -> Http {
        Http::connect(self.http).await
    }

    /// A new gRPC connection.
    pub(crate) async fn grpc(&self) -> Grpc {
        super::grpc::connect(self.grpc).await
    }

    /// Sends a signal by name: "TERM".
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.id();
        let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits for its end; gives the exit code.
    pub(crate) async fn exit(mut self) -> Option<i32> {
        patiently("the process to end", self.child.wait()).await.unwrap().code()
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("the process has ended")
    }

    /// A number that `/proc` says of it: "VmRSS", in KiB, or "Threads".
    pub(crate) fn status(&self, key: &str) -> usize {
        let pid = self.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(&format!("{key}:"))).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

async fn line(lines: &mut mpsc::UnboundedReceiver<String>, text: &str) -> Value {
    let mut seen = Vec::new();
    let search = async {
        while let Some(line) = lines.recv().await {
            let parsed = serde_json::from_str::<Value>(&line).unwrap_or_default();
            if parsed["message"].as_str().is_some_and(|message| message.contains(text)) {
                return parsed;
            }
            seen.push(line);
        }
        panic!("the program ended without a line that holds '{text}': {seen:#?}")
    };
    patiently(text, search).await
}
