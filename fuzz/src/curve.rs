//! Kept latency curves.

use std::time::Duration;

use tensorgate::scheduler::Curve;

/// The bytes are what a file of a curve holds behind its head.
pub fn curve(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut curve = match Curve::from_text(text) {
        Ok(curve) => curve,
        Err(why) => return assert!(!why.is_empty(), "a refusal has a reason"),
    };
    let again = Curve::from_text(&curve.to_text()).expect("what is written can be read");
    assert!(again.points().eq(curve.points()), "what is read was written");
    let grows = |pair: &[Duration]| pair[0] <= pair[1];
    let times: Vec<Duration> = [1, 2, 3, 10, 100, 10_000].into_iter().map(|work| curve.centre(work)).collect();
    assert!(times.windows(2).all(grows), "more work takes no less: {times:?}");
    assert!(curve.upper(5) >= curve.centre(5), "the upper time is above the centre");
    curve.note(7, Duration::from_millis(3));
    assert!(!curve.is_empty() && curve.centre(7) > Duration::ZERO, "it learns on");
}
