//! One revision over time: from its Deployment, its pods and what they told, to what a decision looks at. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tensorgate_autoscale::{Model, Sample};
use tensorgate_contract::capacity;
use tensorgate_contract::overhead::Overhead;
use tensorgate_contract::signals::Signals;

use crate::api::keys;
use crate::run::pods;
use crate::scrape::Target;
use crate::tree;

/// What a pod told counts until it was silent for so many looks: one answer that got lost is no outage.
const KEPT: u32 = 3;

/// What a pod tells, by model and version.
pub type Told = BTreeMap<(String, String), Signals>;

/// A pod of a revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// Its uid.
    pub uid: String,
    /// Where its metrics are, once it has an address.
    pub target: Option<Target>,
    /// It takes requests.
    pub ready: bool,
    /// It fails again and again.
    pub failing: bool,
    /// How long it took to be ready; none of one that was restarted.
    pub start: Option<Duration>,
}

/// The pods of the revision `name` that are not on their way out.
pub fn pods<'a>(all: impl Iterator<Item = &'a Value>, name: &str) -> Vec<Pod> {
    let own = all.filter(|pod| {
        tree::label(pod, keys::REVISION) == Some(name) && pod["metadata"].get("deletionTimestamp").is_none()
    });
    own.map(pod).collect()
}

fn pod(pod: &Value) -> Pod {
    let condition = tree::list(pod, &["status", "conditions"]).iter().find(|own| own["type"] == "Ready");
    let ready = condition.filter(|own| own["status"] == "True");
    let statuses = tree::list(pod, &["status", "containerStatuses"]);
    let failing =
        statuses.iter().any(|own| tree::text(own, &["state", "waiting", "reason"]) == Some("CrashLoopBackOff"));
    let restarted = statuses.iter().any(|own| tree::number(own, &["restartCount"]).unwrap_or(0) > 0);
    let time = |text: Option<&str>| text.and_then(|text| text.parse::<Timestamp>().ok());
    let created = time(tree::text(pod, &["metadata", "creationTimestamp"]));
    let since = ready.and_then(|own| time(tree::text(own, &["lastTransitionTime"])));
    let start = created.zip(since).filter(|_| !restarted);
    Pod {
        uid: tree::text(pod, &["metadata", "uid"]).unwrap_or("").to_owned(),
        target: pods::target(pod),
        ready: ready.is_some(),
        failing,
        start: start.and_then(|(created, since)| Duration::try_from(since.duration_since(created)).ok()),
    }
}

/// What is kept of a revision's pods from look to look.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// By uid: what it told last, and how many looks ago.
    told: BTreeMap<String, (Signals, u32)>,
    /// Pods whose start was counted.
    started: Vec<String>,
    overhead: Overhead,
    model: Option<Model>,
}

impl Series {
    /// What a decision looks at, from a look at the pods, of which some told.
    pub fn sample(&mut self, current: u32, pods: &[Pod], told: &BTreeMap<String, Told>) -> Sample {
        let count =
            |of: &dyn Fn(&&Pod) -> bool| u32::try_from(pods.iter().filter(|pod| of(pod)).count()).unwrap_or(u32::MAX);
        let mut sample =
            Sample { current, ready: count(&|pod| pod.ready), failing: count(&|pod| pod.failing), ..Sample::default() };
        self.told.retain(|uid, _| pods.iter().any(|pod| pod.ready && pod.uid == *uid));
        let mut best: Option<Signals> = None;
        for pod in pods.iter().filter(|pod| pod.ready) {
            self.take(&pod.uid, told.get(&pod.uid), &mut sample);
            if let Some(busiest) = told.get(&pod.uid).and_then(busiest)
                && best.as_ref().is_none_or(|best| busiest.executions > best.executions)
            {
                best = Some(busiest.clone());
            }
        }
        if let Some(signals) = best.filter(|signals| !signals.points.is_empty()) {
            self.model = Some(model(signals, &self.overhead));
        }
        sample.model.clone_from(&self.model);
        self.count_starts(pods, &mut sample);
        sample
    }

    /// Adds what a pod told to a sample.
    fn take(&mut self, uid: &str, told: Option<&Told>, sample: &mut Sample) {
        let Some(told) = told else {
            if let Some((last, age)) = self.told.get_mut(uid) {
                *age = age.saturating_add(1);
                if *age < KEPT {
                    sample.reporting += 1;
                    sample.waiting += last.waiting;
                    sample.in_flight += last.in_flight;
                }
            }
            return;
        };
        let now = sum(told);
        sample.reporting += 1;
        sample.waiting += now.waiting;
        sample.in_flight += now.in_flight;
        // What a pod counted before it was first seen is not of this second.
        if let Some((last, age)) = self.told.get(uid) {
            // What came while it was silent did not all come just now.
            let share = if *age < KEPT { 1.0 } else { 1.0 / f64::from(age.saturating_add(1)) };
            // A counter that fell began anew.
            let more = |now: f64, last: f64| if now >= last { (now - last) * share } else { now * share };
            sample.arrived += more(now.arrived, last.arrived);
            sample.ended += more(now.ended, last.ended);
            sample.bad += more(now.bad, last.bad);
            self.overhead.note(last, &now);
        }
        self.told.insert(uid.to_owned(), (now, 0));
    }

    /// How long those took that became ready since the last look; those that were ready at the first one count too.
    fn count_starts(&mut self, pods: &[Pod], sample: &mut Sample) {
        self.started.retain(|uid| pods.iter().any(|pod| pod.uid == *uid));
        for pod in pods.iter().filter(|pod| pod.ready) {
            if !self.started.contains(&pod.uid) {
                self.started.push(pod.uid.clone());
                sample.starts.extend(pod.start);
            }
        }
    }
}

