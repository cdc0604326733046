//! What a scaler that knows the future would have to pay at least.
//!
//! In slots of ten seconds: what arrives has to be served until the objective after it, at the highest throughput, whatever the
//! latency of single requests; each replica that is started is paid for from its order. The cheapest numbers by slots are found
//! by dynamic programming over the number and the work that is left over at the end of a slot, rounded down. Nobody who answers
//! everything in time can pay less.

use super::trace::Trace;

/// Seconds of a slot.
const SLOT: f64 = 10.0;

/// Steps of the work that is left over, in replica seconds: what rounding down gives away is below a hundredth.
const STEP: f64 = 0.5;

/// The fewest replica seconds at which all requests of `trace` can be answered in time.
pub fn least(trace: &Trace) -> f64 {
    let slots = (trace.seconds / SLOT).ceil() as usize;
    // Work in replica seconds.
    let mut work = vec![0.0; slots];
    for &at in &trace.arrivals {
        work[((at / SLOT) as usize).min(slots - 1)] += 1.0 / trace.server_at(at).throughput();
    }
    let (first, min) = (trace.first as usize, trace.min as usize);
    let most = work.iter().map(|work| (work / SLOT).ceil() as usize).max().unwrap_or(0).max(first).max(min) + 1;
    let late = trace.server_at(0.0).objective;
    let start = trace.server_at(0.0).start;
    // What may be left over at the end of a slot has to fit the first seconds of the next.
    let lefts = (most as f64 * late / STEP) as usize + 1;
    let mut paid = vec![f64::INFINITY; (most + 1) * lefts];
    paid[first * lefts] = 0.0;
    for work in work {
        let mut next = vec![f64::INFINITY; (most + 1) * lefts];
        for (state, cost) in paid.iter().enumerate().filter(|(_, cost)| cost.is_finite()) {
            let (before, left) = (state / lefts, (state % lefts) as f64 * STEP);
            let least = ((left / late) - 1e-9).ceil().max(min as f64) as usize;
            for after in least..=most {
                let rest = (left + work - after as f64 * SLOT).max(0.0);
                let rest = (rest / STEP) as usize;
                if rest >= lefts {
                    continue;
                }
                let all = cost + after.saturating_sub(before) as f64 * start + after as f64 * SLOT;
                let place = &mut next[after * lefts + rest];
                *place = place.min(all);
            }
        }
        paid = next;
    }
    paid.into_iter().fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::super::SERVER;
    use super::super::trace::Kind;
    use super::*;

    #[test]
    fn it_is_above_the_bare_work_and_at_most_a_replica_and_the_starts_above_it() {
        for kind in [Kind::Constant, Kind::Ramp] {
            let trace = kind.trace(SERVER, 1);
            let work = trace.arrivals.len() as f64 / SERVER.throughput();
            let least = least(&trace);
            assert!(least >= work * 0.99, "{least} {work}");
            assert!(least <= work + trace.seconds + 12.0 * SERVER.start, "{least} {work}");
        }
    }
}
