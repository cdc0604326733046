//! What an API server refuses or does not know, and the controller gets over.

use serde_json::{Value, json};
use tensorgate_controller::tree;

use super::apiserver::ApiServer;
use super::binary::{Controller, key, make_ready, server, service, write};
use super::store::Store;

fn condition(store: &Store, kind: &str) -> Option<Value> {
    let conditions = tree::list(store.get(&key("InferenceService", "iris"))?, &["status", "conditions"]).to_vec();
    conditions.into_iter().find(|own| own["type"] == kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_the_gateway_api_serves_and_gets_its_routes_when_it_is_installed() {
    let server = server().await;
    server.define("httproutes", false);
    let _controller = Controller::start(&server, "one", &["--gateway=infra/gateway"]).await;
    write(&server, &service("iris", "s3://models/1"));
    make_ready(&server, "iris-predictor-00001").await;
    let told = |store: &Store| {
        let ingress = condition(store, "IngressReady")?;
        let serves = condition(store, "PredictorReady")?["status"] == "True";
        (serves && ingress["reason"] == "GatewayApiMissing").then_some(ingress)
    };
    let ingress = server.wait("the condition", told).await;
    assert!(ingress["message"].as_str().unwrap().contains("install the Gateway API"), "{ingress}");
    server.define("httproutes", true);
    server.wait("the route", |store| store.get(&key("HTTPRoute", "iris")).map(drop)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_written_however_long_it_is_and_whatever_its_letters_are() {
    let server = server().await;
    let _controller = Controller::start(&server, "one", &[]).await;
    let mut own = service("iris", "s3://models/1");
    own["spec"]["predictor"]["model"]["runtime"] = json!("é".repeat(900));
    write(&server, &own);
    let long = |store: &Store| {
        let events = store.list("Event", None, "");
        events.into_iter().find(|own| own["note"].as_str().is_some_and(|note| note.len() > 1000))
    };
    let event = server.wait("the event", long).await;
    assert!(event["note"].as_str().unwrap().len() <= 1024, "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_told_to_the_person_and_mended_by_the_next_edit() {
    let server = server().await;
    let _controller = Controller::start(&server, "one", &[]).await;
    let mut own = service("iris", "s3://models/1");
    own["spec"]["predictor"]["labels"] = json!({"team": "no label's value!"});
    write(&server, &own);
    let told = |store: &Store| {
        let events = store.list("Event", None, "");
        events.into_iter().find(|own| own["reason"] == "ApplyFailed")
    };
    let event = server.wait("the event", told).await;
    assert!(event["note"].as_str().unwrap().contains("no label's value!"), "{event}");
    let refused = |store: &Store| condition(store, "PredictorReady").filter(|own| own["reason"] == "ApplyFailed");
    let refused = server.wait("the condition", refused).await;
    assert!(
        refused["status"] == "False" && refused["message"].as_str().unwrap().contains("Deployment models/iris"),
        "{refused}"
    );
    own["spec"]["predictor"]["labels"] = json!({"team": "red"});
    write(&server, &own);
    let mended = |store: &Store| condition(store, "PredictorReady").filter(|own| own["reason"] != "ApplyFailed");
    server.wait("the next edit to count", mended).await;
    make_ready(&server, "iris-predictor-00002").await;
    server.wait("it to serve", |store| condition(store, "Ready").filter(|own| own["status"] == "True")).await;
}

/// A Service by the name of the predictor's, of `owner` if of anybody.
fn occupy(server: &ApiServer, owner: Option<&Value>) {
    let mut own = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "iris-predictor"},
        "spec": {"selector": {"app": "mine"}, "ports": [{"port": 80}]},
    });
    if let Some(owner) = owner {
        own["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "name": "iris", "uid": owner["metadata"]["uid"],
            "controller": true, "blockOwnerDeletion": true,
        }]);
    }
    server.with(|store| store.create(key("Service", "iris-predictor"), own, "somebody").unwrap());
}

fn selector(store: &Store) -> Value {
    store.get(&key("Service", "iris-predictor")).map_or(Value::Null, |own| own["spec"]["selector"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has_made_by_the_name_of_a_child_stays_as_it_is_until_its_name_is_free() {
    let server = server().await;
    occupy(&server, None);
    let _controller = Controller::start(&server, "one", &[]).await;
    write(&server, &service("iris", "s3://models/1"));
    let refused = |store: &Store| condition(store, "PredictorReady").filter(|own| own["reason"] == "ApplyFailed");
    let refused = server.wait("the condition", refused).await;
    let told = "Service models/iris-predictor is there already and belongs to somebody else";
    assert!(refused["message"].as_str().unwrap().contains(told), "{refused}");
    assert_eq!(server.look(selector), json!({"app": "mine"}));
    server.with(|store| store.delete(&key("Service", "iris-predictor"), None).unwrap());
    server.wait("its own", |store| (selector(store)["app"] == "isvc.iris-predictor-00001").then_some(())).await;
    make_ready(&server, "iris-predictor-00001").await;
    server.wait("it to serve", |store| condition(store, "Ready").filter(|own| own["status"] == "True")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_controller_of_the_same_resources_has_left_of_a_service_is_taken_over() {
    let server = server().await;
    write(&server, &service("iris", "s3://models/1"));
    let owner = server.look(|store| store.get(&key("InferenceService", "iris")).cloned().unwrap());
    occupy(&server, Some(&owner));
    let _controller = Controller::start(&server, "one", &[]).await;
    server.wait("its own", |store| (selector(store)["app"] == "isvc.iris-predictor-00001").then_some(())).await;
}
