//! The way down, as everybody sees it.

use tokio::sync::watch;

/// How far the way down has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Serving.
    #[default]
    Open,
    /// Not ready any more, yet serving whatever comes; HTTP/1.1 answers ask the client to connect elsewhere next time.
    Draining,
    /// Nothing new is accepted; connections end when their requests have.
    Closing,
    /// Time is up: connections end now.
    Closed,
}

/// Shared state of the way down; it only goes forward.
#[derive(Clone)]
pub struct Drain {
    phase: watch::Sender<Phase>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { phase: watch::Sender::new(Phase::Open) }
    }
}

impl Drain {
    /// Whether the way down has begun.
    pub fn has_begun(&self) -> bool {
        *self.phase.borrow() > Phase::Open
    }

    /// Goes on to `phase`, or stays where it is further.
    pub(super) fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let forward = phase > *current;
            if forward {
                *current = phase;
            }
            forward
        });
    }

    /// Waits until the way down has come to `phase`.
    pub(super) async fn reached(&self, phase: Phase) {
        // The sender lives in self, so the wait cannot fail.
        let _ = self.phase.subscribe().wait_for(|current| *current >= phase).await;
    }
}