/// The version of a pod's models that most arrives at: a pod serves one, as KServe has it.
fn busiest(told: &Told) -> Option<&Signals> {
    told.values().max_by(|a, b| a.arrived.total_cmp(&b.arrived))
}

/// All versions together.
fn sum(told: &Told) -> Signals {
    let mut sum = Signals::default();
    for signals in told.values() {
        sum.arrived += signals.arrived;
        sum.waiting += signals.waiting;
        sum.in_flight += signals.in_flight;
        sum.ended += signals.ended;
        sum.bad += signals.bad;
        sum.executed += signals.executed;
        // The whole server's, whichever version tells it.
        sum.processor = signals.processor;
    }
    sum
}

/// With what rows cost the server beside their execution, which older ones do not tell.
fn model(signals: Signals, overhead: &Overhead) -> Model {
    let each = signals.overhead.or_else(|| overhead.per_row()).unwrap_or_default();
    let each = each.div_f64(signals.threads.max(1) as f64);
    Model {
        points: capacity::with_overhead(&signals.points, each, signals.unit),
        executions: signals.executions,
        objective: signals.objective,
        instances: signals.instances,
        rows_max: signals.rows_max,
        unit: signals.unit,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tensorgate_contract::capacity::Point;

    use super::*;

    fn ready(uid: &str) -> Pod {
        let start = Some(Duration::from_secs(20));
        Pod { uid: uid.into(), target: None, ready: true, failing: false, start }
    }

    fn told(arrived: f64) -> Told {
        let signals = Signals { arrived, waiting: 2.0, in_flight: 3.0, executions: 10, ..Signals::default() };
        [(("iris".to_owned(), "1".to_owned()), signals)].into()
    }

    #[test]
    fn counters_become_what_came_since_the_last_look_also_over_a_restart() {
        let (mut series, pods) = (Series::default(), [ready("a")]);
        let mut arrived = |told: Option<Told>| {
            let all = told.map(|told| ("a".to_owned(), told)).into_iter().collect();
            let sample = series.sample(1, &pods, &all);
            (sample.arrived, sample.reporting)
        };
        // What it counted before is not of now.
        assert_eq!(arrived(Some(told(100.0))), (0.0, 1));
        assert_eq!(arrived(Some(told(130.0))), (30.0, 1));
        assert_eq!(arrived(None), (0.0, 1));
        assert_eq!(arrived(Some(told(150.0))), (20.0, 1));
        assert_eq!(arrived(Some(told(5.0))), (5.0, 1));
        for silent in [1, 1, 0, 0] {
            assert_eq!(arrived(None), (0.0, silent));
        }
        // Five looks' worth, of which one is of now.
        assert_eq!(arrived(Some(told(55.0))), (10.0, 1));
    }

    #[test]
    fn the_start_of_a_pod_counts_once_and_pods_that_have_gone_are_forgotten() {
        let mut series = Series::default();
        let none = BTreeMap::new();
        assert_eq!(series.sample(1, &[ready("a")], &none).starts, [Duration::from_secs(20)]);
        assert_eq!(series.sample(2, &[ready("a"), ready("b")], &none).starts.len(), 1);
        assert_eq!(series.sample(2, &[ready("a"), ready("b")], &none).starts.len(), 0);
        series.sample(1, &[ready("b")], &none);
        assert_eq!(series.started, ["b"]);
    }

    #[test]
    fn what_rows_cost_beside_their_execution_is_part_of_what_a_replica_serves() {
        let point = Point { work: 4, centre: Duration::from_millis(1), upper: Duration::from_millis(2) };
        let at = |seconds: f64| -> BTreeMap<String, Told> {
            let signals = Signals {
                arrived: 1000.0 * seconds,
                processor: 0.5 * seconds,
                executed: 0.3 * seconds,
                unit: 1,
                executions: 10,
                points: vec![point],
                ..Signals::default()
            };
            [("a".to_owned(), [(("iris".to_owned(), "1".to_owned()), signals)].into())].into()
        };
        let mut series = Series::default();
        let mut centre = |seconds: f64| series.sample(1, &[ready("a")], &at(seconds)).model.unwrap().points[0].centre;
        assert_eq!(centre(1.0), Duration::from_millis(1));
        // 200 us each, of four rows.
        assert_eq!(centre(3.0), Duration::from_micros(1800));
    }

    #[test]
    fn a_pod_is_read_from_its_object() {
        let object = json!({
            "metadata": {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {keys::REVISION: "iris-1"}},
            "spec": {"containers": [{"name": "kserve-container", "ports": [{"containerPort": 9090}]}]},
            "status": {"podIP": "fd00::1", "containerStatuses": [{"restartCount": 0}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:42Z"}]},
        });
        let leaving = json!({"metadata": {"deletionTimestamp": "x", "labels": {keys::REVISION: "iris-1"}}});
        let found = pods([&object, &leaving].into_iter(), "iris-1");
        let expected = Pod {
            uid: "u".into(),
            target: Some(Target { uid: "u".into(), address: "[fd00::1]:9090".into(), path: "/metrics".into() }),
            ready: true,
            failing: false,
            start: Some(Duration::from_secs(42)),
        };
        assert_eq!(found, [expected]);
        assert_eq!(pods([&object].into_iter(), "iris-2"), []);
    }
}
