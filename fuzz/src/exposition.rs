//! The text of metrics, as an autoscaler reads it.

use tensorgate::contract::{exposition, signals};

/// Any text gives samples that are parts of it, or a refusal that names a line of it; signals are finite and sorted.
pub fn exposition(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines = text.lines().count();
    for sample in exposition::samples(text) {
        match sample {
            Ok(sample) => {
                assert!(!sample.name.is_empty() && text.contains(sample.name));
                assert!(sample.labels.iter().all(|(name, _)| text.contains(name)));
            }
            Err(error) => assert!((1..=lines).contains(&error.line), "{error}"),
        }
    }
    let Ok(all) = signals::read(text) else { return };
    for signals in all.values() {
        assert!([signals.arrived, signals.ended, signals.bad].iter().all(|count| count.is_finite() && *count >= 0.0));
        assert!(signals.points.is_sorted_by(|a, b| a.work < b.work));
        assert!(signals.points.iter().all(|point| point.work > 0 && point.upper >= point.centre));
    }
}
