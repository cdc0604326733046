//! From what is written to a graph that can be evaluated, or everything that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::Condition;
use super::{Graph, Kind, Node, NodeProgram, Program, ROOT, Service, Step, StepProgram, Target};

/// Nodes within each other: each costs a frame, and nobody has drawn a graph that deep.
const DEPTH_MAX: usize = 16;
/// Calls that one request may lead to: ensembles of ensembles multiply them.
const CALLS_MAX: usize = 256;

impl Graph {
    /// Reads the file that the controller wrote.
    ///
    /// # Errors
    /// If it is no JSON of this form, or [`Graph::check`] finds a fault.
    pub fn parse(text: &str) -> Result<(Program, Self), String> {
        let program: Program = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let graph = Self::check(&program).map_err(|faults| faults.join("; "))?;
        Ok((program, graph))
    }

    /// Checks what is written.
    ///
    /// # Errors
    /// Every fault, with the node and step that it is in and what would be right.
    pub fn check(program: &Program) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let names: BTreeMap<&str, usize> =
            program.nodes.keys().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
        let nodes = program.nodes.iter().map(|(name, node)| read_node(name, node, &names, &mut faults)).collect();
        let root = names.get(ROOT).copied();
        if root.is_none() {
            let there =
                if names.is_empty() { "none".into() } else { names.keys().copied().collect::<Vec<_>>().join(", ") };
            faults.push(format!("there is no node '{ROOT}', where requests start; there are: {there}"));
        }
        for (field, seconds) in [
            ("timeout", program.timeouts.request),
            ("routerTimeouts.serverRead", program.timeouts.read),
            ("routerTimeouts.serverWrite", program.timeouts.write),
            ("routerTimeouts.serverIdle", program.timeouts.idle),
            ("routerTimeouts.serviceClient", program.timeouts.step),
        ] {
            if seconds == Some(0) {
                faults.push(format!("{field} is 0; at least 1 second is possible"));
            }
        }
        let graph = Self { nodes, root: root.unwrap_or(0) };
        if faults.is_empty() {
            graph.check_shape(&mut faults);
        }
        if faults.is_empty() { Ok(graph) } else { Err(faults) }
    }

    /// That it ends, and within bounds.
    fn check_shape(&self, faults: &mut Vec<String>) {
        // The calls and the depth of nodes that are known to end.
        let mut known: Vec<Option<(usize, usize)>> = vec![None; self.nodes.len()];
        for index in 0..self.nodes.len() {
            if let Err(cycle) = self.measure(index, &mut known, &mut Vec::new()) {
                let path: Vec<&str> = cycle.iter().map(|index| self.nodes[*index].name.as_str()).collect();
                faults.push(format!(
                    "a request would never end: {}; a node must not lead back to itself",
                    path.join(" -> ")
                ));
                return;
            }
        }
        let (calls, depth) = known[self.root].unwrap_or_default();
        if depth > DEPTH_MAX {
            faults.push(format!("nodes are nested {depth} deep; at most {DEPTH_MAX} are possible"));
        }
        if calls > CALLS_MAX {
            faults.push(format!("one request may lead to {calls} calls; at most {CALLS_MAX} are possible"));
        }
    }

    /// The most calls that a request to a node leads to, and how deep it goes.
    ///
    /// # Errors
    /// With the way back to a node that leads to itself.
    fn measure(
        &self,
        index: usize,
        known: &mut Vec<Option<(usize, usize)>>,
        way: &mut Vec<usize>,
    ) -> Result<(usize, usize), Vec<usize>> {
        if let Some(known) = known[index] {
            return Ok(known);
        }
        if let Some(from) = way.iter().position(|other| *other == index) {
            return Err(way[from..].iter().copied().chain([index]).collect());
        }
        way.push(index);
        let node = &self.nodes[index];
        let (mut calls, mut depth) = (0_usize, 0);
        for step in &node.steps {
            let (own, deep) = match step.target {
                Target::Service(_) => (1, 0),
                Target::Node(inner) => self.measure(inner, known, way)?,
            };
            calls = match node.kind {
                Kind::Sequence | Kind::Ensemble => calls.saturating_add(own),
                Kind::Splitter | Kind::Switch => calls.max(own),
            };
            depth = depth.max(deep);
        }
        way.pop();
        known[index] = Some((calls, depth + 1));
        Ok((calls, depth + 1))
    }
}

