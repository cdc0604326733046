//! What a guarded rollout is to do, as an annotation of the service says.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::shadow::Shadow;

/// Steps at most: more than a person follows.
const STEPS_MAX: usize = 20;
/// The longest step: what shows later than after a day is not for a rollout to find.
const STEP_SECONDS_MAX: i64 = 86_400;

/// The steps and conditions of a guarded rollout; names and defaults are those of the servers' own canaries (`[traffic.canary]`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Guard {
    /// Per cent of the requests that the new revision gets, one after the other; all after the last. Default 1, 5, 25, 50.
    pub steps: Vec<i32>,
    /// Requests that it has to answer in a step. Default 100.
    pub step_requests: u64,
    /// Seconds that a step takes at least, written as `30s`, `5m` or `1h`. Default one minute: what shows only after a while has
    /// a while.
    #[serde(deserialize_with = "seconds")]
    pub step_time: i64,
    /// How much more of its requests than of the old revision's may fail, as a ratio. Default 0.01.
    pub errors: f64,
    /// How much more may be answered later than the objective. Default 0.01.
    pub late: f64,
    /// How many times as long as the old revision's its answers may take, told by that one's 90th percentile. Default 1.5.
    pub latency: f64,
    /// Whether answers are compared before anybody gets one, and how: `true` for the defaults, or an object. Default not.
    #[serde(deserialize_with = "shadow")]
    pub shadow: Option<Shadow>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            steps: vec![1, 5, 25, 50],
            step_requests: 100,
            step_time: 60,
            errors: 0.01,
            late: 0.01,
            latency: 1.5,
            shadow: None,
        }
    }
}

impl Guard {
    /// Reads the annotation: `true` for the defaults, or an object in JSON; none where it is `false` or empty.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let guard: Self = match text.trim() {
            "" | "false" => return Ok(None),
            "true" => Self::default(),
            object => serde_json::from_str(object)
                .map_err(|error| format!("{error}; give \"true\" or an object such as {{\"steps\": [5, 50]}}"))?,
        };
        guard.check()?;
        Ok(Some(guard))
    }

    fn check(&self) -> Result<(), String> {
        let ascending = self.steps.windows(2).all(|pair| pair[0] < pair[1]);
        let within = self.steps.iter().all(|percent| (1..=99).contains(percent));
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX || !ascending || !within {
            return Err(format!(
                "steps: give 1 to {STEPS_MAX} whole percentages from 1 to 99, each above the one before"
            ));
        }
        for (name, ratio) in [("errors", self.errors), ("late", self.late)] {
            if !(0.0..=0.5).contains(&ratio) {
                return Err(format!("{name} is {ratio}; a ratio from 0 to 0.5 is possible"));
            }
        }
        if !(1.0..=100.0).contains(&self.latency) {
            return Err(format!("latency is {}; a factor from 1 to 100 is possible", self.latency));
        }
        self.shadow.map_or(Ok(()), |shadow| shadow.check().map_err(|error| format!("shadow: {error}")))
    }

    /// Per cent that the new revision gets at a step, counted from 1; none at the shadow's, which is 0, and all of it after the last.
    pub fn percent(&self, step: usize) -> i32 {
        step.checked_sub(1).map_or(0, |index| self.steps.get(index).copied().unwrap_or(100))
    }

    /// The step that a rollout begins with.
    pub fn first(&self) -> usize {
        usize::from(self.shadow.is_none())
    }
}

/// `true`, `false` or an object.
fn shadow<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Shadow>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Whether(bool),
        How(serde_json::Map<String, serde_json::Value>),
    }
    let wrong = |error| D::Error::custom(format!("shadow: {error}; give true or an object such as {{\"share\": 0.1}}"));
    match Written::deserialize(deserializer).map_err(|_| wrong("it is neither".to_owned()))? {
        Written::Whether(is) => Ok(is.then(Shadow::default)),
        Written::How(fields) => {
            Shadow::deserialize(serde_json::Value::Object(fields)).map(Some).map_err(|error| wrong(error.to_string()))
        }
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let stated = factor.and_then(|factor| number.parse::<i64>().ok()?.checked_mul(factor));
    stated.filter(|seconds| *seconds <= STEP_SECONDS_MAX).ok_or_else(|| {
        D::Error::custom(format!("stepTime '{text}': give a time such as 30s, 5m or 1h, of at most 24h"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn true_is_the_default_and_an_object_states_what_differs() {
        assert_eq!(Guard::parse("true"), Ok(Some(Guard::default())));
        assert_eq!(Guard::parse("false"), Ok(None));
        let stated = Guard::parse(r#"{"steps": [10, 50], "stepTime": "5m", "errors": 0}"#).unwrap().unwrap();
        assert_eq!(stated, Guard { steps: vec![10, 50], step_time: 300, errors: 0.0, ..Guard::default() });
        assert_eq!((stated.percent(0), stated.percent(1), stated.percent(2), stated.percent(3)), (0, 10, 50, 100));
        assert_eq!(stated.first(), 1);
        let shadowed = |text: &str| Guard::parse(text).unwrap().unwrap().shadow;
        assert_eq!(shadowed(r#"{"shadow": true}"#), Some(Shadow::default()));
        assert_eq!(shadowed(r#"{"shadow": false}"#), None);
        let stated = Shadow { share: 0.5, by: crate::v2::agreement::Word::Argmax, ..Shadow::default() };
        assert_eq!(shadowed(r#"{"shadow": {"share": 0.5, "by": "argmax"}}"#), Some(stated));
    }

    #[test]
    fn what_is_wrong_is_told_with_what_would_be_right() {
        for (text, told) in [
            ("guarded", "give \"true\" or an object"),
            (r#"{"step": [1]}"#, "unknown field `step`"),
            (r#"{"steps": []}"#, "1 to 20 whole percentages"),
            (r#"{"steps": [50, 10]}"#, "each above the one before"),
            (r#"{"steps": [100]}"#, "from 1 to 99"),
            (r#"{"errors": 0.9}"#, "errors is 0.9; a ratio from 0 to 0.5"),
            (r#"{"latency": 0.5}"#, "latency is 0.5; a factor from 1 to 100"),
            (r#"{"stepTime": "5 min"}"#, "stepTime '5 min': give a time such as 30s"),
            (r#"{"stepTime": "9999999999999999999h"}"#, "give a time such as 30s"),
            (r#"{"stepTime": "25h"}"#, "at most 24h"),
            (r#"{"shadow": "yes"}"#, "shadow: it is neither; give true or an object"),
            (r#"{"shadow": {"part": 1}}"#, "unknown field `part`"),
            (r#"{"shadow": {"by": "rank"}}"#, "unknown variant `rank`"),
            (r#"{"shadow": {"share": 0}}"#, "shadow: share is 0; a ratio above 0"),
            (r#"{"shadow": {"disagreement": 0}}"#, "shadow: disagreement is 0; a ratio from 0.001 to 0.5"),
            (r#"{"shadow": {"absolute": -1}}"#, "shadow: absolute is -1; a number from 0"),
        ] {
            let error = Guard::parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
