use std::fs;
use std::path::PathBuf;

use super::*;

const NO_WARMUP: Duration = Duration::ZERO;

fn seconds(text: &str, rate: f64, seed: u64, window: u64) -> Vec<f64> {
    let due = Arrivals::parse(text).unwrap().due(Some(rate), seed, NO_WARMUP, Duration::from_secs(window)).unwrap();
    assert!(due.is_sorted(), "{text}");
    due.iter().map(|at| *at as f64 / 1e9).collect()
}

/// Squared coefficient of variation of the gaps.
fn cv2(times: &[f64]) -> f64 {
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64 / (mean * mean)
}

fn between(times: &[f64], from: f64, to: f64) -> f64 {
    times.iter().filter(|time| (from..to).contains(*time)).count() as f64
}

/// Four standard deviations of a Poisson count.
fn near(count: f64, expected: f64) -> bool {
    (count - expected).abs() <= 4.0 * expected.sqrt()
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("loadtest-{}-{name}", std::process::id()));
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn stationary_processes_have_their_rate_and_their_burstiness() {
    for seed in [1, 2, 3] {
        let times = seconds("uniform", 1000.0, seed, 60);
        assert_eq!(times.len(), 60_000);
        assert!(cv2(&times) < 1e-6);
        let times = seconds("poisson", 1000.0, seed, 60);
        assert!(near(times.len() as f64, 60_000.0), "{}", times.len());
        assert!((cv2(&times) - 1.0).abs() < 0.05, "{}", cv2(&times));
        for (text, expected) in [("gamma:0.25", 0.25), ("gamma:4", 4.0), ("gamma:16", 16.0)] {
            let times = seconds(text, 1000.0, seed, 60);
            // The count of a renewal process varies as CV2 times the mean.
            let sigma = f64::sqrt(60_000.0 * expected);
            assert!((times.len() as f64 - 60_000.0).abs() < 4.0 * sigma + 4.0 * expected, "{text}: {}", times.len());
            assert!((cv2(&times) / expected - 1.0).abs() < 0.15, "{text}: {}", cv2(&times));
        }
    }
}

#[test]
fn a_seed_gives_the_same_arrivals_and_another_seed_others() {
    for text in ["poisson", "gamma:16", "onoff", "step", "ramp"] {
        assert_eq!(seconds(text, 500.0, 9, 5), seconds(text, 500.0, 9, 5), "{text}");
        assert_ne!(seconds(text, 500.0, 9, 5), seconds(text, 500.0, 10, 5), "{text}");
    }
}

#[test]
fn rates_that_change_are_where_they_should_be() {
    let times = seconds("onoff:500ms:1500ms", 1000.0, 1, 20);
    let silent = times.iter().filter(|time| *time % 2.0 > 0.5).count();
    assert!(silent == 0 && near(times.len() as f64, 20_000.0), "{silent} of {}", times.len());
    let times = seconds("step:4", 1000.0, 1, 9);
    for (from, to, expected) in [(0.0, 3.0, 3_000.0), (3.0, 6.0, 12_000.0), (6.0, 9.0, 3_000.0)] {
        assert!(near(between(&times, from, to), expected), "{from} to {to}: {}", between(&times, from, to));
    }
    let times = seconds("ramp", 1000.0, 1, 10);
    assert!(near(times.len() as f64, 10_000.0));
    assert!(near(between(&times, 0.0, 5.0), 2_500.0), "{}", between(&times, 0.0, 5.0));
    let times = seconds("ramp:2:0", 1000.0, 1, 10);
    assert!(near(between(&times, 5.0, 10.0), 2_500.0), "{}", between(&times, 5.0, 10.0));
}

#[test]
fn the_warm_up_comes_before_the_window_and_begins_as_the_window_does() {
    let warmup = Duration::from_secs(4);
    let due = |text: &str| Arrivals::parse(text).unwrap().due(Some(1000.0), 1, warmup, Duration::from_secs(6)).unwrap();
    let before = |text: &str| due(text).iter().filter(|at| **at < 4_000_000_000).count() as f64;
    assert!(near(before("poisson"), 4_000.0));
    assert!(near(before("step:4"), 4_000.0));
    assert_eq!(before("ramp"), 0.0);
    assert!(due("poisson").iter().all(|at| *at < 10_000_000_000));
}

#[test]
fn a_recording_is_played_as_it_was_or_at_a_rate() {
    let path = file("times", "# seconds\n0.5\n\n1.25\n1.25\n4\n");
    let arrivals = Arrivals::parse(&format!("trace:{}", path.display())).unwrap();
    let due = |rate, warmup| arrivals.due(rate, 0, warmup, Duration::from_secs(10)).unwrap().to_vec();
    assert_eq!(due(None, NO_WARMUP), [500_000_000, 1_250_000_000, 1_250_000_000, 4_000_000_000]);
    assert_eq!(due(Some(2.0), Duration::from_secs(1)), [1_250_000_000, 1_625_000_000, 1_625_000_000, 3_000_000_000]);
    assert_eq!(arrivals.length(None), Some(Duration::from_secs(4)));
    assert_eq!(arrivals.length(Some(2.0)), Some(Duration::from_secs(2)));
    let cut = arrivals.due(None, 0, NO_WARMUP, Duration::from_secs(1)).unwrap();
    assert_eq!(cut.len(), 1);
    fs::remove_file(path).unwrap();
}

#[test]
fn counts_per_minute_are_kept_minute_by_minute() {
    let path = file("counts", "30\n0\n90\n");
    let arrivals = Arrivals::parse(&format!("counts:{}", path.display())).unwrap();
    let due = arrivals.due(None, 5, NO_WARMUP, Duration::from_secs(180)).unwrap();
    let times: Vec<f64> = due.iter().map(|at| *at as f64 / 1e9).collect();
    assert!(due.is_sorted());
    assert_eq!([0.0, 60.0, 120.0].map(|from| between(&times, from, from + 60.0)), [30.0, 0.0, 90.0]);
    assert_eq!(arrivals.length(Some(12.0)), Some(Duration::from_secs(10)));
    fs::remove_file(path).unwrap();
}

#[test]
fn what_cannot_be_read_names_the_line_or_the_forms() {
    for (text, part) in [
        ("bursty", "not one of uniform, poisson"),
        ("gamma", "gamma:CV2"),
        ("gamma:0", "above zero"),
        ("gamma:x", "not a number"),
        ("onoff:0s:1s", "above zero"),
        ("ramp:1", "two values"),
        ("trace:/nowhere/at/all", "/nowhere/at/all"),
    ] {
        let error = Arrivals::parse(text).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    for (name, kind, content, part) in [
        ("falling", "trace", "2\n1\n", ":2: '1' is not a time in seconds that is not before the line above"),
        ("word", "trace", "1\nx\n", ":2: 'x'"),
        ("empty", "trace", "", "needs a time above zero"),
        ("fraction", "counts", "1\n1.5\n", ":2: '1.5' is not a count"),
        ("silent", "counts", "0\n", "no minute"),
    ] {
        let path = file(name, content);
        let error = Arrivals::parse(&format!("{kind}:{}", path.display())).unwrap_err();
        assert!(error.contains(part), "{error}");
        fs::remove_file(path).unwrap();
    }
    let error = Arrivals::Poisson.due(None, 0, NO_WARMUP, Duration::from_secs(1)).unwrap_err();
    assert!(error.contains("--rate"), "{error}");
    let error = Arrivals::Uniform.due(Some(1e9), 0, NO_WARMUP, Duration::from_secs(1)).unwrap_err();
    assert!(error.contains("the most of one run"), "{error}");
}
