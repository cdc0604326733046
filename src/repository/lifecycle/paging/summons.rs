//! Requests that wait for a version to come into memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::super::Model;
use super::super::super::policy::{Id, Phase};
use super::super::Keeper;
use super::{LOAD_GUESS, SUMMONS_MAX, Summons};
use crate::error::{Error, Result};

impl Keeper {
    /// Answers those who wait for a version.
    pub(in super::super) fn answer_summons(&mut self, id: &Id, outcome: &Result<Arc<Model>>) {
        for summons in self.paging.summons.remove(id).unwrap_or_default() {
            // Whoever asked may have stopped waiting.
            let _ = summons.send(outcome.clone());
        }
    }

    /// Brings a version in for a request that waits for it until `deadline`.
    pub(in super::super) fn summon(&mut self, id: Id, deadline: Option<Instant>, reply: Summons) {
        let phase = self.actual.get(&id).copied();
        if self.stopping.contains_key(&id)
            && let Some(model) = self.catalog.get(&id.0, id.1)
        {
            let _ = reply.send(Ok(model));
            return;
        }
        match phase {
            Some(Phase::PagedOut(_)) => self.page_in(&id),
            Some(Phase::Loading(_)) => self.paging.demand(&id),
            _ => {
                let refusal = self.catalog.resolve(id.0.as_str(), Some(&id.1.to_string()));
                let _ = reply.send(refusal);
                return;
            }
        }
        let expected = self.expected(&id);
        let name = &id.0;
        if deadline.is_some_and(|deadline| Instant::now() + expected > deadline) {
            let message = format!(
                "model '{name}' is not in memory: bringing it in takes about {expected:.1?}, longer than the request may wait"
            );
            let _ = reply.send(Err(Error::unavailable(message).with_retry_after(expected)));
            return;
        }
        let waiting = self.paging.summons.entry(id.clone()).or_default();
        waiting.retain(|summons| !summons.is_closed());
        if waiting.len() >= SUMMONS_MAX {
            let message =
                format!("model '{name}': {SUMMONS_MAX} requests wait already for it to be brought into memory");
            let _ = reply.send(Err(Error::overloaded(message).with_retry_after(expected)));
            return;
        }
        waiting.push(reply);
    }

    /// Has a version that is paged out loaded, and others make room.
    pub(in super::super) fn page_in(&mut self, id: &Id) {
        let Some(&fingerprint) = self.wanted.get(id) else { return };
        self.actual.insert(id.clone(), Phase::Loading(fingerprint));
        self.paging.demand(id);
        self.paging.pending.push_back(id.clone());
    }

    /// How long it takes until `id` is in memory: its own load, after those that are before it.
    fn expected(&self, id: &Id) -> Duration {
        let reload = |id: &Id| self.paging.tracked.get(id).map(|tracked| tracked.reload);
        let usual = || {
            let (tracked, count) = (self.paging.tracked.values(), self.paging.tracked.len() as u32);
            tracked.map(|tracked| tracked.reload).sum::<Duration>().checked_div(count).unwrap_or(LOAD_GUESS)
        };
        if self.paging.loading.contains_key(id) {
            return reload(id).unwrap_or_else(usual);
        }
        let line = self.paging.pending.iter().filter(|other| self.paging.demanded.contains(*other));
        let before = line.take_while(|other| *other != id).chain(self.paging.loading.keys());
        let wait: Duration = before.map(|other| reload(other).unwrap_or_else(usual)).sum();
        wait / self.config.loads_at_once.max(1) as u32 + reload(id).unwrap_or_else(usual)
    }
}
