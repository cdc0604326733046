//! What kube-proxy does: connections to a Service go to its ready pods, one after the other, and are refused where there are none.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// A Service's name, the number of its port, and whether gRPC is behind it.
pub(super) type Port = (String, u16, bool);

/// All Services' ports.
#[derive(Clone)]
pub(super) struct Proxies {
    shared: Arc<Mutex<BTreeMap<Port, Forward>>>,
    changed: watch::Sender<()>,
}

struct Forward {
    address: SocketAddr,
    pods: watch::Sender<Vec<SocketAddr>>,
}

impl Default for Proxies {
    fn default() -> Self {
        Self { shared: Arc::default(), changed: watch::Sender::new(()) }
    }
}

impl Proxies {
    /// From now on these are all ports that there are, and the pods behind each.
    pub(super) fn set(&self, ports: &BTreeMap<Port, Vec<SocketAddr>>) {
        let mut shared = self.shared.lock().unwrap();
        shared.retain(|port, _| ports.contains_key(port));
        for (port, pods) in ports {
            let forward = shared.entry(port.clone()).or_insert_with(Forward::start);
            forward.pods.send_if_modified(|own| {
                let differs = own != pods;
                own.clone_from(pods);
                differs
            });
        }
        self.changed.send_replace(());
    }

    /// What `host` of a Service, and the number of its port, lead to.
    pub(super) fn find(&self, service: &str, number: u16) -> Option<SocketAddr> {
        let shared = self.shared.lock().unwrap();
        shared.iter().find(|(port, _)| port.0 == service && port.1 == number).map(|(_, forward)| forward.address)
    }

    /// Where a Service's HTTP or gRPC is, once it has pods.
    pub(super) async fn wait(&self, service: &str, grpc: bool) -> String {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                let found = {
                    let shared = self.shared.lock().unwrap();
                    let ready = |forward: &&Forward| !forward.pods.borrow().is_empty();
                    let own = shared.iter().find(|(port, _)| port.0 == service && port.2 == grpc);
                    own.map(|(_, forward)| forward).filter(ready).map(|forward| forward.address)
                };
                match found {
                    Some(address) => return address.to_string(),
                    None => changed.changed().await.unwrap(),
                }
            }
        };
        let patience = tokio::time::timeout(super::PATIENCE, waiting).await;
        patience.unwrap_or_else(|_| panic!("waited in vain for pods behind {service}"))
    }
}

impl Forward {
    fn start() -> Self {
        // Bound and never listening: the port stays ours, and refuses, while there are no pods.
        let reserved = socket("127.0.0.1:0".parse().unwrap());
        let address = reserved.local_addr().unwrap();
        let (pods, seen) = watch::channel(Vec::new());
        tokio::spawn(async move {
            forward(address, seen).await;
            drop(reserved);
        });
        Self { address, pods }
    }
}

fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// Until the Service has gone.
async fn forward(address: SocketAddr, mut pods: watch::Receiver<Vec<SocketAddr>>) {
    let mut next = 0;
    loop {
        let mut last = pods.borrow().first().copied();
        let listener: Option<TcpListener> =
            (!pods.borrow_and_update().is_empty()).then(|| socket(address).listen(1024).unwrap());
        loop {
            tokio::select! {
                changed = pods.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if pods.borrow().is_empty() != listener.is_none() {
                        // Who is connected already goes to the pod that there was, which serves on for a while.
                        while let Some(Ok((client, _))) = accept(listener.as_ref()).now_or_never() {
                            tokio::spawn(async move { pass(client, last?).await });
                        }
                        break;
                    }
                }
                Ok((client, _)) = accept(listener.as_ref()) => {
                    let chosen = {
                        let pods = pods.borrow();
                        next += 1;
                        pods.get(next % pods.len().max(1)).copied().or(last)
                    };
                    last = chosen;
                    tokio::spawn(async move { pass(client, chosen?).await });
                }
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn pass(mut client: TcpStream, pod: SocketAddr) -> Option<()> {
    let mut pod = TcpStream::connect(pod).await.ok()?;
    let _without_it_slower = (client.set_nodelay(true), pod.set_nodelay(true));
    // Whichever side ends it.
    let _ended = tokio::io::copy_bidirectional(&mut client, &mut pod).await;
    Some(())
}
