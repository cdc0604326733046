//! Writes models of the bench as ONNX files: real matrix work, and the same bytes everywhere.

mod messages;
mod transformer;

use prost::Message;

use self::messages::{
    Attribute, Dimension, DimensionChoice, Graph, Model, Node, Opset, Shape, Tensor, TensorType, Type, ValueInfo,
};
use crate::payload::little_endian;
use tensorgate_random::Random;

pub(crate) use self::transformer::transformer;

/// Numbers in a row of the compute-bound model.
const ROW: i64 = 512;
/// Width of its square products.
const WIDTH: i64 = 256;
/// Square products in its chain.
const LAYERS: usize = 12;

/// Numbers in a row of the wide model.
const WIDE_ROW: i64 = 256;
/// Width of its square products.
const WIDE: i64 = 2048;
/// Square products in its chain.
const WIDE_LAYERS: usize = 4;
/// Numbers of its answer.
const WIDE_OUT: i64 = 64;

const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// Attribute kinds of onnx.proto.
const KIND_INT: i32 = 2;
const KIND_INTS: i32 = 7;

/// A model of which batching gains nothing: input `x` FP32 [batch, 512], output `y` FP32 [batch, 256].
///
/// Each row of 512 numbers becomes a 512 x 256 matrix that passes through square matrix products; weights fit the
/// cache and a row brings enough rows of its own, so that any loss against the in-process ceiling is the server's.
pub(crate) fn compute_bound() -> Vec<u8> {
    compute(1)
}

/// The same signature for so many times the work, with the same weights over and over.
pub(crate) const SLOWER: usize = 50;

/// See [`SLOWER`].
pub(crate) fn slow() -> Vec<u8> {
    compute(SLOWER)
}

fn compute(times: usize) -> Vec<u8> {
    let mut random = Random::new(42);
    let mut graph = Graph { name: "compute".to_owned(), ..Graph::default() };
    // 0 keeps the batch dimension.
    graph.initializer.push(integers("columns", &[0, ROW, 1]));
    graph.initializer.push(weights("widen", &[1, WIDTH], 1.0, &mut random));
    graph.node.push(node("Reshape", &["x", "columns"], "column", vec![]));
    graph.node.push(node("MatMul", &["column", "widen"], "wide", vec![]));
    let last = chain(&mut graph, "wide", WIDTH, (LAYERS, times), &mut random);
    let axes = ints("axes", &[1]);
    let keep = int("keepdims", 0);
    graph.node.push(node("ReduceMean", &[&last], "y", vec![axes, keep]));
    graph.input.push(value("x", FLOAT, &[None, Some(ROW)]));
    graph.output.push(value("y", FLOAT, &[None, Some(WIDTH)]));
    file(graph)
}

/// A model of which batching gains much: input `x` FP32 [batch, 256], output `y` FP32 [batch, 64].
///
/// A row alone waits for 64 MB of weights to come from memory; the rows of a batch share the way.
pub(crate) fn wide() -> Vec<u8> {
    let mut random = Random::new(43);
    let mut graph = Graph { name: "wide".to_owned(), ..Graph::default() };
    graph.initializer.push(weights("widen", &[WIDE_ROW, WIDE], (6.0 / WIDE_ROW as f32).sqrt(), &mut random));
    graph.node.push(node("MatMul", &["x", "widen"], "wide", vec![]));
    let last = chain(&mut graph, "wide", WIDE, (WIDE_LAYERS, 1), &mut random);
    graph.initializer.push(weights("narrow", &[WIDE, WIDE_OUT], (6.0 / WIDE as f32).sqrt(), &mut random));
    graph.node.push(node("MatMul", &[&last, "narrow"], "y", vec![]));
    graph.input.push(value("x", FLOAT, &[None, Some(WIDE_ROW)]));
    graph.output.push(value("y", FLOAT, &[None, Some(WIDE_OUT)]));
    file(graph)
}

/// Square products, each with a ReLU behind it; gives the name of the last value. All `layers` come so many times.
fn chain(graph: &mut Graph, from: &str, width: i64, (layers, times): (usize, usize), random: &mut Random) -> String {
    for layer in 0..layers {
        // He's initialisation keeps the values' size through the chain: uniform in +-sqrt(6 / fan-in).
        let weight = format!("w{layer}");
        graph.initializer.push(weights(&weight, &[width, width], (6.0 / width as f32).sqrt(), random));
    }
    let mut last = from.to_owned();
    for layer in 0..layers * times {
        let (weight, product, out) = (format!("w{}", layer % layers), format!("p{layer}"), format!("r{layer}"));
        graph.node.push(node("MatMul", &[&last, &weight], &product, vec![]));
        graph.node.push(node("Relu", &[&product], &out, vec![]));
        last = out;
    }
    last
}

