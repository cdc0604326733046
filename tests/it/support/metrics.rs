//! The text of `/metrics`, read.

use super::Http;

/// One look at the metrics.
pub(crate) struct Metrics(String);

impl Metrics {
    /// Asks for them.
    pub(crate) async fn of(http: &mut Http) -> Self {
        let answer = http.get("/metrics").await;
        assert_eq!(answer.status, 200);
        Self(answer.text())
    }

    /// The sum of all samples of `name` with these labels, other labels whatever; zero where there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(name, labels).sum()
    }

    /// Whether there is any sample of `name` with these labels.
    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.samples(name, labels).next().is_some()
    }

    fn samples(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = f64> {
        let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        self.0.lines().filter_map(move |line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (family, given) = series.split_once('{').unwrap_or((series, ""));
            let given: Vec<&str> = given.trim_end_matches('}').split(',').collect();
            let fits = family == name && wanted.iter().all(|label| given.contains(&label.as_str()));
            fits.then(|| value.parse().unwrap())
        })
    }

    /// The whole text.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}
