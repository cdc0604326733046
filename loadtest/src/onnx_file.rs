//! Writes the compute-bound model of the bench as an ONNX file: real matrix work, and the same bytes everywhere.
//!
//! Each row of 512 numbers becomes a 512 x 256 matrix that passes through square matrix products; weights fit the
//! cache and a row brings enough rows of its own, so that batching rows together gains nothing and any loss against
//! the in-process ceiling is the server's.

use prost::Message;

use crate::payload::little_endian;
use crate::random::Random;

/// Numbers in a row.
const ROW: i64 = 512;
/// Width of the square products.
const WIDTH: i64 = 256;
/// Square products in the chain.
const LAYERS: usize = 12;

const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// Attribute kinds of onnx.proto.
const KIND_INT: i32 = 2;
const KIND_INTS: i32 = 7;

/// The file's bytes: input `x` FP32 [batch, 512], output `y` FP32 [batch, 256].
pub(crate) fn compute_bound() -> Vec<u8> {
    let mut random = Random::new(42);
    let mut graph = Graph { name: "compute".to_owned(), ..Graph::default() };
    graph.initializer.push(Tensor {
        name: "columns".to_owned(),
        dims: vec![3],
        data_type: INT64,
        // 0 keeps the batch dimension.
        raw_data: [0, ROW, 1].iter().flat_map(|dim: &i64| dim.to_le_bytes()).collect(),
    });
    graph.initializer.push(weights("widen", &[1, WIDTH], 1.0, &mut random));
    graph.node.push(node("Reshape", &["x", "columns"], "column", vec![]));
    graph.node.push(node("MatMul", &["column", "widen"], "wide", vec![]));
    let mut last = "wide".to_owned();
    for layer in 0..LAYERS {
        let (weight, product, out) = (format!("w{layer}"), format!("p{layer}"), format!("r{layer}"));
        // He's initialisation keeps the values' size through the chain: uniform in +-sqrt(6 / fan-in).
        graph.initializer.push(weights(&weight, &[WIDTH, WIDTH], (6.0 / WIDTH as f32).sqrt(), &mut random));
        graph.node.push(node("MatMul", &[&last, &weight], &product, vec![]));
        graph.node.push(node("Relu", &[&product], &out, vec![]));
        last = out;
    }
    let axes = Attribute { name: "axes".to_owned(), ints: vec![1], kind: KIND_INTS, i: 0 };
    let keep = Attribute { name: "keepdims".to_owned(), ints: vec![], kind: KIND_INT, i: 0 };
    graph.node.push(node("ReduceMean", &[&last], "y", vec![axes, keep]));
    graph.input.push(value("x", ROW));
    graph.output.push(value("y", WIDTH));
    let opset = Opset { domain: String::new(), version: 17 };
    Model { ir_version: 8, producer: "loadtest".to_owned(), graph: Some(graph), opset: vec![opset] }.encode_to_vec()
}

fn weights(name: &str, dims: &[i64], scale: f32, random: &mut Random) -> Tensor {
    let count = dims.iter().product::<i64>();
    let value = |random: &mut Random| (random.below(20_001) as f32 / 10_000.0 - 1.0) * scale;
    let values: Vec<f32> = (0..count).map(|_| value(random)).collect();
    Tensor { name: name.to_owned(), dims: dims.to_vec(), data_type: FLOAT, raw_data: little_endian(&values) }
}

fn node(operator: &str, inputs: &[&str], output: &str, attribute: Vec<Attribute>) -> Node {
    let input = inputs.iter().map(|name| (*name).to_owned()).collect();
    Node { input, output: vec![output.to_owned()], operator: operator.to_owned(), attribute }
}

fn value(name: &str, width: i64) -> ValueInfo {
    let batch = Dimension { choice: Some(DimensionChoice::Param("batch".to_owned())) };
    let columns = Dimension { choice: Some(DimensionChoice::Value(width)) };
    let shape = Shape { dim: vec![batch, columns] };
    let tensor = TensorType { elem_type: FLOAT, shape: Some(shape) };
    ValueInfo { name: name.to_owned(), kind: Some(Type { tensor: Some(tensor) }) }
}

// The messages of onnx.proto, with the fields that we fill.

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset: Vec<Opset>,
}

#[derive(Clone, PartialEq, Message)]
struct Opset {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    operator: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "3")]
    i: i64,
    #[prost(int64, repeated, tag = "8")]
    ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(oneof = "DimensionChoice", tags = "1, 2")]
    choice: Option<DimensionChoice>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum DimensionChoice {
    #[prost(int64, tag = "1")]
    Value(i64),
    #[prost(string, tag = "2")]
    Param(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_the_same_every_time_and_every_name_is_defined_before_use() {
        let bytes = compute_bound();
        assert_eq!(bytes, compute_bound());
        let graph = Model::decode(&bytes[..]).unwrap().graph.unwrap();
        let mut known: Vec<String> = graph.initializer.iter().map(|tensor| tensor.name.clone()).collect();
        known.push("x".to_owned());
        for node in graph.node {
            assert!(node.input.iter().all(|name| known.contains(name)), "{}", node.operator);
            known.extend(node.output);
        }
        assert!(known.contains(&"y".to_owned()));
    }
}