fn file(graph: Graph) -> Vec<u8> {
    // 17 is the first set with LayerNormalization.
    let opset = Opset { domain: String::new(), version: 17 };
    Model { ir_version: 8, producer: "loadtest".to_owned(), graph: Some(graph), opset: vec![opset] }.encode_to_vec()
}

/// Random numbers, uniform within `scale` of zero.
fn weights(name: &str, dims: &[i64], scale: f32, random: &mut Random) -> Tensor {
    let count = dims.iter().product::<i64>();
    let value = |random: &mut Random| (random.below(20_001) as f32 / 10_000.0 - 1.0) * scale;
    floats(name, dims, &(0..count).map(|_| value(random)).collect::<Vec<f32>>())
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> Tensor {
    Tensor { name: name.to_owned(), dims: dims.to_vec(), data_type: FLOAT, raw_data: little_endian(values) }
}

fn integers(name: &str, values: &[i64]) -> Tensor {
    let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor { name: name.to_owned(), dims: vec![values.len() as i64], data_type: INT64, raw_data }
}

fn int(name: &str, value: i64) -> Attribute {
    Attribute { name: name.to_owned(), i: value, kind: KIND_INT, ..Attribute::default() }
}

fn ints(name: &str, values: &[i64]) -> Attribute {
    Attribute { name: name.to_owned(), ints: values.to_vec(), kind: KIND_INTS, ..Attribute::default() }
}

fn node(operator: &str, inputs: &[&str], output: &str, attribute: Vec<Attribute>) -> Node {
    let input = inputs.iter().map(|name| (*name).to_owned()).collect();
    Node { input, output: vec![output.to_owned()], operator: operator.to_owned(), attribute }
}

/// An input or output; a dimension without a length may vary, the first one being the batch.
fn value(name: &str, elem_type: i32, dims: &[Option<i64>]) -> ValueInfo {
    let dim = |(place, length): (usize, &Option<i64>)| {
        let named = || DimensionChoice::Param(if place == 0 { "batch" } else { "sequence" }.to_owned());
        Dimension { choice: Some(length.map_or_else(named, DimensionChoice::Value)) }
    };
    let shape = Shape { dim: dims.iter().enumerate().map(dim).collect() };
    let tensor = TensorType { elem_type, shape: Some(shape) };
    ValueInfo { name: name.to_owned(), kind: Some(Type { tensor: Some(tensor) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same bytes on every call, and every value defined before it is used.
    fn assert_sound(file: fn() -> Vec<u8>) {
        let bytes = file();
        assert!(bytes == file(), "two files differ");
        let graph = Model::decode(&bytes[..]).unwrap().graph.unwrap();
        let mut known: Vec<String> = graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
        known.extend(graph.input.iter().map(|input| input.name.clone()));
        for node in graph.node {
            assert!(node.input.iter().all(|name| known.contains(name)), "{}: {:?}", node.operator, node.input);
            assert!(!known.contains(&node.output[0]), "{} is made twice", node.output[0]);
            known.extend(node.output);
        }
        assert!(graph.output.iter().all(|output| known.contains(&output.name)));
    }

    #[test]
    fn each_file_is_the_same_every_time_and_every_name_is_defined_before_use() {
        for file in [compute_bound, wide, transformer] {
            assert_sound(file);
        }
    }

    #[test]
    fn the_transformer_has_the_size_of_minilm_without_its_words() {
        let graph = Model::decode(&transformer()[..]).unwrap().graph.unwrap();
        let weights: usize = graph.initializer.iter().map(|tensor| tensor.raw_data.len() / 4).sum();
        // Six layers of 4 x 384 x 384 + 2 x 384 x 1536 weights, and their biases and norms.
        let layers = 6 * (4 * 384 * 384 + 2 * 384 * 1536 + 4 * 384 + 384 + 1536 + 4 * 384);
        assert!((layers..layers + 700_000).contains(&weights), "{weights}");
    }
}
