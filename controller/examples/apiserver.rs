//! The API server of the controller's tests as a process of its own, for clients in other languages. Prints its kubeconfig and serves
//! until its standard input ends.

#[allow(dead_code, reason = "the controller's own tests use what is not used here")]
#[path = "../tests/it/apiserver.rs"]
mod apiserver;
#[allow(dead_code, reason = "the controller's own tests use what is not used here")]
#[path = "../tests/it/defaults.rs"]
mod defaults;
#[path = "../tests/it/discovery.rs"]
mod discovery;
#[path = "../tests/it/ownership.rs"]
mod ownership;
#[path = "../tests/it/rbac.rs"]
mod rbac;
#[path = "../tests/it/rules.rs"]
mod rules;
#[allow(dead_code, reason = "the controller's own tests use what is not used here")]
#[path = "../tests/it/store.rs"]
mod store;

use std::io::{Read, Write};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let server = apiserver::ApiServer::start().await;
    println!("{}", serde_json::json!(server.kubeconfig()));
    std::io::stdout().flush()?;
    // Whoever started it has gone when the pipe ends.
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}
