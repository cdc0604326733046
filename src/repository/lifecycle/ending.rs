//! What is left of a version that ends: what was learned of it, and the memory that it had.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::super::catalog::Catalog;
use super::super::curves::CurveFile;
use crate::runtime::{put_away, release_free_memory};
use crate::scheduler::{Curve, Stopped};

/// The end of a version's scheduler, and where what it has learned is kept.
pub(super) struct Stopping {
    pub(super) stopped: Stopped,
    pub(super) curve_file: Option<Arc<CurveFile>>,
}

impl Stopping {
    /// Waits until every request is answered, and keeps what was learned.
    pub(super) async fn done(self) {
        if let Some(lesson) = self.ended().await {
            lesson.keep().await;
        }
    }

    /// Waits until every request is answered, and gives what was learned, where that is to be kept.
    pub(super) async fn ended(self) -> Option<Lesson> {
        // An error means that it has stopped.
        Some(Lesson { curve: self.stopped.await.ok()?, file: self.curve_file? })
    }
}

/// What was learned of a version that has ended.
pub(super) struct Lesson {
    curve: Curve,
    file: Arc<CurveFile>,
}

impl Lesson {
    pub(super) async fn keep(self) {
        put_away(move || self.file.save(&self.curve)).await;
    }
}

/// Gives free memory back to the system.
pub(super) async fn give_memory_back() {
    put_away(release_free_memory).await;
}

/// Writes down what versions that serve have learned, as often as `every`, until there is no repository any more.
pub(super) async fn keep_curves(catalog: Weak<Catalog>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(models) = catalog.upgrade().map(|catalog| catalog.all_ready()) else { return };
        for model in models {
            model.keep_curve().await;
        }
    }
}