fn read_node(name: &str, node: &NodeProgram, names: &BTreeMap<&str, usize>, faults: &mut Vec<String>) -> Node {
    let kind = match node.router_type.as_str() {
        "Sequence" => Kind::Sequence,
        "Splitter" => Kind::Splitter,
        "Ensemble" => Kind::Ensemble,
        "Switch" => Kind::Switch,
        other => {
            faults.push(format!(
                "node '{name}': there is no routerType '{other}'; there are Sequence, Splitter, Ensemble and Switch"
            ));
            Kind::Sequence
        }
    };
    if node.steps.is_empty() {
        faults.push(format!("node '{name}' has no steps; give it at least one"));
    }
    let mut keys = BTreeSet::new();
    let mut steps = Vec::new();
    for (index, written) in node.steps.iter().enumerate() {
        let given = written.name.as_deref().filter(|own| !own.is_empty());
        let key = given.map_or_else(|| index.to_string(), str::to_owned);
        let shown =
            format!("node '{name}', step {}", given.map_or_else(|| index.to_string(), |own| format!("'{own}'")));
        if !keys.insert(key.clone()) {
            faults.push(format!("{shown}: the name is taken; each step of a node needs one of its own"));
        }
        steps.push(read_step(&shown, index, key, kind, written, names, faults));
    }
    if kind == Kind::Splitter {
        let sum: i64 = node.steps.iter().filter_map(|step| step.weight).fold(0, i64::saturating_add);
        if node.steps.iter().all(|step| step.weight.is_some()) && sum != 100 {
            faults.push(format!("node '{name}': the weights of its steps add up to {sum}; they must to 100"));
        }
    }
    for step in &mut steps {
        step.label = format!("{name}/{}", step.key);
    }
    Node { name: name.to_owned(), kind, steps }
}

fn read_step(
    shown: &str,
    index: usize,
    key: String,
    kind: Kind,
    written: &StepProgram,
    names: &BTreeMap<&str, usize>,
    faults: &mut Vec<String>,
) -> Step {
    let mut fault = |text: String| faults.push(format!("{shown}: {text}"));
    let target = read_target(written, names, &mut fault);
    let of_response = match written.data.as_deref() {
        None | Some("" | "$request") => false,
        Some("$response") => true,
        Some(other) => {
            fault(format!("data '{other}' is not served; $request and $response are"));
            false
        }
    };
    let weight = read_weight(kind, written, &mut fault);
    let text = written.condition.as_deref().filter(|text| !text.is_empty());
    // Splitters and ensembles have no use for one, and KServe leaves it aside there.
    let used = matches!(kind, Kind::Switch | Kind::Sequence);
    let condition = text.filter(|_| used).and_then(|text| {
        Condition::parse(text).map_err(|error| fault(format!("the condition \"{text}\" cannot be used: {error}"))).ok()
    });
    match kind {
        Kind::Switch if text.is_none() => {
            fault("its condition is missing; a Switch takes the first step whose condition holds".into())
        }
        Kind::Sequence if index == 0 && text.is_some() => {
            fault("its condition looks at the answer of the step before, and there is none".into());
        }
        _ => {}
    }
    let hard = match written.dependency.as_deref() {
        None | Some("" | "Soft") => false,
        Some("Hard") => true,
        Some(other) => {
            fault(format!("there is no dependency '{other}'; there are Soft and Hard"));
            false
        }
    };
    Step {
        label: String::new(),
        key,
        target: target.unwrap_or(Target::Node(0)),
        of_response,
        map_predictions: written.map_predictions_to_instances,
        weight,
        condition,
        hard,
    }
}

