use std::num::NonZeroUsize;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::traffic::{CanarySettings, CompareBy, CompareSettings, ShadowSettings, Sticky};

fn parsed(text: &str) -> Parsed {
    ModelSettings::from_toml(text).unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

/// The faults as they are shown.
fn faults(text: &str) -> Vec<String> {
    ModelSettings::from_toml(text).expect_err(text).iter().map(Fault::to_string).collect()
}

fn versions(numbers: &[u64]) -> Vec<Version> {
    numbers.iter().map(|&number| Version::new(number).unwrap()).collect()
}

#[test]
fn an_empty_file_pins_nothing() {
    for empty in ["", "# nothing\n", "\u{feff}\n"] {
        assert_eq!(parsed(empty), Parsed { settings: ModelSettings::default(), warnings: Vec::new() });
    }
    assert!(ModelSettings::default().warm_up);
}

/// A `model.toml` with every key.
const FULL: &str = r#"
        digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        runtime = "identity"
        device = "cuda:1"
        slo = "50ms"
        instances = 2
        threads = 4
        max_batch_size = 16
        max_queue_delay = "200us"
        queue_max = 100
        queue_bytes_max = "64KiB"
        queue_timeout = "1.5s"
        priority_levels = 5
        default_priority_level = 3
        weight = 0.5
        versions = [3, 1, 3]
        file = "weights/net.onnx"
        execute_time = "3ms"
        warm_up = false
        pin = true

        [response_cache]
        bytes_max = "2MiB"

        [[inputs]]
        name = "image"
        datatype = "FP32"
        shape = ["batch", 3, -1, 224]
        optional = true

        [[outputs]]
        name = "scores"
        datatype = "BYTES"
        labels = "labels.txt"

        [traffic]
        sticky = { header = "X-User" }

        [traffic.shadow]
        version = 3
        share = 0.5

        [traffic.canary]
        version = "2"
        stable = 1
        steps = [0.5, 20, 100]
        step_requests = 7
        step_time = "2m"
        interval = "500ms"
        errors = 0.02
        late = 0.03
        latency = 2
        disagreement = 0.1
        share = 1

        [traffic.compare]
        by = "argmax"
        absolute = 0.5
        relative = 0
    "#;

fn traffic() -> TrafficSettings {
    let [one, two, three] = [1, 2, 3].map(|number| Version::new(number).unwrap());
    TrafficSettings {
        weights: Vec::new(),
        sticky: Some(Sticky::Header("x-user".into())),
        shadow: Some(ShadowSettings { version: three, share: 0.5 }),
        canary: Some(CanarySettings {
            version: two,
            stable: Some(one),
            steps: vec![0.5, 20.0],
            step_requests: 7,
            step_time: Duration::from_secs(120),
            interval: Duration::from_millis(500),
            errors: 0.02,
            late: 0.03,
            latency: 2.0,
            disagreement: Some(0.1),
            share: 1.0,
        }),
        compare: CompareSettings { by: CompareBy::Argmax, absolute: 0.5, relative: 0.0 },
    }
}

#[test]
fn every_key_of_model_toml_is_read() {
    let dims = vec![Dim::Dynamic(Some("batch".into())), Dim::Fixed(3), Dim::ANY, Dim::Fixed(224)];
    let expected = ModelSettings {
        runtime: RuntimeChoice::Identity,
        device: DeviceChoice::Cuda(Some(1)),
        version_policy: VersionPolicy::Specific(versions(&[1, 3])),
        max_batch_rows: Some(16),
        max_queue_delay: Some(Duration::from_micros(200)),
        queue_max: Some(100),
        queue_bytes_max: Some(64 << 10),
        queue_timeout: Some(Duration::from_millis(1500)),
        late_is_delayed: false,
        priority_levels: NonZeroU16::new(5),
        default_priority_level: NonZeroU16::new(3),
        priority_timeouts: Vec::new(),
        weight: NonZeroU32::new(500),
        instances: NonZeroUsize::new(2),
        threads: NonZeroUsize::new(4),
        slo: Some(Duration::from_millis(50)),
        model_file: Some("weights/net.onnx".into()),
        inputs: vec![TensorDeclaration {
            name: "image".into(),
            datatype: Some(DataType::Fp32),
            shape: Some(dims.clone()),
            optional: true,
            ..TensorDeclaration::default()
        }],
        outputs: vec![TensorDeclaration {
            name: "scores".into(),
            datatype: Some(DataType::Bytes),
            labels: Some("labels.txt".into()),
            ..TensorDeclaration::default()
        }],
        execute_time: Duration::from_millis(3),
        warm_up: false,
        traffic: Some(Arc::new(traffic())),
        digest: Some("0123456789abcdef".repeat(4)),
        pin: true,
        response_cache: NonZeroUsize::new(2 << 20),
    };
    let parsed = parsed(FULL);
    assert_eq!(parsed.settings, expected);
    assert_eq!(parsed.warnings, Vec::<String>::new());
    let image = TensorSpec { optional: true, ..TensorSpec::new("image", DataType::Fp32, dims) };
    let scores = TensorSpec { name: "scores".into(), datatype: DataType::Bytes, shape: None, optional: false };
    assert_eq!(parsed.settings.declared(), Signature { inputs: vec![image], outputs: vec![scores] });
}

#[test]
fn versions_may_be_chosen_in_four_ways() {
    for (text, expected) in [
        ("versions = \"latest\"", VersionPolicy::default()),
        ("versions = \"all\"", VersionPolicy::All),
        ("versions = { latest = 2 }", VersionPolicy::Latest(NonZeroUsize::new(2).unwrap())),
        ("versions = [2]", VersionPolicy::Specific(versions(&[2]))),
    ] {
        assert_eq!(parsed(text).settings.version_policy, expected, "{text}");
    }
    for wrong in
        ["[]", "3", "\"newest\"", "{ latest = 0 }", "{ newest = 1 }", "[0]", "[\"1\"]", "{ latest = 1, all = 1 }"]
    {
        let faults = faults(&format!("versions = {wrong}"));
        assert!(faults.len() == 1 && faults[0].starts_with("versions: "), "{faults:?}");
    }
}

#[test]
fn every_fault_of_a_file_is_reported_at_once_with_its_key() {
    let text = r#"
        runtime = "onyx"
        slo = 50
        instances = 0
        queue_timeout = "0s"
        file = "../other/model.onnx"
        warm_up = "yes"
        instanes = 2
        colour = "red"

        [[inputs]]
        name = "x"
        datatype = "FLOAT"
        shape = [0]
        labels = "x.txt"

        [[inputs]]
        name = "x"

        [[outputs]]
        datatype = 3
    "#;
    let expected = [
        "slo: '50' has no unit: write '50ms' or '50s'",
        "runtime: unknown runtime 'onyx', expected one of auto, onnx, tract, candle, identity",
        "instances: must be at least 1, got 0; leave the key out to let the server choose",
        "queue_timeout: must be longer than zero; leave the key out to set none",
        "file: '../other/model.onnx' must be a relative path that stays inside the model's directory",
        "warm_up: expected true or false, got a string",
        "colour: unknown key 'colour', known are",
        "instanes: unknown key 'instanes', did you mean 'instances'?",
        "inputs[0].datatype: unknown datatype 'FLOAT', expected one of BOOL, UINT8",
        "inputs[0].shape: 0 is no dimension: expected a size of at least 1, -1 for any, or a name",
        "inputs[0].labels: unknown key 'labels', known are name, datatype, shape, optional",
        "inputs[1].name: 'x' is declared twice",
        "outputs[0].name: missing",
        "outputs[0].datatype: expected a string, got an integer",
    ];
    let faults = faults(text);
    for expected in expected {
        assert!(faults.iter().any(|fault| fault.starts_with(expected)), "{expected} in {faults:#?}");
    }
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
}

#[test]
fn text_that_is_no_toml_is_a_fault_with_its_line() {
    let faults = faults("slo = \"50ms\"\nthreads = = 2\n");
    assert!(faults.len() == 1 && faults[0].starts_with("line 2: "), "{faults:?}");
    assert!(self::faults("[inputs]\nname = \"x\"")[0].starts_with("inputs: expected tables"));
    assert!(self::faults(&"#".repeat(SETTINGS_BYTES_MAX + 1))[0].contains("at most"));
}

#[test]
fn an_identity_model_declares_its_datatypes() {
    let faults = faults("runtime = \"identity\"\n[[inputs]]\nname = \"x\"");
    assert_eq!(faults, ["inputs[0]: 'x' needs a datatype, because the identity runtime has no model file"]);
    let warnings = parsed("execute_time = \"1ms\"").warnings;
    assert_eq!(warnings, ["execute_time is not used: it is for runtime = \"identity\""]);
}

#[test]
fn a_policy_selects_ascending_versions_that_are_there() {
    let available = versions(&[3, 10, 1, 3]);
    let latest = |count| VersionPolicy::Latest(NonZeroUsize::new(count).unwrap());
    assert_eq!(VersionPolicy::default().select(&available), versions(&[10]));
    assert_eq!(latest(2).select(&available), versions(&[3, 10]));
    assert_eq!(latest(9).select(&available), versions(&[1, 3, 10]));
    assert_eq!(VersionPolicy::All.select(&available), versions(&[1, 3, 10]));
    assert_eq!(VersionPolicy::Specific(versions(&[1, 2, 10])).select(&available), versions(&[1, 10]));
    assert_eq!(VersionPolicy::All.select(&[]), []);
}

#[test]
fn a_declaration_is_held_against_the_artifact() {
    let declaration = |dims: &[i64], rows_open| TensorDeclaration {
        name: "x".into(),
        datatype: Some(DataType::Fp32),
        shape: Some(dims.iter().map(|&dim| Dim::from_wire(dim)).collect()),
        rows_open,
        ..TensorDeclaration::default()
    };
    let batched = TensorSpec::new("x", DataType::Fp32, [Dim::ANY, Dim::Fixed(3)]);
    let fixed = TensorSpec::new("x", DataType::Fp32, [Dim::Fixed(2), Dim::Fixed(3)]);
    for (dims, rows_open, spec, agrees) in [
        (&[-1, 3][..], false, &batched, true),
        (&[-1, -1], false, &batched, true),
        (&[-1, 4], false, &batched, false),
        (&[3], false, &batched, false),
        (&[3], true, &batched, true),
        (&[3], true, &fixed, false),
        (&[2, 3], true, &fixed, true),
    ] {
        assert_eq!(declaration(dims, rows_open).disagreement(spec).is_none(), agrees, "{dims:?} {spec}");
    }
    let other = TensorSpec::new("x", DataType::Int64, [Dim::ANY]);
    let message = declaration(&[-1, 4], false).disagreement(&other).unwrap();
    assert_eq!(message, "the settings declare x FP32[-1,4], but the model has x INT64[-1]");
    let silent = TensorDeclaration { name: "x".into(), ..TensorDeclaration::default() };
    assert_eq!(silent.disagreement(&other), None);
}

#[test]
fn a_duration_is_a_number_and_a_unit() {
    for (text, nanos) in [
        ("50ms", 50_000_000),
        ("1.5s", 1_500_000_000),
        ("200us", 200_000),
        ("0s", 0),
        ("2m", 120_000_000_000),
        ("1h", 3_600_000_000_000),
        ("0.25ms", 250_000),
        ("8760h", 31_536_000_000_000_000),
    ] {
        assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
    }
    for (text, reason) in [
        ("50", "write '50ms' or '50s'"),
        ("", "is no duration"),
        ("ms", "is no duration"),
        ("5 ms", "is no duration"),
        ("-5ms", "is no duration"),
        ("5MS", "is no duration"),
        ("5ns", "units us, ms, s, m and h"),
        (".5s", "is no duration"),
        ("5.s", "is no duration"),
        ("1.2.3s", "is no duration"),
        ("1m30s", "is no duration"),
        ("8761h", "longer than 365 days"),
        ("9999999999999999999999s", "is no duration"),
    ] {
        let message = parse_duration(text).expect_err(text);
        assert!(message.contains(reason), "{text}: {message}");
    }
}

#[test]
fn the_nearest_name_is_near() {
    let known = ["instances", "threads", "slo"];
    assert_eq!(nearest("instanes", known), Some("instances"));
    assert_eq!(nearest("Threads", known), Some("threads"));
    assert_eq!(nearest("sla", known), Some("slo"));
    assert_eq!(nearest("xyz", known), None);
    assert_eq!(nearest("", known), None);
}

proptest! {
    #[test]
    fn no_text_makes_a_settings_reader_panic(text in any::<String>()) {
        let _ = ModelSettings::from_toml(&text);
        let _ = ModelSettings::from_pbtxt(&text, "m");
        let _ = ModelSettings::from_config_json(&text, "m");
        let _ = parse_duration(&text);
    }

    #[test]
    fn whole_milliseconds_are_read_exactly(millis in 0_u64..1_000_000_000) {
        prop_assert_eq!(parse_duration(&format!("{millis}ms")), Ok(Duration::from_millis(millis)));
    }
}

#[test]
fn an_input_may_be_padded_with_a_value_that_its_datatype_has() {
    let text = "[[inputs]]\nname = \"ids\"\npad = 1\n[[inputs]]\nname = \"mask\"\npad = false\n\
                [[inputs]]\nname = \"audio\"\npad = -0.5\n[[inputs]]\nname = \"label\"\n";
    let settings = parsed(text).settings;
    let pads: Vec<_> = settings.inputs.iter().map(|input| input.pad).collect();
    assert_eq!(pads, [Some(Scalar::Whole(1)), Some(Scalar::Bool(false)), Some(Scalar::Real(-0.5)), None]);
    let spec = |name, datatype| TensorSpec::new(name, datatype, [Dim::ANY, Dim::ANY]);
    let inputs = vec![spec("audio", DataType::Fp32), spec("label", DataType::Int64), spec("ids", DataType::Int64)];
    let pads = settings.pads(&Signature { inputs, outputs: Vec::new() });
    let elements: Vec<_> = pads.into_iter().map(|pad| pad.map(|pad| pad.element)).collect();
    assert_eq!(elements, [Scalar::Real(-0.5).element(DataType::Fp32), None, Scalar::Whole(1).element(DataType::Int64)]);
}

#[test]
fn padding_that_cannot_be_is_said_with_the_reason() {
    let pad = |pad| TensorDeclaration { name: "x".into(), pad: Some(pad), ..TensorDeclaration::default() };
    let spec = |datatype, dims: &[i64]| TensorSpec::new("x", datatype, dims.iter().map(|&dim| Dim::from_wire(dim)));
    let zero = pad(Scalar::Whole(0));
    assert_eq!(zero.disagreement(&spec(DataType::Int64, &[-1, -1])), None);
    for (declaration, spec, why) in [
        (&zero, spec(DataType::Bytes, &[-1, -1]), "strings cannot be padded"),
        (&zero, spec(DataType::Int64, &[-1, 3]), "no dimension behind the first is dynamic"),
        (&pad(Scalar::Whole(300)), spec(DataType::Uint8, &[-1, -1]), "UINT8 has no such value"),
        (&pad(Scalar::Real(0.5)), spec(DataType::Int64, &[-1, -1]), "INT64 has no such value"),
        (&pad(Scalar::Bool(true)), spec(DataType::Fp32, &[-1, -1]), "FP32 has no such value"),
    ] {
        let said = declaration.disagreement(&spec).unwrap();
        assert!(said.starts_with("the settings pad input 'x' with ") && said.contains(why), "{said}");
    }
    let faults =
        ModelSettings::from_toml("[[inputs]]\nname = \"x\"\npad = \"0\"\n[[outputs]]\nname = \"y\"\npad = 0\n");
    let faults: Vec<String> = faults.unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(faults[0], "inputs[0].pad: expected a number, or true or false, got a string");
    assert!(faults[1].starts_with("outputs[0].pad: unknown key"), "{faults:?}");
    let unverified = parsed("warm_up = false\n[[inputs]]\nname = \"x\"\npad = 0\n");
    assert!(unverified.warnings[0].starts_with("pad is not used"), "{unverified:?}");
}

#[test]
fn priorities_shares_and_bytes_are_pinned_within_their_ranges() {
    let text = "priority_levels = 4\ndefault_priority_level = 3\nweight = 2.5\nqueue_bytes_max = \"1MiB\"\n";
    let settings = ModelSettings::from_toml(text).unwrap().settings;
    assert_eq!(settings.priority_default(), Some(3));
    assert_eq!(settings.weight.map(|weight| weight.get()), Some(2500));
    assert_eq!(settings.queue_bytes_max, Some(1 << 20));
    for (wrong, told) in [
        ("default_priority_level = 1", "priority_levels"),
        ("priority_levels = 2\ndefault_priority_level = 3", "expected 1 to 2"),
        ("priority_levels = 0", "at least 1"),
        ("priority_levels = 70000", "at most 65535"),
        ("weight = 0", "0.001 to 1000"),
        ("weight = \"much\"", "a number"),
        ("queue_bytes_max = \"much\"", "256MiB"),
        ("queue_bytes_max = 0", "256MiB"),
    ] {
        let faults = ModelSettings::from_toml(wrong).unwrap_err();
        assert!(faults.len() == 1 && faults[0].to_string().contains(told), "{wrong}: {faults:?}");
    }
}

#[test]
fn a_digest_is_pinned_by_its_algorithm_and_digits() {
    let read = |text: &str| ModelSettings::from_toml(&format!("digest = \"{text}\""));
    let digits = "0123456789abcdef".repeat(4);
    assert_eq!(read(&format!("sha256:{}", digits.to_uppercase())).unwrap().settings.digest, Some(digits.clone()));
    for wrong in [digits.as_str(), "sha256:12", "md5:0123456789abcdef0123456789abcdef", ""] {
        let faults = read(wrong).unwrap_err();
        assert_eq!(faults[0].key, "digest", "{faults:?}");
    }
}

#[test]
fn a_response_cache_has_a_bound_and_nothing_else() {
    for (text, expected) in [
        ("[response_cache]\n", "response_cache.bytes_max: missing"),
        ("[response_cache]\nbytes_max = 0\n", "response_cache.bytes_max: 0 is no size"),
        ("[response_cache]\nbytes_max = 1\nbyte_max = 2\n", "response_cache.byte_max: unknown key"),
        ("response_cache = true\n", "response_cache: expected a table"),
    ] {
        let faults = ModelSettings::from_toml(text).unwrap_err();
        assert!(faults.len() == 1 && faults[0].to_string().starts_with(expected), "{faults:?}");
    }
}
