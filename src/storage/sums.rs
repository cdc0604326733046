//! `SHA256SUMS`: what `sha256sum` prints, read strictly.

use std::collections::BTreeMap;

use super::digest::Sha256;
use super::uri::check_key;

/// The file's name, in a model's directory or a version's.
pub const SUMS_FILE: &str = "SHA256SUMS";

/// Bytes that such a file may have: 20,000 files (the most that a version may have) with long names.
pub const SUMS_BYTES_MAX: usize = 8 << 20;

/// Digests by path, relative to the file's own directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<String, Sha256>);

impl Sums {
    /// Reads lines of 64 hexadecimal digits, a space, a space or `*`, and a path (GNU coreutils, `sha256sum --check`).
    ///
    /// # Errors
    /// The line that is none, and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut sums = BTreeMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let fault = |why: String| format!("line {}: {why}", number + 1);
            let expected = || fault("expected 64 hexadecimal digits, two spaces and a path".into());
            let (digest, path) = line.split_at_checked(64).ok_or_else(expected)?;
            let path = path.strip_prefix("  ").or_else(|| path.strip_prefix(" *")).ok_or_else(expected)?;
            let sha256 = Sha256::from_hex(&digest.to_ascii_lowercase()).ok_or_else(expected)?;
            let path = path.strip_prefix("./").unwrap_or(path);
            check_key(path).map_err(fault)?;
            if sums.insert(path.to_owned(), sha256).is_some_and(|earlier| earlier != sha256) {
                return Err(fault(format!("'{path}' has another digest in an earlier line")));
            }
        }
        Ok(Self(sums))
    }

    /// What the file at `path` has to be.
    pub fn get(&self, path: &str) -> Option<Sha256> {
        self.0.get(path).copied()
    }

    /// Paths with what is stated of them, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Sha256)> {
        self.0.iter().map(|(path, sha256)| (path.as_str(), *sha256))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_sha256sum_prints_is_read() {
        let digest = "0123456789abcdef".repeat(4);
        let text = format!("{digest}  model.onnx\n{} *./weights/a b.bin\n\n# note\n", digest.to_uppercase());
        let sums = Sums::parse(&text).unwrap();
        let sha256 = Sha256::from_hex(&digest).unwrap();
        assert_eq!(sums.iter().collect::<Vec<_>>(), [("model.onnx", sha256), ("weights/a b.bin", sha256)]);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let digest = "0".repeat(64);
        for (text, hint) in [
            (format!("{digest}  ../outside"), "line 1: '../outside'"),
            (format!("{digest}  /etc/passwd"), "line 1"),
            (format!("{digest}  a\n{}  b", "x".repeat(64)), "line 2: expected"),
            (format!("{digest} a"), "expected 64"),
            ("d41d8cd98f00b204e9800998ecf8427e  a".into(), "expected 64"),
            (format!("{digest}  a\n{}  a", "1".repeat(64)), "another digest"),
        ] {
            let message = Sums::parse(&text).unwrap_err();
            assert!(message.contains(hint), "{text}: {message}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_no_path_leads_out(text in "([0-9a-f]{64}(  | \\*)\\PC{0,12}\n?){0,3}\\PC{0,90}") {
            if let Ok(sums) = Sums::parse(&text) {
                prop_assert!(sums.iter().all(|(path, _)| check_key(path).is_ok()));
            }
        }
    }
}
