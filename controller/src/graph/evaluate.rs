//! A request through a graph. The steps of an ensemble run at once, everything else in its order; whoever no longer waits for the
//! outcome drops it, and with it the calls under way.

use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use super::message::{Answer, Message, merged};
use super::{Graph, Kind, Node, Step, Target};

/// What a graph needs of the world.
pub trait World: Sync {
    /// Calls the service of a step. A service that cannot be reached is an answer too, so that a soft dependency goes on without it.
    fn call(&self, step: &Step, url: &str, message: Message) -> impl Future<Output = Answer> + Send;
    /// Whether the request came over gRPC: its answer is then made of tensors, and steps are asked over gRPC where they can be.
    fn is_over_grpc(&self) -> bool;
    /// A point of the whole range of `u64`, for a choice by weight.
    fn draw(&self) -> u64;
}

/// Why there is no answer of a step to give back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// HTTP's, as KServe's router has it.
    pub status: u16,
    /// KServe's words where it has some.
    pub cause: String,
}

type Outcome = Result<Answer, Failure>;

impl Graph {
    /// The answer to a request.
    ///
    /// # Errors
    /// If no step of a Switch takes it, or an ensemble's answers cannot be joined.
    pub async fn evaluate(&self, world: &impl World, request: Message) -> Outcome {
        self.node(world, self.root, request).await
    }

    fn node<'a, W: World>(
        &'a self,
        world: &'a W,
        index: usize,
        input: Message,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            let node = &self.nodes[index];
            match node.kind {
                Kind::Sequence => self.sequence(world, node, input).await,
                Kind::Ensemble => self.ensemble(world, node, input).await,
                Kind::Splitter => self.step(world, node.by_weight(world.draw()), input).await,
                Kind::Switch => {
                    let step = node.by_condition(&input).ok_or_else(|| Failure {
                        status: 404,
                        cause: "None of the routes matched with the switch condition".into(),
                    })?;
                    self.step(world, step, input).await
                }
            }
        })
    }

    async fn step<W: World>(&self, world: &W, step: &Step, input: Message) -> Outcome {
        match &step.target {
            Target::Node(index) => self.node(world, *index, input).await,
            Target::Service(service) => Ok(world.call(step, service.address(world.is_over_grpc()), input).await),
        }
    }

    async fn sequence<W: World>(&self, world: &W, node: &Node, input: Message) -> Outcome {
        let mut last: Option<Answer> = None;
        for step in &node.steps {
            if let (Some(condition), Some(answer)) = (&step.condition, &last) {
                let json = answer.message.parsed().ok_or_else(|| Failure {
                    status: 500,
                    cause: format!("step {}: its condition looks at an answer that is no JSON", step.label),
                })?;
                if !condition.holds(&json) {
                    break;
                }
            }
            let before = last.take().filter(|_| step.of_response);
            let message = before.map_or_else(|| input.clone(), |answer| answer.message.sent_on());
            let message = if step.map_predictions { message.with_predictions_as_instances() } else { message };
            let answer = self.step(world, step, message).await?;
            if step.hard && !answer.is_success() {
                return Ok(answer);
            }
            last = Some(answer);
        }
        last.ok_or_else(|| Failure { status: 500, cause: format!("node '{}' has no steps", node.name) })
    }

    async fn ensemble<W: World>(&self, world: &W, node: &Node, input: Message) -> Outcome {
        let mut running: FuturesOrdered<_> =
            node.steps.iter().map(|step| self.step(world, step, input.clone())).collect();
        let mut answers = Vec::with_capacity(node.steps.len());
        for step in &node.steps {
            let Some(answer) = running.next().await.transpose()? else { break };
            // The first of the hard ones that failed is the answer; those still under way are dropped.
            if step.hard && !answer.is_success() {
                return Ok(answer);
            }
            answers.push(answer);
        }
        let named = node.steps.iter().map(|step| step.key.as_str()).zip(&answers);
        if world.is_over_grpc() {
            return Ok(Answer { status: 200, message: Message::joined(named) });
        }
        let message = merged(named).map_err(|key| Failure {
            status: 500,
            cause: format!("step {}/{key} did not answer with a JSON object, which an ensemble is made of", node.name),
        })?;
        Ok(Answer { status: 200, message })
    }
}

impl Node {
    /// The step for a point: its weight is its share of the points.
    fn by_weight(&self, point: u64) -> &Step {
        let total: u64 = self.steps.iter().map(|step| step.weight).sum();
        // The upper half of a product of 128 bits, as the table of routes has it.
        let mut place = u64::try_from((u128::from(point) * u128::from(total)) >> 64).unwrap_or(0);
        for step in &self.steps {
            if place < step.weight {
                return step;
            }
            place -= step.weight;
        }
        &self.steps[0]
    }

