use std::sync::Arc;

use smallvec::smallvec;

use super::key::{self, Key};
use super::store::{Answer, Looked, ResponseCache};
use crate::infer::{InferRequest, InferResponse, NamedTensor, ParameterValue, Parameters, RequestedOutput, Timing};
use crate::model::{ModelName, Version};
use crate::repository::Life;
use crate::telemetry::Telemetry;
use crate::tensor::Tensor;

fn tensor(values: &[f32]) -> Tensor {
    Tensor::from_elements([1, values.len()].as_slice().into(), values).unwrap()
}

fn request(inputs: &[(&str, &[f32])]) -> InferRequest {
    let inputs = inputs.iter().map(|(name, values)| NamedTensor::new(*name, tensor(values))).collect();
    InferRequest { model: "m".into(), inputs, ..InferRequest::default() }
}

fn answer(floats: usize) -> Answer {
    Answer::of(&InferResponse {
        model: ModelName::new("m"),
        version: Version::ONE,
        id: None,
        parameters: Parameters::new(),
        outputs: smallvec![("y".into(), tensor(&vec![1.0; floats]))],
        places: Vec::new(),
        timing: Timing::default(),
    })
}

#[tokio::test]
async fn requests_are_the_same_where_their_answers_are() {
    let first = request(&[("a", &[1.0, 2.0]), ("b", &[3.0])]);
    let same = key::of(&first).await;
    assert_eq!(key::of(&request(&[("b", &[3.0]), ("a", &[1.0, 2.0])])).await, same);
    let mut other_caller = InferRequest { id: Some("7".into()), ..first.clone() };
    other_caller.parameters.set("priority", ParameterValue::Int64(2));
    assert_eq!(key::of(&other_caller).await, same);
    let mut with_parameter = first.clone();
    with_parameter.parameters.set("temperature", ParameterValue::Double(0.5));
    let named = |name: &str| RequestedOutput { name: name.into(), ..RequestedOutput::default() };
    let mut classes = named("y");
    classes.parameters.set("classification", ParameterValue::Int64(3));
    let others = [
        request(&[("a", &[1.0, 2.0]), ("b", &[4.0])]),
        request(&[("a", &[1.0]), ("b", &[2.0, 3.0])]),
        request(&[("ab", &[1.0, 2.0]), ("", &[3.0])]),
        with_parameter,
        InferRequest { outputs: vec![named("y")], ..first.clone() },
        InferRequest { outputs: vec![named("y"), named("z")], ..first.clone() },
        InferRequest { outputs: vec![named("z"), named("y")], ..first.clone() },
        InferRequest { outputs: vec![classes], ..first },
    ];
    let mut keys: Vec<Key> = vec![same];
    for other in &others {
        keys.push(key::of(other).await);
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 1 + others.len());
}

#[tokio::test]
async fn a_large_request_has_the_key_of_its_bytes_too() {
    let large = vec![1.0_f32; 1 << 17];
    let (one, same) = (request(&[("x", &large)]), request(&[("x", &large)]));
    assert_eq!(key::of(&one).await, key::of(&same).await);
}

fn cache_of(bytes_max: usize) -> Arc<ResponseCache> {
    ResponseCache::new(bytes_max, Arc::new(Telemetry::new()))
}

fn key(number: u8) -> Key {
    [number; 32]
}

fn put(cache: &Arc<ResponseCache>, life: &Life, number: u8, floats: usize, bytes_max: usize) {
    match cache.look_up(life, key(number)) {
        Looked::Unknown(lead) => lead.land(answer(floats), bytes_max),
        _ => panic!("{number} is there"),
    }
}

fn has(cache: &Arc<ResponseCache>, life: &Life, number: u8) -> bool {
    matches!(cache.look_up(life, key(number)), Looked::Kept(_))
}

#[tokio::test]
async fn the_one_used_longest_ago_leaves_within_the_bounds_of_the_model_and_of_all() {
    let each = 512 + 4 * 128;
    let (cache, one, other) = (cache_of(4 * each), Life::default(), Life::default());
    for number in 0..3 {
        put(&cache, &one, number, 128, 3 * each);
    }
    assert!(has(&cache, &one, 0));
    put(&cache, &one, 3, 128, 3 * each);
    assert!(has(&cache, &one, 0) && !has(&cache, &one, 1), "the model's own bound");
    assert_eq!(cache.held(), (3 * each, 3));
    put(&cache, &other, 0, 128, 100 * each);
    put(&cache, &other, 1, 128, 100 * each);
    assert_eq!(cache.held(), (4 * each, 4), "the bound of all");
    assert!(!has(&cache, &one, 2) && has(&cache, &other, 0) && has(&cache, &other, 1));
    put(&cache, &other, 9, 128 * 64, 100 * each);
    assert!(!has(&cache, &other, 9), "what is larger than the bound is not kept, and drives nothing out");
    assert_eq!(cache.held(), (4 * each, 4));
}

#[tokio::test]
async fn others_wait_for_the_one_that_runs_and_run_themselves_where_it_fails() {
    let (cache, life) = (cache_of(1 << 20), Life::default());
    let Looked::Unknown(lead) = cache.look_up(&life, key(1)) else { panic!("nothing was asked yet") };
    let Looked::UnderWay(mut waits) = cache.look_up(&life, key(1)) else { panic!("one runs") };
    let Looked::UnderWay(mut too) = cache.look_up(&life, key(1)) else { panic!("one runs") };
    lead.land(answer(1), 1 << 20);
    assert!(waits.wait_for(Option::is_some).await.is_ok() && too.wait_for(Option::is_some).await.is_ok());
    let Looked::Unknown(lead) = cache.look_up(&life, key(2)) else { panic!("nothing was asked yet") };
    let Looked::UnderWay(mut waits) = cache.look_up(&life, key(2)) else { panic!("one runs") };
    drop(lead);
    assert!(waits.wait_for(Option::is_some).await.is_err());
    assert!(matches!(cache.look_up(&life, key(2)), Looked::Unknown(_)));
}

#[tokio::test]
async fn answers_go_with_the_load_that_gave_them() {
    let (cache, life) = (cache_of(1 << 20), Life::default());
    put(&cache, &life, 1, 1, 1 << 20);
    assert!(!has(&cache, &Life::default(), 1), "another load answers anew");
    drop(life);
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cache.held(), (0, 0));
}
