//! How a revision fares: from its Deployment whether it can take requests, from its pods why it cannot.

use serde_json::Value;

use super::Context;
use crate::api::status::{FailureInfo, ModelCopies, ModelStates, ModelStatus};
use crate::api::{CONTAINER, keys};
use crate::tree;

/// What is known about a revision's Deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// There is one.
    pub exists: bool,
    /// It can take requests.
    pub available: bool,
    /// The replicas that it is asked for.
    pub replicas: i64,
    /// The replicas that can take requests.
    pub pods: i64,
    /// Why it does not progress, where its controller says so.
    pub stuck: Option<String>,
}

/// The health of the revision `name`, which now gets `share` of the traffic.
///
/// One that gets none must first have as many pods as its Deployment calls available; one that gets some goes on with any, since
/// the others would be no better off without them.
pub fn health(cx: &Context<'_>, name: &str, share: i32) -> Health {
    let found = cx.children.iter().find(|child| child["kind"] == "Deployment" && tree::name(child) == name);
    let Some(deployment) = found.filter(|found| found["metadata"].get("deletionTimestamp").is_none()) else {
        return Health::default();
    };
    let condition =
        |kind: &str| tree::list(deployment, &["status", "conditions"]).iter().find(|own| own["type"] == kind);
    let enough = condition("Available").is_some_and(|own| own["status"] == "True");
    let pods = tree::number(deployment, &["status", "availableReplicas"]).unwrap_or(0);
    let stuck = [("ReplicaFailure", "True"), ("Progressing", "False")].into_iter().find_map(|(kind, bad)| {
        let own = condition(kind).filter(|own| own["status"] == bad)?;
        Some(tree::text(own, &["message"]).unwrap_or("the Deployment does not progress").to_owned())
    });
    Health {
        exists: true,
        available: pods > 0 && (enough || share > 0),
        replicas: tree::number(deployment, &["spec", "replicas"]).unwrap_or(1),
        pods,
        stuck,
    }
}

/// The state of the model of the revision `name`, beside the one that serves.
pub fn model_status(cx: &Context<'_>, name: &str, health: &Health, serving: bool) -> ModelStatus {
    let pods: Vec<&&Value> = cx.pods.iter().filter(|pod| tree::label(pod, keys::REVISION) == Some(name)).collect();
    let failures: Vec<FailureInfo> = pods.iter().filter_map(|pod| failure(pod, name)).collect();
    let failed = failures.len();
    let stuck = health.stuck.as_ref().map(|message| FailureInfo {
        location: name.to_owned(),
        reason: "RuntimeUnhealthy".into(),
        message: message.clone(),
        model_revision_name: name.to_owned(),
        ..FailureInfo::default()
    });
    let failure = failures.into_iter().next().or(stuck).filter(|_| !health.available);
    let target = match (&failure, pods.is_empty()) {
        _ if health.available => "Loaded",
        (Some(_), _) => "FailedToLoad",
        (None, true) => "Pending",
        (None, false) => "Loading",
    };
    let transition = match &failure {
        _ if health.available => "UpToDate",
        Some(_) => "BlockedByFailedLoad",
        None => "InProgress",
    };
    ModelStatus {
        transition_status: transition.into(),
        states: Some(ModelStates {
            active_model_state: if serving { "Loaded" } else { target }.into(),
            target_model_state: target.into(),
        }),
        last_failure_info: failure,
        copies: Some(ModelCopies {
            failed_copies: i32::try_from(failed).unwrap_or(i32::MAX),
            total_copies: i32::try_from(pods.len()).unwrap_or(i32::MAX),
        }),
    }
}

/// Why a pod does not serve, if it has failed and is not merely on its way.
fn failure(pod: &Value, revision: &str) -> Option<FailureInfo> {
    let ready =
        tree::list(pod, &["status", "conditions"]).iter().any(|own| own["type"] == "Ready" && own["status"] == "True");
    if ready {
        return None;
    }
    let statuses = ["initContainerStatuses", "containerStatuses"].into_iter();
    let statuses = statuses.flat_map(|field| tree::list(pod, &["status", field]));
    statuses.into_iter().find_map(|status| {
        let waiting = tree::at(status, &["state", "waiting"]);
        let now = tree::at(status, &["state", "terminated"]);
        let before = tree::at(status, &["lastState", "terminated"]);
        let ended =
            [now, before].into_iter().find(|end| tree::number(end, &["exitCode"]).is_some_and(|code| code != 0));
        let reason = tree::text(waiting, &["reason"]).unwrap_or("");
        let image = ["ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError"]
            .contains(&reason)
            || ["CreateContainerError", "RunContainerError"].contains(&reason);
        if ended.is_none() && !image {
            return None;
        }
        let container = tree::text(status, &["name"]).unwrap_or("");
        let loads = container == CONTAINER || container == "storage-initializer";
        let message = ended
            .and_then(|end| tree::text(end, &["message"]))
            .or_else(|| tree::text(waiting, &["message"]))
            .or_else(|| ended.and_then(|end| tree::text(end, &["reason"])))
            .unwrap_or(reason);
        Some(FailureInfo {
            location: tree::name(pod).to_owned(),
            reason: if loads && !image { "ModelLoadFailed" } else { "RuntimeUnhealthy" }.into(),
            message: format!("{container}: {}", message.trim()),
            model_revision_name: revision.to_owned(),
            time: ended.and_then(|end| tree::text(end, &["finishedAt"])).unwrap_or("").to_owned(),
            exit_code: ended.and_then(|end| tree::number(end, &["exitCode"])).and_then(|code| i32::try_from(code).ok()),
        })
    })
}
