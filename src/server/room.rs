//! Room for new connections where all that may be open are: one that does nothing makes it.
//!
//! A second chance, as in the page replacement called "clock": asked in turn, a connection goes where no request began since
//! it was last asked. So connections that never bring a request go first, however many their owner opens.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;

use super::activity::Activity;

/// How many connections are asked at most before the one that asks looks again. Each is woken for it.
const ASKED_MAX: usize = 256;

/// Where connections are asked to go.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// In turn: those that wait longest are woken first.
    wanted: Notify,
    /// How many more may be asked.
    asks: AtomicUsize,
}

impl Room {
    /// Asks a connection to make room.
    pub(super) fn ask(&self) {
        self.asks.store(ASKED_MAX, Relaxed);
        self.wanted.notify_one();
    }

    /// Resolves when the connection of `activity` is to go.
    pub(super) async fn wanted_of(&self, activity: &Activity) {
        let mut before = 0;
        loop {
            self.wanted.notified().await;
            match activity.begun_and_ended() {
                Some(begun) if begun == before => return,
                begun => before = begun.unwrap_or(usize::MAX),
            }
            // Another may have less to do. Nobody else writes the count meanwhile but who asks anew.
            let left = self.asks.load(Relaxed);
            if left > 0 {
                self.asks.store(left - 1, Relaxed);
                self.wanted.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Version;
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn who_never_asked_for_anything_goes_first_and_who_is_served_stays() {
        let room = Arc::new(Room::default());
        let mut connections = JoinSet::new();
        let [busy, used, idle]: [Arc<Activity>; 3] = Default::default();
        let _under_way = busy.begin(Version::HTTP_11);
        drop(used.begin(Version::HTTP_11));
        for (name, activity) in [("busy", &busy), ("used", &used), ("idle", &idle)] {
            let (room, activity) = (Arc::clone(&room), Arc::clone(activity));
            connections.spawn(async move {
                room.wanted_of(&activity).await;
                name
            });
            tokio::task::yield_now().await;
        }
        room.ask();
        assert_eq!(connections.join_next().await.unwrap().unwrap(), "idle");
        room.ask();
        assert_eq!(connections.join_next().await.unwrap().unwrap(), "used");
        // Asked in vain, it does not ask itself for ever.
        room.ask();
        tokio::task::yield_now().await;
        assert!(connections.try_join_next().is_none());
    }
}
