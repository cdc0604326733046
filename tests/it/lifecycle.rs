//! Models come and go while others serve.

mod broken;
mod brought;
mod calls;
mod memory;
mod poll;
mod reload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::Server;
use crate::support::http::Answer;
use crate::support::tensors::*;

fn row() -> Named {
    named([("x", tensor([1, 2], [-1_f32, 2.]))])
}

/// What the index says of each model, as "name version state".
fn states(index: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let entry = |entry: &Value| ["name", "version", "state"].map(|key| text(&entry[key])).join(" ");
    index.as_array().unwrap().iter().map(entry).collect()
}

/// Clients that ask again and again until they are told to stop. One answer that is not 200 fails the test.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: JoinSet<()>,
}

impl Load {
    /// A client for each of `models`, which checks each answer with `check`.
    async fn start(server: &Server, models: &[&str], check: fn(&Answer)) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        for model in models {
            let (mut http, model) = (server.http().await, (*model).to_owned());
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = http.infer(&model, &json_body(&row())).await;
                    assert_eq!(answer.status, 200, "{model}: {answer:?}");
                    check(&answer);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { stop, answered, clients }
    }

    /// Waits until `count` more requests were answered.
    async fn more(&self, count: usize) {
        let before = self.answered.load(Ordering::Relaxed);
        crate::support::eventually("answers", async || {
            (self.answered.load(Ordering::Relaxed) >= before + count).then_some(())
        })
        .await;
    }

    /// Ends the load; panics where a client did.
    async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
    }
}