fn read_target(written: &StepProgram, names: &BTreeMap<&str, usize>, fault: &mut impl FnMut(String)) -> Option<Target> {
    match (&written.node, &written.url) {
        (Some(node), None) => {
            let found = names.get(node.as_str()).map(|index| Target::Node(*index));
            if found.is_none() {
                fault(format!("there is no node '{node}'"));
            }
            found
        }
        (None, Some(url)) => {
            for url in [Some(url), written.grpc.as_ref()].into_iter().flatten() {
                if let Err(error) = check_url(url) {
                    fault(error);
                }
            }
            Some(Target::Service(Service { url: url.clone(), grpc: written.grpc.clone() }))
        }
        _ => {
            fault("it goes to one of serviceName, serviceUrl and nodeName".into());
            None
        }
    }
}

fn read_weight(kind: Kind, written: &StepProgram, fault: &mut impl FnMut(String)) -> u64 {
    match (kind, written.weight) {
        (Kind::Splitter, None) => {
            fault("its weight is missing; the weights of a Splitter add up to 100".into());
            0
        }
        (Kind::Splitter, Some(weight)) => u64::try_from(weight).unwrap_or_else(|_| {
            fault(format!("its weight is {weight}; 0 to 100 are possible"));
            0
        }),
        _ => 0,
    }
}

/// The host with its port, and the model, of `grpc://HOST:PORT/MODEL`; none of other URLs.
pub fn grpc_place(url: &str) -> Option<(&str, &str)> {
    let (host, model) = url.strip_prefix("grpc://")?.split_once('/')?;
    let has_port = host.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok());
    (has_port && !model.is_empty() && !model.contains(['/', '?', '#'])).then_some((host, model))
}

