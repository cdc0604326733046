use tempfile::TempDir;

use super::*;
use crate::error::Kind;
use crate::infer::NamedTensor;
use crate::repository::{Control, RepositoryConfig, Runtimes};
use crate::tensor::Tensor;

/// A router over model `m` with versions 1 to 3, whose settings end with `more`.
async fn router(more: &str) -> (TempDir, Arc<Router>) {
    let directory = TempDir::new().unwrap();
    let model = directory.path().join("m");
    for version in 1..=3 {
        std::fs::create_dir_all(model.join(version.to_string())).unwrap();
    }
    let text = format!(
        "runtime = \"identity\"\nversions = \"all\"\n[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 4]\n{more}"
    );
    std::fs::write(model.join("model.toml"), text).unwrap();
    let config = RepositoryConfig {
        repositories: vec![directory.path().into()],
        control: Control::Explicit,
        load_at_start: vec!["*".into()],
        cores: 2,
        ..RepositoryConfig::default()
    };
    let repository = Repository::open(config, Arc::new(Runtimes::new(None)), Arc::default()).await.unwrap();
    repository.settled().await;
    (directory, Router::start(Arc::new(repository), Dispatch::new(None)))
}

fn request(sticky: Option<u64>) -> InferRequest {
    let x = NamedTensor::new("x", Tensor::from_elements([1, 4].into(), &[1_f32; 4]).unwrap());
    InferRequest { model: "m".into(), sticky, inputs: [x].into_iter().collect(), ..InferRequest::default() }
}

fn settings(json: &str) -> TrafficSettings {
    TrafficSettings::from_json(json).unwrap()
}

fn version(number: u64) -> Version {
    Version::new(number).unwrap()
}

#[tokio::test]
async fn of_twenty_thousand_requests_each_version_gets_its_share_and_nothing_is_noted_of_them() {
    let (_directory, router) = router("[traffic]\nweights = { 1 = 90, 3 = 10 }").await;
    let mut third = 0_u64;
    for _ in 0..20_000 {
        let routed = router.route(request(None)).unwrap();
        assert!(routed.note.is_none() && routed.model.version() != version(2));
        third += u64::from(routed.model.version() == version(3));
    }
    // Five standard deviations of a binomial with p = 0.1.
    assert!(third.abs_diff(2000) < 212, "{third}");
}

#[tokio::test]
async fn a_key_stays_through_a_reload_and_moves_only_to_the_version_that_grows() {
    let (_directory, router) =
        router("[traffic]\nweights = { 1 = 50, 2 = 30, 3 = 20 }\nsticky = { cookie = \"c\" }").await;
    let key = |user: u64| router.sticky("m", |_| Some(user.to_le_bytes())).unwrap();
    let at = |user: u64| router.route(request(Some(key(user)))).unwrap().model.version();
    let before: Vec<Version> = (0..500).map(at).collect();
    router.repository.load("m", Vec::new()).await.unwrap();
    assert_eq!((0..500).map(at).collect::<Vec<_>>(), before);
    router.set("m", settings(r#"{"weights": {"1": 50, "2": 60, "3": 20}, "sticky": {"cookie": "c"}}"#)).unwrap();
    let after: Vec<Version> = (0..500).map(at).collect();
    let moved: Vec<Version> = before.iter().zip(&after).filter(|(a, b)| a != b).map(|(_, b)| *b).collect();
    assert!(!moved.is_empty() && moved.iter().all(|to| *to == version(2)), "{moved:?}");
    // From three tenths to six thirteenths: about a sixth of the keys.
    assert!((30..150).contains(&moved.len()), "{}", moved.len());
}

#[tokio::test]
async fn without_traffic_the_newest_answers_and_nothing_is_kept_or_looked_for() {
    let (_directory, router) = router("").await;
    assert_eq!(router.route(request(None)).unwrap().model.version(), version(3));
    assert_eq!(router.sticky("m", |_| -> Option<&[u8]> { panic!("nobody asked for a key") }), None);
    assert!(router.splits.is_empty() && router.told().is_empty());
    let unknown = InferRequest { model: "n".into(), ..InferRequest::default() };
    assert_eq!(router.route(unknown).err().unwrap().kind(), Kind::UnknownModel);
}

#[tokio::test]
async fn a_shadow_or_a_canary_that_has_nothing_answers_nobody_and_both_are_noted() {
    let (_directory, router) = router("[traffic.shadow]\nversion = 3\nshare = 1").await;
    let routed = router.route(request(None)).unwrap();
    assert!(routed.model.version() == version(2) && routed.note.is_some());
    router.set("m", settings(r#"{"canary": {"version": 3, "stable": 1, "steps": [40]}}"#)).unwrap();
    let mut seen = [0; 3];
    for _ in 0..300 {
        let routed = router.route(request(None)).unwrap();
        assert!(routed.note.is_some());
        seen[routed.model.version().number() as usize - 1] += 1;
    }
    assert!(seen[1] == 0 && seen[0] > 100 && seen[2] > 60, "{seen:?}");
    assert_eq!(router.usual("m", None).unwrap().version(), version(1));
    // Over, with what caused it: nothing is kept for those that are gone.
    router.take_back("m").unwrap();
    assert_eq!(router.set.load(Relaxed), 0);
    assert_eq!(router.report("m").unwrap().source, Source::Settings);
}

#[tokio::test]
async fn a_split_that_was_set_while_requests_run_is_counted_once_however_often_it_is_set() {
    let (_directory, router) = router("[traffic]\nweights = { 1 = 1 }").await;
    assert_eq!(router.route(request(None)).unwrap().model.version(), version(1));
    for number in 1..=3 {
        router.set("m", settings(&format!(r#"{{"weights": {{"{number}": 1}}}}"#))).unwrap();
        assert_eq!(router.route(request(None)).unwrap().model.version(), version(number));
        assert_eq!(router.set.load(Relaxed), 1);
    }
    router.close();
    assert_eq!(router.set.load(Relaxed), 0);
}
