//! Values of labels that are made of names: a name may be as long as a value, and then has no room for what goes before or behind it.

use super::revision::digest;

/// The longest value of a label.
const VALUE_MAX: usize = 63;

/// A value that fits: one that is too long is cut, with a digest of the whole behind it, so that no two become the same.
pub fn fitted(value: &str) -> String {
    if value.len() <= VALUE_MAX {
        return value.to_owned();
    }
    let digest = digest(&value.into());
    let kept: String = value.chars().take(VALUE_MAX - digest.len() - 1).collect();
    // A value may hold a point or a hyphen, but not twice where it is cut.
    format!("{}-{digest}", kept.trim_end_matches(['-', '.', '_']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_and_what_does_not_is_told_apart_by_its_digest() {
        assert_eq!(fitted("isvc.iris-predictor-00001"), "isvc.iris-predictor-00001");
        let long = |last: &str| fitted(&format!("isvc.{}-predictor-0000{last}", "a".repeat(45)));
        assert_eq!(long("1").len(), VALUE_MAX);
        assert_ne!(long("1"), long("2"));
        assert!(fitted(&format!("{}-{}", "a".repeat(45), "b".repeat(40))).starts_with(&"a".repeat(45)));
    }
}