/// http, https or grpc, a host, and nothing that only a browser would know.
fn check_url(url: &str) -> Result<(), String> {
    let wrong = || format!("'{url}' is no URL; http://HOST[:PORT]/PATH, https:// or grpc://HOST:PORT/MODEL is wanted");
    if url.starts_with("grpc://") && grpc_place(url).is_none() {
        return Err(wrong());
    }
    let rest =
        ["http://", "https://", "grpc://"].iter().find_map(|scheme| url.strip_prefix(scheme)).ok_or_else(wrong)?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    let plain =
        |own: char| own.is_ascii_graphic() && !matches!(own, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}');
    if host.is_empty() || host.starts_with(':') || host.contains('@') || !rest.chars().all(plain) {
        return Err(wrong());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn faults(nodes: Value) -> String {
        let program: Program = serde_json::from_value(json!({"nodes": nodes})).unwrap();
        Graph::check(&program).map(|_| ()).unwrap_err().join("\n")
    }

    fn sequence(steps: Value) -> Value {
        json!({"routerType": "Sequence", "steps": steps})
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        let told = faults(json!({
            "start": {"routerType": "Chain", "steps": []},
            "split": {"routerType": "Splitter", "steps": [{"url": "http://a", "weight": 20}, {"url": "http://b", "weight": 70}]},
            "open": {"routerType": "Splitter", "steps": [{"url": "http://a"}]},
            "switch": {"routerType": "Switch", "steps": [{"name": "x", "url": "http://a"}, {"url": "http://a", "condition": "a.@reverse"}]},
            "chain": sequence(json!([
                {"name": "x", "url": "ftp://a", "condition": "a"}, {"name": "x", "node": "nowhere"}, {},
                {"url": "http://a", "data": "$response.predictions"}, {"url": "http://a", "dependency": "Firm"},
            ])),
        }));
        for wanted in [
            "no node 'root', where requests start; there are: chain, open, split, start, switch",
            "node 'start': there is no routerType 'Chain'",
            "node 'start' has no steps",
            "node 'split': the weights of its steps add up to 90; they must to 100",
            "node 'open', step 0: its weight is missing",
            "node 'switch', step 'x': its condition is missing",
            "node 'switch', step 1: the condition \"a.@reverse\" cannot be used",
            "node 'chain', step 'x': 'ftp://a' is no URL",
            "node 'chain', step 'x': its condition looks at the answer of the step before",
            "node 'chain', step 'x': the name is taken",
            "node 'chain', step 'x': there is no node 'nowhere'",
            "node 'chain', step 2: it goes to one of serviceName, serviceUrl and nodeName",
            "node 'chain', step 3: data '$response.predictions' is not served",
            "node 'chain', step 4: there is no dependency 'Firm'",
        ] {
            assert!(told.contains(wanted), "{wanted}\nis not in\n{told}");
        }
    }

    #[test]
    fn a_service_over_grpc_has_a_port_and_a_model() {
        assert_eq!(grpc_place("grpc://iris.ns.svc:9000/iris"), Some(("iris.ns.svc:9000", "iris")));
        assert_eq!(grpc_place("grpc://[::1]:9000/iris"), Some(("[::1]:9000", "iris")));
        for url in
            ["grpc://iris/iris", "grpc://iris:9000", "grpc://iris:9000/", "grpc://:9000/iris", "grpc://iris:9000/a/b"]
        {
            let told = faults(json!({"root": sequence(json!([{"url": url}, {"url": "http://a", "grpc": url}]))}));
            assert_eq!(told.matches("grpc://HOST:PORT/MODEL is wanted").count(), 2, "{told}");
        }
    }

    #[test]
    fn a_graph_that_would_never_end_is_refused_with_the_way_round() {
        let told = faults(json!({
            "root": sequence(json!([{"node": "a"}])), "a": sequence(json!([{"node": "b"}])), "b": sequence(json!([{"node": "a"}])),
        }));
        assert!(told.contains("a -> b -> a"), "{told}");
    }

    #[test]
    fn a_node_may_be_used_twice_but_calls_and_depth_are_bounded() {
        let step = |name: String| json!({"node": name});
        let mut nodes = serde_json::Map::new();
        for level in 0..9 {
            let name = if level == 0 { "root".into() } else { format!("n{level}") };
            let inner = step(format!("n{}", level + 1));
            nodes.insert(name, sequence(json!([inner, inner])));
        }
        nodes.insert("n9".into(), sequence(json!([{"url": "http://a"}])));
        assert!(faults(Value::Object(nodes.clone())).contains("lead to 512 calls"));
        nodes["n8"] = sequence(json!([step("n9".into())]));
        assert!(Graph::check(&serde_json::from_value(json!({"nodes": nodes})).unwrap()).is_ok());

        let mut deep = serde_json::Map::new();
        for level in 0..20 {
            let name = if level == 0 { "root".into() } else { format!("n{level:02}") };
            deep.insert(name, sequence(json!([step(format!("n{:02}", level + 1))])));
        }
        deep.insert("n20".into(), sequence(json!([{"url": "http://a"}])));
        assert!(faults(Value::Object(deep)).contains("nested 21 deep"));
    }

    #[test]
    fn what_is_written_is_read_again_alike() {
        let text = json!({
            "nodes": {"root": sequence(json!([{"name": "a", "url": "https://host:8443/v1/models/m:predict", "dependency": "Hard"}]))},
            "timeouts": {"request": 30}, "propagate": ["x-.*"],
        });
        let (program, graph) = Graph::parse(&text.to_string()).unwrap();
        assert_eq!(serde_json::to_value(&program).unwrap(), text);
        assert_eq!(graph.services().count(), 1);
        assert!(Graph::parse(r#"{"nodes": {}, "more": 1}"#).unwrap_err().contains("more"));
    }
}
