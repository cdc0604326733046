//! Pages of metrics, as the controller reads them from pods. The decoder is the controller's own file, which needs nothing of it but the
//! names of metrics: nothing here compiles kube.

#[allow(missing_docs)]
#[path = "../../controller/src/rollout/tally.rs"]
mod decoder;

use decoder::Tally;

/// The bytes are two pages of one pod, the second read after the first, with a zero between them.
pub fn tally(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (earlier, now) = text.split_once('\0').unwrap_or(("", text));
    let Some(now) = Tally::parse(now) else { return };
    let earlier = Tally::parse(earlier).unwrap_or_default();
    let since = now.since(&earlier);
    assert!(
        since.answered <= now.answered && since.failed <= now.failed && since.refused <= now.refused,
        "no less than before"
    );
    assert!(now.took.windows(2).all(|pair| pair[0].0 < pair[1].0), "bounds ascend: {now:?}");
    assert!(now.objective.is_finite() && now.objective >= 0.0, "an objective is a time");
    let mut sum = now.clone();
    sum.add(&earlier);
    assert!(sum.answered >= now.answered && sum.batches >= now.batches, "a sum has both");
    assert!(now.bound_above(0.5) >= 0.5, "a bound at or above");
    assert!(now.longer_than(0.0) <= now.timed(), "a part of all");
    assert_eq!(now.quantile(0.9).is_some(), now.timed() > 0, "where there are requests there is a quantile");
}
