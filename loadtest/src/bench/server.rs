//! Processes under test: started on free ports, pinned, awaited until they answer, killed when dropped.

use std::error::Error;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::process;
use crate::tls::Trust;

/// How long a server may take until it is ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long one blocking request may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Ports that servers are started on.
const PORTS: (u16, u16) = (20_000, 32_000);

/// A running process that serves on loopback.
pub(crate) struct Process {
    child: Child,
    /// When it was started.
    pub(crate) started: Instant,
    /// Its HTTP port; for the gRPC echo, its only port.
    pub(crate) http: SocketAddr,
    /// Its gRPC port.
    pub(crate) grpc: SocketAddr,
    log: PathBuf,
}

impl Process {
    /// Starts the server on these repositories, with `further` arguments. Does not wait until it is ready.
    pub(crate) fn server(
        program: &Path,
        repository: &Path,
        core: Option<usize>,
        log: PathBuf,
        further: &[&OsStr],
    ) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(program);
        let (http, grpc) = (free_port()?, free_port()?);
        command.arg("serve").arg(repository).args(["--log-format", "json"]);
        command.args(["--http-port", &http.port().to_string(), "--grpc-port", &grpc.port().to_string()]);
        command.args(further);
        Self::start(command, core, http, grpc, log)
    }

    /// Starts one of this program's own echo servers: `http` or `grpc`.
    pub(super) fn echo(kind: &str, core: usize, log: PathBuf) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        let port = free_port()?;
        command.args(["ceiling", kind, "--port", &port.port().to_string()]);
        let process = Self::start(command, Some(core), port, port, log)?;
        process.wait_until(|process| TcpStream::connect(process.http).is_ok())?;
        Ok(process)
    }

    fn start(
        mut command: Command,
        core: Option<usize>,
        http: SocketAddr,
        grpc: SocketAddr,
        log: PathBuf,
    ) -> Result<Self, Box<dyn Error>> {
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        if let Some(core) = core {
            process::pin_child(&mut command, core);
        }
        process::die_with_parent(&mut command);
        let started = Instant::now();
        let child = command.spawn().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        Ok(Self { child, started, http, grpc, log })
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the V2 readiness probe says yes.
    pub(crate) fn wait_ready(&self) -> Result<(), Box<dyn Error>> {
        self.wait_until(|process| get(process.http, "/v2/health/ready").is_ok_and(|(status, _)| status == 200))
    }

    /// The same over TLS.
    pub(super) fn wait_ready_over(&self, trust: &Trust) -> Result<(), Box<dyn Error>> {
        let ready = |process: &Self| {
            let stream = trust.connect(process.http).ok()?;
            let (status, _) = exchange_on(stream, &get_request(process.http, "/v2/health/ready")).ok()?;
            (status == 200).then_some(())
        };
        self.wait_until(|process| ready(process).is_some())
    }

    /// Asks about every millisecond until `answer` is true, and tells the log if that never happens.
    pub(super) fn wait_until(&self, answer: impl Fn(&Self) -> bool) -> Result<(), Box<dyn Error>> {
        while !answer(self) {
            let gone = !Path::new(&format!("/proc/{}/fd/1", self.pid())).exists();
            if gone || self.started.elapsed() > READY_MAX {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(20).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(format!("the server did not get ready; its log ends with\n{tail}").into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address on loopback that is free now and was not given out before. Below the range that outgoing connections
/// take their ports from: there, one that knocks too early could be connected to itself and hold the port.
fn free_port() -> std::io::Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id() * 16 % u32::from(PORTS.1 - PORTS.0);
    loop {
        let count = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.0 + ((begin + count) % u32::from(PORTS.1 - PORTS.0)) as u16;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return listener.local_addr(),
            Err(error) if count > 1_000 => return Err(error),
            Err(_) => {}
        }
    }
}

/// A blocking GET: status and body.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<(u16, Vec<u8>), Box<dyn Error>> {
    exchange(address, &get_request(address, path))
}

fn get_request(address: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").into_bytes()
}

/// A blocking exchange on a connection of its own; the request has to ask for `Connection: close`.
pub(super) fn exchange(address: SocketAddr, request: &[u8]) -> Result<(u16, Vec<u8>), Box<dyn Error>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    exchange_on(stream, request)
}

fn exchange_on(mut stream: impl Read + Write, request: &[u8]) -> Result<(u16, Vec<u8>), Box<dyn Error>> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("no response head")?;
    let status = std::str::from_utf8(answer.get(9..12).ok_or("no status")?)?.parse()?;
    Ok((status, answer.split_off(end + 4)))
}
