//! SIGHUP: what is made from files is looked at, at once.

use http::Method;

use crate::support::http::request;
use crate::support::{Models, Process, eventually};

fn keys(token: &str) -> String {
    format!("[[key]]\nname = \"app\"\ntoken = \"{token}\"\nscopes = [\"metadata\"]\n")
}

#[tokio::test]
async fn a_hangup_has_files_read_again_at_once() {
    let models = Models::of(&["identity_fp32"]);
    let file = models.path().join("keys.toml");
    std::fs::write(&file, keys("old")).unwrap();
    let arguments = ["--auth-file", file.to_str().unwrap(), "--reload-interval", "1h", models.argument()];
    let mut process = Process::start(&arguments).await;
    process.line("serving").await;
    let mut http = process.http().await;
    let status = async |http: &mut crate::support::Http, token: &str| {
        http.send(request(Method::GET, "/v2", &[("x-api-key", token)], "")).await.status.as_u16()
    };
    assert_eq!(status(&mut http, "old").await, 200);
    std::fs::write(&file, keys("new")).unwrap();
    process.signal("HUP").await;
    process.line("SIGHUP").await;
    process.line("loaded anew").await;
    eventually("the new key", async || (status(&mut http, "new").await == 200).then_some(())).await;
    assert_eq!(status(&mut http, "old").await, 401);
    // What cannot be used changes nothing.
    std::fs::write(&file, "[[key]]\nname = 1").unwrap();
    process.signal("HUP").await;
    process.line("the earlier one is kept").await;
    assert_eq!(status(&mut http, "new").await, 200);
}

#[tokio::test]
async fn a_hangup_of_a_server_that_has_no_files_is_harmless() {
    let models = Models::of(&["identity_fp32"]);
    let mut process = Process::start(&[models.argument()]).await;
    process.line("serving").await;
    process.signal("HUP").await;
    process.line("SIGHUP").await;
    assert_eq!(process.http().await.get("/v2/health/ready").await.status, 200);
}
