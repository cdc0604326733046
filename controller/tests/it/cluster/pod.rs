//! A pod: one container's process at the pod's own address, restarted when it ends, probed, and ended within its grace.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tensorgate_controller::tree;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

/// The kubelet's first back-off.
const RESTART_AFTER: Duration = Duration::from_secs(10);
/// Probes are ten times as frequent as they say.
const HASTE: u32 = 10;
/// What a container's last words may be, as the kubelet has it (`FallbackToLogsOnError`).
const LAST_LINES: usize = 20;

/// What happens to a pod.
#[derive(Debug)]
pub(super) enum Event {
    /// Its probe succeeds from now on, or no longer.
    Ready(bool),
    /// Its process has ended by itself.
    Ended { code: i32, message: String },
}

/// What is run.
pub(super) struct Process {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    /// Address and path.
    pub(super) probe: (SocketAddr, String),
    pub(super) period: Duration,
    pub(super) grace: Duration,
}

/// A pod's task; dropping it ends the process within its grace.
pub(super) struct Running {
    pub(super) ip: Ipv4Addr,
    pub(super) ready: bool,
    _stop: oneshot::Sender<()>,
}

impl Running {
    pub(super) fn start(
        uid: &str,
        ip: Ipv4Addr,
        process: Process,
        events: mpsc::UnboundedSender<(String, Event)>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let uid = uid.to_owned();
        let tell = move |event| drop(events.send((uid.clone(), event)));
        tokio::spawn(async move { run(process, stopped, tell).await });
        Self { ip, ready: false, _stop: stop }
    }
}

async fn run(process: Process, mut stopped: oneshot::Receiver<()>, tell: impl Fn(Event)) {
    loop {
        let (mut child, lines) = spawn(&process);
        tokio::select! {
            code = child.wait() => {
                let code = code.unwrap().code().unwrap_or(137);
                let message = lines.lock().unwrap().iter().cloned().collect::<Vec<_>>().join("\n");
                tell(Event::Ended { code, message });
            }
            () = probe(&process, &tell) => {}
            _ = &mut stopped => return end(child, process.grace).await,
        }
        tokio::select! {
            () = tokio::time::sleep(RESTART_AFTER) => {}
            _ = &mut stopped => return,
        }
    }
}

fn spawn(process: &Process) -> (Child, Arc<Mutex<VecDeque<String>>>) {
    let mut command = Command::new(&process.program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TENSORGATE_")) {
        command.env_remove(name);
    }
    command.args(&process.arguments).envs(&process.environment).current_dir(env!("CARGO_MANIFEST_DIR"));
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut read = BufReader::new(child.stderr.take().unwrap()).lines();
    let lines = Arc::new(Mutex::new(VecDeque::new()));
    let kept = lines.clone();
    // Read on, or the pipe would fill up.
    tokio::spawn(async move {
        while let Ok(Some(line)) = read.next_line().await {
            let mut kept = kept.lock().unwrap();
            kept.push_back(line);
            if kept.len() > LAST_LINES {
                kept.pop_front();
            }
        }
    });
    (child, lines)
}

/// For ever: tells each change of what the probe finds.
async fn probe(process: &Process, tell: &impl Fn(Event)) {
    let mut look = tokio::time::interval(process.period / HASTE);
    let mut ready = false;
    loop {
        look.tick().await;
        let found = tokio::time::timeout(Duration::from_secs(2), answers(process.probe.0, &process.probe.1)).await;
        let found = found.is_ok_and(|answered| answered.unwrap_or(false));
        if found != ready {
            ready = found;
            tell(Event::Ready(ready));
        }
    }
}

async fn answers(address: SocketAddr, path: &str) -> std::io::Result<bool> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer.split(' ').nth(1) == Some("200"))
}

async fn end(mut child: Child, grace: Duration) {
    let Some(pid) = child.id() else { return };
    let _gone_already = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
    if tokio::time::timeout(grace, child.wait()).await.is_err() {
        child.kill().await.unwrap();
    }
}

/// The text of an argument with the pod's own places in it.
pub(super) fn placed(argument: &str, ip: Ipv4Addr, folders: &BTreeMap<String, PathBuf>) -> String {
    if argument == "--host=0.0.0.0" {
        return format!("--host={ip}");
    }
    let Some((flag, path)) = argument.split_once('=') else { return argument.to_owned() };
    let mounted = folders.iter().find(|(mount, _)| path == *mount || path.starts_with(&format!("{mount}/")));
    match mounted {
        Some((mount, folder)) => format!("{flag}={}{}", folder.display(), &path[mount.len()..]),
        None => argument.to_owned(),
    }
}

/// A container's environment, as far as it is stated.
pub(super) fn environment(container: &Value) -> BTreeMap<String, String> {
    let stated = tree::list(container, &["env"]).iter();
    stated.filter_map(|own| Some((own["name"].as_str()?.to_owned(), own["value"].as_str()?.to_owned()))).collect()
}
