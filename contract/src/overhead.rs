//! What a row costs a server beside its execution: reading, decoding, handing on, encoding, writing. Of a small model that is most of
//! it, and the latency curve, which is of executions, does not show it.
//!
//! All processor time that was not spent in executions, over the rows that arrived: counters of the server's own metrics. What it
//! means for what can be served is in [`crate::capacity::with_overhead`].

use std::time::Duration;

use crate::signals::Signals;

/// Rows that it is a mean over: some seconds of a busy server, since it changes with what callers send.
const ROWS_KEPT: f64 = 20_000.0;

/// Rows from which it is known: the kernel counts processor time in hundredths of a second.
const ROWS_MIN: f64 = 1000.0;

/// What was counted, newer rows more than older ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overhead {
    seconds: f64,
    rows: f64,
}

impl Overhead {
    /// Takes in what a server, its versions summed up, has counted from one look to another.
    pub fn note(&mut self, before: &Signals, after: &Signals) {
        let rows = after.arrived - before.arrived;
        let seconds = after.processor - before.processor;
        let executed = after.executed - before.executed;
        // A counter that fell began anew; without rows there is nothing to share it out to.
        if rows <= 0.0 || seconds < 0.0 || executed < 0.0 {
            return;
        }
        self.seconds += seconds - executed;
        self.rows += rows;
        let kept = (ROWS_KEPT / self.rows).min(1.0);
        self.seconds *= kept;
        self.rows *= kept;
    }

    /// Processor time of a row; none where too little was seen.
    pub fn per_row(&self) -> Option<Duration> {
        (self.rows >= ROWS_MIN).then(|| Duration::from_secs_f64((self.seconds / self.rows).clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signals(arrived: f64, processor: f64, executed: f64) -> Signals {
        Signals { arrived, processor, executed, ..Signals::default() }
    }

    #[test]
    fn processor_time_beside_executions_is_shared_out_to_the_rows() {
        let mut overhead = Overhead::default();
        overhead.note(&signals(0.0, 2.0, 1.0), &signals(900.0, 2.2, 1.1));
        assert_eq!(overhead.per_row(), None);
        overhead.note(&signals(900.0, 2.2, 1.1), &signals(2000.0, 2.5, 1.3));
        assert_eq!(overhead.per_row(), Some(Duration::from_micros(100)));
    }

    #[test]
    fn a_server_that_began_anew_and_one_without_rows_say_nothing() {
        let mut overhead = Overhead::default();
        overhead.note(&signals(5000.0, 9.0, 1.0), &signals(10.0, 0.5, 0.1));
        overhead.note(&signals(5000.0, 9.0, 1.0), &signals(5000.0, 19.0, 1.0));
        assert_eq!(overhead, Overhead::default());
    }

    proptest! {
        #[test]
        fn it_is_never_negative_and_of_the_last_rows(looks in proptest::collection::vec((0.0..1e5_f64, 0.0..10.0_f64, 0.0..10.0_f64), 1..40)) {
            let mut overhead = Overhead::default();
            let (mut before, mut now) = (signals(0.0, 0.0, 0.0), signals(0.0, 0.0, 0.0));
            for (rows, processor, executed) in looks {
                now.arrived += rows;
                now.processor += processor;
                now.executed += executed;
                overhead.note(&before, &now);
                before = now.clone();
                prop_assert!(overhead.rows <= ROWS_KEPT * 1.000_001);
                prop_assert!(overhead.per_row().is_none_or(|each| each <= Duration::from_secs(1)));
            }
        }
    }
}
