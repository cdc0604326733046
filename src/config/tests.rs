use std::io::Write;

use super::*;

#[test]
fn nothing_given_is_the_defaults() {
    let config = resolve(&Flags::default()).unwrap();
    assert_eq!((config.server.http_port, config.server.grpc_port), (8080, 8081));
    assert!(config.server.host.is_loopback());
}

#[test]
fn flags_win_over_the_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "http_port = 9000\ngrpc_port = 9001\ndrain_delay = \"1s\"").unwrap();
    let flags = Flags { config: Some(file.path().into()), http_port: Some(7000), ..Flags::default() };
    let config = resolve(&flags).unwrap();
    assert_eq!((config.server.http_port, config.server.grpc_port), (7000, 9001));
    assert_eq!(config.server.drain_delay.as_secs(), 1);
}

#[test]
fn every_fault_is_reported_at_once_with_its_key() {
    let flags = Flags {
        model_name: Some("m".into()),
        model_control: Some("explicite".into()),
        http_port: Some(1),
        grpc_port: Some(1),
        body_max: Some("64 megs".into()),
        drain_delay: Some("5".into()),
        log_format: Some("xml".into()),
        repositories: vec!["ftp://host/models".into()],
        ..Flags::default()
    };
    let faults = resolve(&flags).unwrap_err();
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    let expected =
        ["REPOSITORY", "--model-name", "--model-control", "--grpc-port", "--body-max", "--drain-delay", "--log-format"];
    assert_eq!(keys, expected);
    assert!(faults[2].message.contains("did you mean 'explicit'?"), "{}", faults[2]);
}

#[test]
fn who_decides_what_is_loaded_comes_with_flags_of_its_own() {
    use crate::repository::Control;
    let polling = Flags { model_control: Some("poll".into()), ..Flags::default() };
    let repository = resolve(&polling).unwrap().repository;
    assert_eq!((repository.control, repository.poll_interval.as_secs()), (Control::Poll, 15));
    assert_eq!(repository.memory_bytes_max, None);
    let (poll_interval, memory_max) = (Some("2s".into()), Some("1GiB".into()));
    let given = Flags { poll_interval, memory_max, ..polling.clone() };
    let repository = resolve(&given).unwrap().repository;
    assert_eq!((repository.poll_interval.as_secs(), repository.memory_bytes_max), (2, Some(1 << 30)));
    for (flags, key) in [
        (Flags { poll_interval: Some("2s".into()), ..Flags::default() }, "--poll-interval"),
        (Flags { poll_interval: Some("0s".into()), ..polling.clone() }, "--poll-interval"),
        (Flags { load_model: vec!["m".into()], ..polling }, "--load-model"),
        (Flags { memory_max: Some("much".into()), ..Flags::default() }, "--memory-max"),
        (Flags { gpu_memory_max: Some("0".into()), ..Flags::default() }, "--gpu-memory-max"),
    ] {
        let faults = resolve(&flags).unwrap_err();
        assert!(faults.len() == 1 && faults[0].key == key, "{faults:?}");
    }
}

#[test]
fn an_unknown_key_of_the_file_is_named() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "http_prot = 9000").unwrap();
    let faults = resolve(&Flags { config: Some(file.path().into()), ..Flags::default() }).unwrap_err();
    assert!(faults[0].message.contains("http_prot"), "{}", faults[0]);
}

#[test]
fn a_file_uri_is_a_directory() {
    let flags = Flags { repositories: vec!["file:///srv/models".into()], ..Flags::default() };
    assert_eq!(resolve(&flags).unwrap().repository.repositories, [std::path::PathBuf::from("/srv/models")]);
}

#[test]
fn bounds_of_the_doors_come_from_flags_and_file_and_have_bounds_of_their_own() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "uri_max = \"1KiB\"\ntensors_max = 3\ncors_origin = [\"https://a.example\"]").unwrap();
    let bounds = BoundsFlags { tensors_max: Some(5), idle_timeout: Some("5s".into()), ..BoundsFlags::default() };
    let path_prefix = Some("/serving/ns/name/".into());
    let flags = Flags { config: Some(file.path().into()), bounds, path_prefix, ..Flags::default() };
    let server = resolve(&flags).unwrap().server;
    assert_eq!((server.bounds.uri_bytes_max, server.bounds.request.tensors_max), (1024, 5));
    assert_eq!((server.bounds.idle_timeout.as_secs(), server.bounds.headers_max), (5, 64));
    assert_eq!(server.http.path_prefix.as_deref(), Some("/serving/ns/name"));
    let bounds = BoundsFlags {
        headers_max: Some(101),
        streams_max: Some(0),
        header_bytes_max: Some("1MiB".into()),
        body_timeout: Some("soon".into()),
        ..BoundsFlags::default()
    };
    let cors_origin = vec!["app.example".into()];
    let faults =
        resolve(&Flags { bounds, cors_origin, path_prefix: Some("x".into()), ..Flags::default() }).unwrap_err();
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    let expected =
        ["--header-bytes-max", "--headers-max", "--body-timeout", "--streams-max", "--cors-origin", "--path-prefix"];
    assert_eq!(keys, expected);
}

#[test]
fn shared_memory_is_off_unless_a_directory_is_named() {
    assert!(resolve(&Flags::default()).unwrap().shared_memory.is_none());
    let folder = tempfile::TempDir::new().unwrap();
    let flags = |prefix: &std::path::Path| Flags { shared_memory_prefix: Some(prefix.into()), ..Flags::default() };
    let regions = resolve(&flags(&folder.path().join("mine-"))).unwrap().shared_memory.unwrap();
    assert_eq!((regions.name_prefix.as_str(), regions.regions_max), ("mine-", 256));
    for flags in [
        flags(&folder.path().join("no/such")),
        flags("dev/shm".as_ref()),
        Flags { shared_memory_regions_max: Some(5), ..Flags::default() },
        Flags { shared_memory_regions_max: Some(0), ..flags(folder.path()) },
    ] {
        let faults = resolve(&flags).unwrap_err();
        assert!(faults.len() == 1 && faults[0].to_string().contains("--shared-memory-"), "{faults:?}");
    }
}
