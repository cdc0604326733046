//! `/v2/models/{model}/traffic`: `GET` tells how requests that name no version are shared out, `PUT` sets it, `DELETE` has the
//! model's own settings hold again. Each answers with how it is then.

use http::{Method, Response, StatusCode};

use super::as_json;
use crate::error::Result;
use crate::protocol::json::traffic::{
    CanaryAnswer, ComparedAnswer, ConditionAnswer, ShadowAnswer, TrafficAnswer, TrafficBody, VersionShare,
    decode_traffic,
};
use crate::server::Doors;
use crate::server::body::ResponseBody;
use crate::service::router::canary::{Condition, Phase};
use crate::service::router::{CanaryReport, Compared, Report, Source};

pub(super) fn answer(model: &str, method: &Method, body: &[u8], doors: &Doors) -> Result<Response<ResponseBody>> {
    match *method {
        Method::PUT => {
            doors.repository.knows(model)?;
            doors.router.set(model, decode_traffic(body)?)?;
        }
        Method::DELETE => doors.router.take_back(model)?,
        _ => {}
    }
    Ok(as_json(StatusCode::OK, &told(model, doors.router.report(model)?)))
}

fn told(model: &str, report: Report) -> TrafficAnswer {
    let versions = report.versions.iter().map(|version| VersionShare {
        version: version.version.to_string(),
        state: version.state.name(),
        reason: version.state.reason().to_owned(),
        weight: version.weight,
        share: version.share,
    });
    TrafficAnswer {
        model_name: model.to_owned(),
        source: match report.source {
            Source::Newest => "newest",
            Source::Settings => "settings",
            Source::Set => "set",
        },
        settings: TrafficBody::from(&*report.settings),
        versions: versions.collect(),
        shadow: report.shadow.map(|shadow| ShadowAnswer {
            version: shadow.version.to_string(),
            share: shadow.share,
            compared: compared(&shadow.compared),
        }),
        canary: report.canary.map(canary),
    }
}

fn canary(report: CanaryReport) -> CanaryAnswer {
    CanaryAnswer {
        version: report.version.to_string(),
        stable: report.stable.to_string(),
        state: report.phase.name(),
        step: match report.phase {
            Phase::Running(step) => Some(step + 1),
            Phase::Promoted | Phase::RolledBack => None,
        },
        percent: report.percent,
        steps: report.steps,
        reason: report.reason,
        conditions: report.conditions.iter().map(condition).collect(),
        compared: report.compared.as_ref().map(compared),
    }
}

fn condition(condition: &Condition) -> ConditionAnswer {
    ConditionAnswer {
        name: condition.name,
        verdict: condition.verdict.name(),
        evidence: condition.evidence.to_string(),
    }
}

fn compared(compared: &Compared) -> ComparedAnswer {
    // Those that only the mirrored version failed at took no time that could be compared.
    let answers = compared.agreed + compared.disagreed - compared.failed;
    let mean = |time: std::time::Duration| (answers > 0).then(|| time.as_secs_f64() / answers as f64);
    ComparedAnswer {
        agreed: compared.agreed,
        disagreed: compared.disagreed,
        failed: compared.failed,
        not_run: compared.not_run,
        dropped: compared.dropped,
        other_outputs: compared.names,
        other_datatypes: compared.datatypes,
        other_shapes: compared.shapes,
        not_finite: compared.not_finite,
        difference_max: compared.absolute,
        relative_difference_max: compared.relative,
        argmax_agreement: (compared.rows > 0).then(|| compared.same_argmax as f64 / compared.rows as f64),
        live_seconds: mean(compared.live_time),
        mirrored_seconds: mean(compared.mirrored_time),
    }
}
