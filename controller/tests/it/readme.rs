//! The commands of README's way from nothing to a canary: what they name is there, and what they write does what is said of it.

use std::path::Path;

use serde_json::Value;
use tensorgate_controller::plan::Settings;
use tensorgate_controller::rollout::Guard;
use tensorgate_controller::tree;

use super::world::{Observation, World, documents, key};

fn block() -> String {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let section = readme.split("## On Kubernetes").nth(1).expect("the section");
    section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

/// The commands, each with the document that it reads, if it does.
pub(crate) fn commands() -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut document = false;
    for line in block().lines() {
        match commands.last_mut() {
            Some(last) if document => *last = format!("{last}\n{line}"),
            _ => commands.push(line.to_owned()),
        }
        document = if document { line != "EOF" } else { line.ends_with("<<EOF") };
    }
    commands
}

/// Text between quotes behind a flag.
fn quoted<'a>(line: &'a str, flag: &str) -> Option<&'a str> {
    line.split_once(&format!("{flag} '"))?.1.split_once('\'').map(|(text, _)| text)
}

/// What the pods, and time, do until nothing changes any more; then who gets how much.
fn shares(world: &mut World) -> Vec<(String, i64)> {
    for _ in 0..3 {
        world.settle("iris");
        world.observe(&Observation { all_ready: true, ..Observation::default() });
    }
    world.settle("iris");
    let status = world.status("iris");
    let traffic = tree::list(&status, &["components", "predictor", "traffic"]);
    let share = |own: &Value| (own["revisionName"].as_str().unwrap().to_owned(), own["percent"].as_i64().unwrap());
    traffic.iter().map(share).filter(|(_, percent)| *percent > 0).collect()
}

#[test]
fn from_nothing_to_a_canary_in_ten_commands_that_do_what_is_said_of_them() {
    let (text, lines) = (block(), commands());
    let manifest = text.split("<<EOF\n").nth(1).unwrap().split("\nEOF").next().unwrap();
    assert_eq!(lines.len(), 10, "{lines:#?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (command, file) in [
        ("docker build -f deploy/Dockerfile", "deploy/Dockerfile"),
        ("-k deploy/crds ", "deploy/crds/kustomization.yaml"),
        ("-f deploy/crds/crds.yaml ", "deploy/crds/crds.yaml"),
        ("-k deploy/\n", "deploy/kustomization.yaml"),
    ] {
        assert!(text.contains(command) && root.join(file).is_file(), "{file}");
    }

    let mut world = World::new(Settings::default());
    documents(manifest).into_iter().for_each(|object| world.write(object));
    let revision = |number: u32| format!("iris-predictor-{number:05}");
    assert_eq!(shares(&mut world), [(revision(1), 100)]);
    let patches: Vec<&str> =
        lines.iter().filter_map(|line| quoted(line, "kubectl patch isvc iris --type merge -p")).collect();
    let expected = [vec![(revision(2), 10), (revision(1), 90)], vec![(revision(1), 100)], vec![(revision(2), 100)]];
    assert_eq!(patches.len(), expected.len());
    for (patch, expected) in patches.iter().zip(expected) {
        let patch: Value = serde_json::from_str(patch).unwrap();
        world.store.merge(&key("InferenceService", "iris"), &patch, None, "kubectl-patch").unwrap();
        assert_eq!(shares(&mut world), expected, "{patch}");
    }

    let annotation = lines.last().unwrap().split_whitespace().nth(4).unwrap();
    let (name, value) = annotation.split_once('=').unwrap();
    assert_eq!((name, Guard::parse(value)), ("tensorgate.dev/rollout", Ok(Some(Guard::default()))));
}

#[test]
fn the_settings_that_are_told_of_guarded_rollouts_are_those_that_there_are() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let section = readme.split("**Guarded rollouts.**").nth(1).unwrap().split("\n\n").next().unwrap();
    let object = section.split_once("`'").unwrap().1.split_once("'`").unwrap().0;
    assert!(Guard::parse(object).unwrap().is_some());
    for field in ["steps", "stepTime", "stepRequests", "errors", "late", "latency"] {
        assert!(section.contains(&format!("`{field}`")), "{field} is not told");
    }
}
