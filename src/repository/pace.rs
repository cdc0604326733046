//! How a load shares the cores with what serves: a pure function of what is loaded, and of who waits for it.
//!
//! A load that gives way costs requests nothing, and takes little longer where cores have time to spare. Where they have none it
//! would take for ever, and nothing tells beforehand: a small one is then begun again, beside itself, as quickly as it can go.

use std::time::Duration;

/// A version whose files have fewer bytes can be loaded twice: that takes less time than one of the others' batches, or little more.
const SMALL_BYTES: u64 = 4 << 20;

/// How long a small load gives way at least: some slices of the kernel's, and no longer than a request may wait that finds its model
/// paged out.
const GENTLE_MIN: Duration = Duration::from_millis(20);

/// So many times as long as it once took: then cores have no time to spare.
const GENTLE_TIMES: u32 = 3;

/// The same for a load of which it is not known how long it takes.
const GENTLE_UNKNOWN: Duration = Duration::from_millis(100);

/// How a load goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// As quickly as it can.
    Urgent,
    /// On threads that run only where no other wants to, with some of a core kept for them.
    Gentle,
    /// On such threads for so long, and then urgently too; whichever is there first counts.
    Hedged(Duration),
}

/// What is to be loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Bytes of its files.
    pub(super) bytes: u64,
    /// Whether requests wait for it.
    pub(super) is_awaited: bool,
    /// Whether anything serves meanwhile.
    pub(super) has_neighbours: bool,
    /// How long it took when it was quickest.
    pub(super) quickest: Option<Duration>,
    /// Whether one that gave way was overtaken, and has not ended yet: there is no time to spare.
    pub(super) is_crowded: bool,
}

impl Load {
    pub(super) fn pace(&self) -> Pace {
        match self {
            Load { has_neighbours: false, .. } => Pace::Urgent,
            Load { bytes: SMALL_BYTES.., is_awaited: true, .. } => Pace::Urgent,
            Load { bytes: SMALL_BYTES.., .. } => Pace::Gentle,
            Load { is_crowded: true, .. } => Pace::Urgent,
            Load { quickest: None, .. } => Pace::Hedged(GENTLE_UNKNOWN),
            Load { quickest: Some(took), .. } => Pace::Hedged(GENTLE_MIN.max(*took * GENTLE_TIMES)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Load =
        Load { bytes: 1_000, is_awaited: true, has_neighbours: true, quickest: None, is_crowded: false };
    const LARGE: Load = Load { bytes: 90 << 20, ..SMALL };

    #[test]
    fn a_small_load_gives_way_for_a_while_whoever_waits_for_it() {
        let quickest = |millis| Some(Duration::from_millis(millis));
        assert_eq!(SMALL.pace(), Pace::Hedged(GENTLE_UNKNOWN));
        assert_eq!(Load { is_awaited: false, ..SMALL }.pace(), Pace::Hedged(GENTLE_UNKNOWN));
        assert_eq!(Load { quickest: quickest(1), ..SMALL }.pace(), Pace::Hedged(GENTLE_MIN));
        assert_eq!(Load { quickest: quickest(50), ..SMALL }.pace(), Pace::Hedged(Duration::from_millis(150)));
    }

    #[test]
    fn nothing_gives_way_where_there_is_no_time_to_spare_or_nobody_to_give_way_to() {
        assert_eq!(Load { is_crowded: true, ..SMALL }.pace(), Pace::Urgent);
        assert_eq!(Load { has_neighbours: false, ..SMALL }.pace(), Pace::Urgent);
        assert_eq!(Load { has_neighbours: false, ..LARGE }.pace(), Pace::Urgent);
    }

    #[test]
    fn a_large_load_gives_way_unless_requests_wait_for_it_and_is_never_begun_twice() {
        assert_eq!(LARGE.pace(), Pace::Urgent);
        assert_eq!(Load { is_awaited: false, ..LARGE }.pace(), Pace::Gentle);
        assert_eq!(Load { is_awaited: false, is_crowded: true, ..LARGE }.pace(), Pace::Gentle);
        assert_eq!(Load { bytes: SMALL_BYTES, is_awaited: false, ..LARGE }.pace(), Pace::Gentle);
    }
}
