//! The server that is soaked: time-outs short enough that slow clients come and go.

use std::error::Error;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Look;
use crate::process;

/// How long the server may take to be ready.
const READY_MAX: Duration = Duration::from_secs(60);

/// A server, killed when dropped.
pub(super) struct Server {
    child: Child,
    log: PathBuf,
    pub(super) http: SocketAddr,
    pub(super) grpc: SocketAddr,
}

impl Server {
    /// Starts `program` on the sample models, and waits until it is ready.
    pub(super) fn start(program: &Path, models: &Path) -> Result<Self, Box<dyn Error>> {
        let log = std::env::temp_dir().join(format!("tensorgate-soak-{}.log", std::process::id()));
        let file = File::create(&log)?;
        let mut command = Command::new(program);
        command.arg("serve").arg(models).args(["--log-format", "json", "--http-port", "0", "--grpc-port", "0"]);
        command.args([
            "--head-timeout",
            "1s",
            "--body-timeout",
            "1s",
            "--answer-timeout",
            "1s",
            "--idle-timeout",
            "2s",
        ]);
        command.args(["--body-max", "16MiB", "--connections-max", "2000"]);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        process::die_with_parent(&mut command);
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let unset = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { child, log, http: unset, grpc: unset };
        let begun = Instant::now();
        loop {
            if let Some(listening) = server.log_lines("\"listening\"").first() {
                let listening: Value = serde_json::from_str(listening)?;
                let address = |key: &str| listening[key].as_str().unwrap_or_default().parse();
                (server.http, server.grpc) = (address("http")?, address("grpc")?);
                if server.is_ready() {
                    return Ok(server);
                }
            }
            if begun.elapsed() > READY_MAX {
                return Err(format!("the server did not get ready, see {}", server.log.display()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lines of the log that hold `text`.
    pub(super) fn log_lines(&self, text: &str) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// Whether it says that it is ready.
    pub(super) fn is_ready(&self) -> bool {
        super::attacks::get(self.http, "/v2/health/ready").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Its memory and descriptors now.
    pub(super) fn look(&self) -> Result<Look, Box<dyn Error>> {
        let pid = self.child.id();
        let resident = process::resident_bytes(pid).ok_or("the server has ended")?;
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
        Ok(Look { resident, descriptors })
    }

    /// Prints the samples of these metrics that are not zero.
    pub(super) fn print_metrics(&self, names: &[&str]) {
        let metrics = super::attacks::get(self.http, "/metrics").unwrap_or_default();
        let wanted = |line: &&str| names.iter().any(|name| line.starts_with(name)) && !line.ends_with(" 0");
        metrics.lines().filter(wanted).for_each(|line| println!("  {line}"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
