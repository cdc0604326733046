//! What the autoscaler knows of a revision beyond the controller's own end: an annotation of its Deployment, written with a number
//! that changes anyway, so that it costs no request. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tensorgate_autoscale::{Memory, State};

use crate::api::keys;
use crate::tree;

/// As it is written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Kept {
    /// What plans are corrected by.
    trim: f64,
    /// The index of dispersion of the arrivals.
    dispersion: f64,
    /// Seconds of a start.
    start: f64,
}

/// The state to go on with from a Deployment that was there before this controller, and that asks for `replicas`. Without a memory,
/// or with one that cannot be read, what there is is kept for a while all the same.
pub fn resumed(deployment: &Value, replicas: u32, now: Duration) -> State {
    let kept =
        tree::annotation(deployment, keys::SCALE_MEMORY).and_then(|text| serde_json::from_str::<Kept>(text).ok());
    let memory = kept.and_then(|kept| {
        let start = Duration::try_from_secs_f64(kept.start).ok()?;
        Some(Memory { trim: kept.trim, dispersion: kept.dispersion, start })
    });
    State::resumed(replicas, memory, now)
}

/// What to keep of a state, as text.
pub fn written(state: &State) -> String {
    let Memory { trim, dispersion, start } = state.memory();
    let rounded = |value: f64| (value * 1e3).round() / 1e3;
    let kept = Kept { trim: rounded(trim), dispersion: rounded(dispersion), start: rounded(start.as_secs_f64()) };
    serde_json::to_string(&kept).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tensorgate_autoscale::{Sample, Settings, decide};

    use super::*;

    const NOW: Duration = Duration::from_secs(7);

    fn with(text: &str) -> State {
        resumed(&json!({"metadata": {"annotations": {keys::SCALE_MEMORY: text}}}), 5, NOW)
    }

    #[test]
    fn what_was_written_is_known_again() {
        let before =
            State::resumed(5, Some(Memory { trim: 0.8, dispersion: 4.0, start: Duration::from_secs(33) }), NOW);
        let text = written(&before);
        assert_eq!(text, "{\"trim\":0.8,\"dispersion\":4.0,\"start\":33.0}");
        assert_eq!(written(&with(&text)), text);
    }

    #[test]
    fn whatever_is_written_there_nothing_goes_at_once() {
        for text in [
            "",
            "nonsense",
            "{}",
            "{\"trim\":1e999}",
            "{\"trim\":-5,\"dispersion\":1e300,\"start\":-1}",
            "{\"trim\":0.8,\"dispersion\":0,\"start\":1e300}",
        ] {
            let mut state = with(text);
            for second in 1..300 {
                let sample = Sample { current: 5, ready: 5, reporting: 5, arrived: 1.0, ..Sample::default() };
                let (replicas, next, _) =
                    decide(&Settings::within(1, 9), &state, &sample, NOW + Duration::from_secs(second));
                assert_eq!(replicas, 5, "{text}");
                state = next;
            }
        }
    }
}
