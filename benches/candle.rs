//! A sentence encoder of the shape of all-MiniLM-L6-v2 on one core: the candle runtime beside ONNX Runtime, in this process, in
//! turns. Weights are random, and alike in number and size: what is computed does not depend on them.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tensorgate::runtime::{
    Artifact, CandleRuntime, Instance, LoadedModel, OnnxRuntime, Runtime, find_library, resident_bytes,
};
use tensorgate::tensor::Tensor;
use tokio::time::Instant;

#[allow(dead_code, unused_imports)] // The load generator uses all of it.
#[path = "../loadtest/src/onnx_file/mod.rs"]
mod onnx_file;

/// What the files above need of the load generator's payloads.
mod payload {
    pub(crate) const VOCABULARY: u32 = WORDS as u32;

    pub(crate) fn little_endian(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    pub(crate) const WORDS: usize = 1_000;
}

const LAYERS: usize = 6;
const WIDTH: usize = 384;
const INNER: usize = 1536;
const POSITIONS: usize = 512;

/// How long each engine is run for a figure, in turns.
const TURN: Duration = Duration::from_millis(400);
const TURNS: usize = 4;

fn main() {
    // Cargo runs benches as tests with this.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let folder = TempDir::new().expect("a folder");
    write_checkpoint(folder.path());
    let before = resident_bytes().unwrap_or(0);
    let started = Instant::now();
    let candle = CandleRuntime::new().load(&Artifact::new(folder.path().join("config.json"))).expect("loads");
    let mut own = candle.instance().expect("an instance");
    run(&mut *own, &*candle, "embedding", &batch(&[8]));
    let held = resident_bytes().unwrap_or(0).saturating_sub(before);
    let weights = fs::metadata(folder.path().join("model.safetensors")).map_or(0, |file| file.len());
    println!(
        "from files to the first embedding: {:.0?}; resident {} MB for {} MB of weights",
        started.elapsed(),
        held >> 20,
        weights >> 20
    );
    let peer = peer(folder.path());
    println!("\n{:28} {:>10} {:>14} {:>7}", "rows per second, one core", "candle", "ONNX Runtime", "ratio");
    let turn = if is_test { Duration::ZERO } else { TURN };
    let short: Vec<usize> =
        (0..16).map(|row| [8, 12, 9, 16, 24, 11, 40, 14, 64, 10, 30, 18, 100, 13, 22, 256][row]).collect();
    for (name, output, lengths) in [
        ("1 of 8 tokens", "last_hidden_state", vec![8]),
        ("1 of 32 tokens", "last_hidden_state", vec![32]),
        ("1 of 128 tokens", "last_hidden_state", vec![128]),
        ("1 of 512 tokens", "last_hidden_state", vec![512]),
        ("8 of 32 tokens", "last_hidden_state", vec![32; 8]),
        ("8 of 128 tokens", "last_hidden_state", vec![128; 8]),
        ("16 of 8 to 256, pooled", "embedding", short),
    ] {
        let inputs = batch(&lengths);
        let (mut ours, mut theirs) = (f64::MAX, f64::MAX);
        for _ in 0..if is_test { 1 } else { TURNS } {
            ours = ours.min(best(turn, || run(&mut *own, &*candle, output, &inputs)));
            if let Some((model, instance)) = &peer {
                let mut instance = instance.lock().expect("nobody panicked");
                theirs = theirs.min(best(turn, || run(&mut **instance, &**model, "last_hidden_state", &inputs)));
            }
        }
        let rate = |seconds: f64| lengths.len() as f64 / seconds;
        println!("{name:28} {:>10.1} {:>14.1} {:>7.2}", rate(ours), rate(theirs), theirs / ours);
    }
}

type Peer = (Arc<dyn LoadedModel>, std::sync::Mutex<Box<dyn Instance>>);

/// ONNX Runtime with a model of the same shape, where its library is.
fn peer(folder: &Path) -> Option<Peer> {
    let library = find_library()?;
    let path = folder.join("minilm.onnx");
    fs::write(&path, onnx_file::transformer()).expect("a file");
    let model = OnnxRuntime::open(&library).expect("a library").load(&Artifact::new(path)).expect("loads");
    let instance = model.instance().expect("an instance");
    Some((model, std::sync::Mutex::new(instance)))
}

/// Token ids and masks of rows of these lengths, padded to the longest.
fn batch(lengths: &[usize]) -> Vec<Option<Tensor>> {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let of = |value: fn(usize) -> i64| {
        let row = |&length: &usize| (0..longest).map(move |at| if at < length { value(at) } else { 0 });
        let values: Vec<i64> = lengths.iter().flat_map(row).collect();
        Some(Tensor::from_elements([lengths.len(), longest].into(), &values).expect("as many"))
    };
    vec![of(|at| 1 + (at * at % 900) as i64), of(|_| 1)]
}

fn run(instance: &mut dyn Instance, model: &dyn LoadedModel, output: &str, inputs: &[Option<Tensor>]) {
    let given = model.signature().inputs.len();
    let mut inputs = inputs.to_vec();
    inputs.resize(given, None);
    let (position, _) = model.signature().output(output).expect("an output");
    black_box(instance.execute(&inputs, &[position]).expect("runs"));
}

/// The quickest of the runs within `turn`, in seconds; one at least.
fn best(turn: Duration, mut run: impl FnMut()) -> f64 {
    let started = Instant::now();
    let mut best = f64::MAX;
    loop {
        let one = Instant::now();
        run();
        best = best.min(one.elapsed().as_secs_f64());
        if started.elapsed() >= turn {
            return best;
        }
    }
}

/// A folder as sentence-transformers has it.
fn write_checkpoint(folder: &Path) {
    let write = |name: &str, value: Value| fs::write(folder.join(name), value.to_string()).expect("a file");
    let words = payload::WORDS;
    write(
        "config.json",
        json!({
            "model_type": "bert", "architectures": ["BertModel"], "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
            "num_attention_heads": 12, "intermediate_size": INNER, "hidden_act": "gelu", "vocab_size": words,
            "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        }),
    );
    let module =
        |kind: &str, path: &str| json!({ "type": format!("sentence_transformers.models.{kind}"), "path": path });
    write("modules.json", json!([module("Transformer", ""), module("Pooling", "1_Pooling"), module("Normalize", "2")]));
    fs::create_dir(folder.join("1_Pooling")).expect("a folder");
    write("1_Pooling/config.json", json!({ "word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": true }));
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| {
        shapes.insert(format!("{name}.weight"), shape.to_vec());
        shapes.insert(format!("{name}.bias"), shape[..1].to_vec());
    };
    for layer in 0..LAYERS {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            add(name(part), &[WIDTH, WIDTH]);
        }
        add(name("intermediate.dense"), &[INNER, WIDTH]);
        add(name("output.dense"), &[WIDTH, INNER]);
        for part in ["attention.output.LayerNorm", "output.LayerNorm"] {
            add(name(part), &[WIDTH]);
        }
    }
    add("embeddings.LayerNorm".into(), &[WIDTH]);
    for (table, rows) in [("word", words), ("position", POSITIONS), ("token_type", 2)] {
        shapes.insert(format!("embeddings.{table}_embeddings.weight"), vec![rows, WIDTH]);
    }
    write_safetensors(&folder.join("model.safetensors"), &shapes);
}

fn write_safetensors(path: &Path, shapes: &BTreeMap<String, Vec<usize>>) {
    let mut random = tensorgate_random::Random::new(7);
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in shapes {
        let scale = if shape.len() == 1 { 1.0 } else { (3.0 / shape[1] as f64).sqrt() };
        let values: Vec<f32> =
            (0..shape.iter().product::<usize>()).map(|_| ((random.unit() * 2.0 - 1.0) * scale) as f32).collect();
        let start = data.len();
        data.extend(payload::little_endian(&values));
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] });
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string().into_bytes();
    let file = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
    fs::write(path, file).expect("a file");
}
