//! A sentence encoder of the shape of all-MiniLM-L6-v2 with random weights and a small vocabulary: input_ids and
//! attention_mask INT64 [batch, sequence], output last_hidden_state FP32 [batch, sequence, 384]. Operators are those of
//! an exported BERT, so that the runtime fuses what it fuses there.

use super::messages::Graph;
use super::{FLOAT, INT64, file, floats, int, integers, ints, node, value, weights};
use crate::payload::VOCABULARY;
use tensorgate_random::Random;

const LAYERS: usize = 6;
const HIDDEN: i64 = 384;
const HEADS: i64 = 12;
const INNER: i64 = 1536;
/// Positions that have an embedding.
const POSITIONS: i64 = 512;
/// What a masked place adds to its score: nothing is left of it behind the softmax.
const MASKED: f32 = -10_000.0;

/// The file's bytes.
pub(crate) fn transformer() -> Vec<u8> {
    let mut network =
        Network { graph: Graph { name: "minilm".to_owned(), ..Graph::default() }, random: Random::new(44) };
    network.constants();
    let mut last = network.embed();
    network.mask();
    for layer in 0..LAYERS {
        let attended = network.attend(layer, &last);
        let normed = network.join(layer, "attention", &last, &attended);
        let fed = network.feed(layer, &normed);
        last = network.join(layer, "feed", &normed, &fed);
    }
    let mut graph = network.graph;
    graph.node.push(node("Identity", &[&last], "last_hidden_state", vec![]));
    graph.input.push(value("input_ids", INT64, &[None, None]));
    graph.input.push(value("attention_mask", INT64, &[None, None]));
    graph.output.push(value("last_hidden_state", FLOAT, &[None, None, Some(HIDDEN)]));
    file(graph)
}

struct Network {
    graph: Graph,
    random: Random,
}

impl Network {
    /// Adds an operator; its output is called `output`.
    fn op(&mut self, operator: &str, inputs: &[&str], output: &str) -> String {
        self.graph.node.push(node(operator, inputs, output, vec![]));
        output.to_owned()
    }

    fn permute(&mut self, input: &str, order: &[i64], output: &str) -> String {
        self.graph.node.push(node("Transpose", &[input], output, vec![ints("perm", order)]));
        output.to_owned()
    }

    fn constants(&mut self) {
        let scalar = |name: &str, value: f32| floats(name, &[], &[value]);
        let per_head = 1.0 / ((HIDDEN / HEADS) as f32).sqrt();
        self.graph.initializer.extend([
            // 0 keeps a dimension.
            integers("split", &[0, 0, HEADS, HIDDEN / HEADS]),
            integers("merge", &[0, 0, HIDDEN]),
            integers("first", &[0]),
            integers("mask_axes", &[1, 2]),
            scalar("per_head", per_head),
            scalar("one", 1.0),
            scalar("half", 0.5),
            scalar("root", std::f32::consts::SQRT_2),
            scalar("masked", MASKED),
        ]);
    }

    /// Words and positions.
    fn embed(&mut self) -> String {
        let words = weights("words", &[i64::from(VOCABULARY), HIDDEN], 1.0, &mut self.random);
        let positions = weights("positions", &[POSITIONS, HIDDEN], 1.0, &mut self.random);
        self.graph.initializer.extend([words, positions]);
        self.op("Gather", &["words", "input_ids"], "word");
        let length = vec![int("start", 1), int("end", 2)];
        self.graph.node.push(node("Shape", &["input_ids"], "length", length));
        self.op("Slice", &["positions", "first", "length", "first"], "position");
        self.op("Add", &["word", "position"], "placed");
        self.norm("placed", "embedded")
    }

    /// From 1 and 0 to what is added to the scores: 0 and the value of masked places.
    fn mask(&mut self) {
        let to_float = vec![int("to", i64::from(FLOAT))];
        self.graph.node.push(node("Cast", &["attention_mask"], "seen", to_float));
        self.op("Unsqueeze", &["seen", "mask_axes"], "seen_by_all");
        self.op("Sub", &["one", "seen_by_all"], "hidden_places");
        self.op("Mul", &["hidden_places", "masked"], "mask_bias");
    }

    fn linear(&mut self, input: &str, name: &str, from: i64, to: i64) -> String {
        let (weight, bias, product) = (format!("{name}_weight"), format!("{name}_bias"), format!("{name}_product"));
        // Glorot's initialisation keeps the values' size: uniform in +-sqrt(6 / (fan-in + fan-out)).
        let scale = (6.0 / (from + to) as f32).sqrt();
        self.graph.initializer.push(weights(&weight, &[from, to], scale, &mut self.random));
        self.graph.initializer.push(weights(&bias, &[to], 0.02, &mut self.random));
        self.op("MatMul", &[input, &weight], &product);
        self.op("Add", &[&product, &bias], name)
    }

    fn attend(&mut self, layer: usize, input: &str) -> String {
        let name = |part: &str| format!("layer{layer}_{part}");
        let heads = |network: &mut Self, part: &str, order: &[i64]| {
            let whole = network.linear(input, &name(part), HIDDEN, HIDDEN);
            let split = network.op("Reshape", &[&whole, "split"], &name(&format!("{part}_split")));
            network.permute(&split, order, &name(&format!("{part}_heads")))
        };
        let query = heads(self, "query", &[0, 2, 1, 3]);
        let key = heads(self, "key", &[0, 2, 3, 1]);
        let values = heads(self, "value", &[0, 2, 1, 3]);
        let scores = self.op("MatMul", &[&query, &key], &name("scores"));
        let scaled = self.op("Mul", &[&scores, "per_head"], &name("scaled"));
        let masked = self.op("Add", &[&scaled, "mask_bias"], &name("masked"));
        let shares = self.op("Softmax", &[&masked], &name("shares"));
        let mixed = self.op("MatMul", &[&shares, &values], &name("mixed"));
        let ordered = self.permute(&mixed, &[0, 2, 1, 3], &name("ordered"));
        let merged = self.op("Reshape", &[&ordered, "merge"], &name("merged"));
        self.linear(&merged, &name("attended"), HIDDEN, HIDDEN)
    }

    /// The feed-forward part, with the exact GELU.
    fn feed(&mut self, layer: usize, input: &str) -> String {
        let name = |part: &str| format!("layer{layer}_{part}");
        let inner = self.linear(input, &name("inner"), HIDDEN, INNER);
        let scaled = self.op("Div", &[&inner, "root"], &name("gelu_scaled"));
        let erf = self.op("Erf", &[&scaled], &name("gelu_erf"));
        let raised = self.op("Add", &[&erf, "one"], &name("gelu_raised"));
        let product = self.op("Mul", &[&inner, &raised], &name("gelu_product"));
        let active = self.op("Mul", &[&product, "half"], &name("gelu"));
        self.linear(&active, &name("outer"), INNER, HIDDEN)
    }

    /// What a part adds to what it was given, normed.
    fn join(&mut self, layer: usize, part: &str, given: &str, added: &str) -> String {
        let sum = self.op("Add", &[given, added], &format!("layer{layer}_{part}_sum"));
        self.norm(&sum, &format!("layer{layer}_{part}_normed"))
    }

    fn norm(&mut self, input: &str, output: &str) -> String {
        let (scale, shift) = (format!("{output}_scale"), format!("{output}_shift"));
        self.graph.initializer.push(floats(&scale, &[HIDDEN], &[1.0; HIDDEN as usize]));
        self.graph.initializer.push(floats(&shift, &[HIDDEN], &[0.0; HIDDEN as usize]));
        self.op("LayerNormalization", &[input, &scale, &shift], output)
    }
}