    fn by_condition(&self, input: &Message) -> Option<&Step> {
        let json = input.parsed()?;
        self.steps.iter().find(|step| step.condition.as_ref().is_some_and(|condition| condition.holds(&json)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tokio::sync::Barrier;

    use super::*;

    /// Services that answer by their host, and what they were sent.
    #[derive(Default)]
    struct Services {
        answers: BTreeMap<String, (u16, String)>,
        sent: Mutex<Vec<(String, String)>>,
        point: AtomicU64,
        over_grpc: bool,
        /// Whoever is called waits here for the others.
        meeting: Option<Barrier>,
    }

    impl World for Services {
        async fn call(&self, _: &Step, url: &str, message: Message) -> Answer {
            let host = url.trim_start_matches("http://").to_owned();
            self.sent.lock().unwrap().push((host.clone(), String::from_utf8(message.body.to_vec()).unwrap()));
            if let Some(meeting) = &self.meeting {
                meeting.wait().await;
            }
            let (status, body) =
                self.answers.get(&host).cloned().unwrap_or_else(|| (200, json!({"by": host}).to_string()));
            if status == 0 {
                return std::future::pending().await;
            }
            Answer { status, message: Message::json(body) }
        }

        fn is_over_grpc(&self) -> bool {
            self.over_grpc
        }

        fn draw(&self) -> u64 {
            self.point.load(Ordering::Relaxed)
        }
    }

    impl Services {
        fn with(answers: &[(&str, u16, &str)]) -> Self {
            let answer = |(host, status, body): &(&str, u16, &str)| ((*host).to_owned(), (*status, (*body).to_owned()));
            Self { answers: answers.iter().map(answer).collect(), ..Self::default() }
        }

        fn sent(&self) -> Vec<(String, String)> {
            self.sent.lock().unwrap().clone()
        }
    }

    fn graph(nodes: Value) -> Graph {
        Graph::check(&serde_json::from_value(json!({"nodes": nodes})).unwrap()).unwrap()
    }

    async fn ask(graph: &Graph, services: &Services, body: &'static str) -> Result<(u16, String), Failure> {
        let answer = graph.evaluate(services, Message::json(body)).await?;
        Ok((answer.status, String::from_utf8(answer.message.body.to_vec()).unwrap()))
    }

    fn pair(host: &str, body: &str) -> (String, String) {
        (host.into(), body.into())
    }

    #[tokio::test]
    async fn a_sequence_sends_the_request_or_the_answer_before_as_each_step_asks() {
        let graph = graph(json!({"root": {"routerType": "Sequence", "steps": [
            {"url": "http://a", "data": "$response"}, {"url": "http://b", "data": "$response"}, {"url": "http://c"},
        ]}}));
        let services = Services::with(&[("a", 200, "from a")]);
        assert_eq!(ask(&graph, &services, "in").await, Ok((200, r#"{"by":"c"}"#.into())));
        assert_eq!(services.sent(), [pair("a", "in"), pair("b", "from a"), pair("c", "in")]);
    }

    #[tokio::test]
    async fn a_hard_step_that_fails_ends_a_sequence_and_a_soft_one_does_not() {
        let chain = |dependency: &str| {
            graph(json!({"root": {"routerType": "Sequence", "steps": [
                {"url": "http://a", "dependency": dependency}, {"url": "http://b"},
            ]}}))
        };
        let services = Services::with(&[("a", 404, "gone")]);
        assert_eq!(ask(&chain("Hard"), &services, "in").await, Ok((404, "gone".into())));
        assert_eq!(services.sent().len(), 1);
        assert_eq!(ask(&chain("Soft"), &services, "in").await, Ok((200, r#"{"by":"b"}"#.into())));
    }

    #[tokio::test]
    async fn a_sequence_ends_with_the_answer_for_which_a_condition_does_not_hold() {
        let graph = graph(json!({"root": {"routerType": "Sequence", "steps": [
            {"url": "http://animal"}, {"url": "http://breed", "condition": "predictions.#(label==\"dog\")"},
        ]}}));
        let cat = Services::with(&[("animal", 200, r#"{"predictions":[{"label":"cat"}]}"#)]);
        assert_eq!(ask(&graph, &cat, "in").await, Ok((200, r#"{"predictions":[{"label":"cat"}]}"#.into())));
        let dog = Services::with(&[("animal", 200, r#"{"predictions":[{"label":"dog"}]}"#)]);
        assert_eq!(ask(&graph, &dog, "in").await, Ok((200, r#"{"by":"breed"}"#.into())));
        let text = Services::with(&[("animal", 200, "no JSON")]);
        assert_eq!(ask(&graph, &text, "in").await.unwrap_err().status, 500);
    }

    #[tokio::test]
    async fn predictions_are_sent_on_as_instances_where_a_step_asks() {
        let graph = graph(json!({"root": {"routerType": "Sequence", "steps": [
            {"url": "http://a"}, {"url": "http://b", "data": "$response", "mapPredictionsToInstances": true},
        ]}}));
        let services = Services::with(&[("a", 200, r#"{"predictions":[[1.0]]}"#)]);
        ask(&graph, &services, "in").await.unwrap();
        assert_eq!(services.sent()[1], pair("b", r#"{"instances":[[1.0]]}"#));
    }

    #[tokio::test]
    async fn a_switch_takes_the_first_step_whose_condition_holds_or_says_that_none_does() {
        let graph = graph(json!({"root": {"routerType": "Switch", "steps": [
            {"url": "http://a", "condition": "[@this].#(picker==A)"},
            {"url": "http://b", "condition": "picker"},
        ]}}));
        let services = Services::default();
        assert_eq!(ask(&graph, &services, r#"{"picker":"A"}"#).await, Ok((200, r#"{"by":"a"}"#.into())));
        assert_eq!(ask(&graph, &services, r#"{"picker":"B"}"#).await, Ok((200, r#"{"by":"b"}"#.into())));
        for unmatched in ["{}", "no JSON"] {
            let failure = ask(&graph, &services, unmatched).await.unwrap_err();
            let cause = "None of the routes matched with the switch condition".into();
            assert_eq!(failure, Failure { status: 404, cause });
        }
    }

    #[tokio::test]
    async fn an_ensemble_asks_all_at_once_and_joins_what_they_answer() {
        let graph = graph(json!({"root": {"routerType": "Ensemble", "steps": [
            {"url": "http://a", "name": "first"}, {"node": "inner"}, {"url": "http://c", "name": "soft"},
        ]}, "inner": {"routerType": "Sequence", "steps": [{"url": "http://b"}]}}));
        let services =
            Services { meeting: Some(Barrier::new(3)), ..Services::with(&[("c", 404, r#"{"detail":"no"}"#)]) };
        let whole = r#"{"1":{"by":"b"},"first":{"by":"a"},"soft":{"detail":"no"}}"#;
        assert_eq!(ask(&graph, &services, "in").await, Ok((200, whole.into())));

        let text = Services::with(&[("a", 200, "no JSON")]);
        assert!(ask(&graph, &text, "in").await.unwrap_err().cause.contains("root/first"));
    }

    #[tokio::test]
    async fn the_first_hard_step_that_fails_is_an_ensembles_answer_at_once() {
        let graph = graph(json!({"root": {"routerType": "Ensemble", "steps": [
            {"url": "http://a", "dependency": "Hard"}, {"url": "http://never"},
        ]}}));
        let services = Services::with(&[("a", 503, "not now"), ("never", 0, "")]);
        assert_eq!(ask(&graph, &services, "in").await, Ok((503, "not now".into())));
    }

    #[tokio::test]
    async fn a_nested_node_answers_for_its_step() {
        let graph = graph(json!({
            "root": {"routerType": "Sequence", "steps": [{"node": "pick", "dependency": "Hard"}, {"url": "http://b"}]},
            "pick": {"routerType": "Splitter", "steps": [{"url": "http://a", "weight": 100, "condition": "left.aside.#("}]},
        }));
        let services = Services::with(&[("a", 404, "gone")]);
        assert_eq!(ask(&graph, &services, "in").await, Ok((404, "gone".into())));
    }

    proptest! {
        #[test]
        fn a_splitter_gives_each_step_its_share_of_the_points(first in 0..=100_i64) {
            let steps = json!([{"url": "http://a", "weight": first}, {"url": "http://b", "weight": 100 - first}]);
            let graph = graph(json!({"root": {"routerType": "Splitter", "steps": steps}}));
            let points = (0..10_000_u64).map(|point| point * (u64::MAX / 10_000));
            let to_first = points.filter(|point| graph.nodes[0].by_weight(*point).key == "0").count();
            prop_assert!(to_first.abs_diff(usize::try_from(first).unwrap() * 100) <= 1, "{to_first} for {first} per cent");
        }
    }
}
