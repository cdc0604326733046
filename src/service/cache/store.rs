//! Kept answers, within bounds in bytes: one for each model, one for all. The one that was used longest ago leaves first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::watch;

use super::key::Key;
use crate::infer::{InferResponse, Parameters};
use crate::repository::Life;
use crate::telemetry::Telemetry;
use crate::tensor::Tensor;

/// What an answer takes beside its tensors: key, maps and shapes, some hundreds of bytes.
const OVERHEAD_BYTES: usize = 512;

/// Outputs that can be given again.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) outputs: SmallVec<[(Arc<str>, Tensor); 2]>,
    /// What was told beside them; a few numbers.
    pub(super) parameters: Parameters,
    bytes: usize,
}

impl Answer {
    /// A copy of what `response` gives: its own tensors may be parts of a whole batch's memory.
    pub(super) fn of(response: &InferResponse) -> Self {
        let copied = |(name, tensor): &(Arc<str>, Tensor)| {
            let data = Bytes::copy_from_slice(tensor.data());
            let copy = Tensor::new(tensor.datatype(), tensor.shape().clone(), data);
            // The same bytes fit as they did.
            (Arc::clone(name), copy.unwrap_or_else(|_| tensor.clone()))
        };
        let outputs: SmallVec<[(Arc<str>, Tensor); 2]> = response.outputs.iter().map(copied).collect();
        let bytes = outputs.iter().map(|(_, tensor)| tensor.data().len()).sum::<usize>() + OVERHEAD_BYTES;
        Self { outputs, parameters: response.parameters.clone(), bytes }
    }
}

/// Answers of all models.
pub struct ResponseCache {
    bytes_max: usize,
    telemetry: Arc<Telemetry>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By load of a version: another load answers anew.
    loads: HashMap<u64, Load>,
    bytes: usize,
    /// Counts uses, which orders them.
    uses: u64,
}

/// The answers of one load of a version.
#[derive(Default)]
struct Load {
    kept: HashMap<Key, Kept>,
    /// Keys by their last use.
    order: BTreeMap<u64, Key>,
    bytes: usize,
    under_way: HashMap<Key, watch::Receiver<Landing>>,
}

struct Kept {
    answer: Arc<Answer>,
    used: u64,
}

/// The answer that others wait for, once it is there.
type Landing = Option<Arc<Answer>>;

/// What there is for a request.
pub(super) enum Looked {
    /// Its answer.
    Kept(Arc<Answer>),
    /// Another one that runs; its sender goes where it fails.
    UnderWay(watch::Receiver<Landing>),
    /// Nothing: whoever asked runs it, for all who ask meanwhile.
    Unknown(Lead),
}

impl ResponseCache {
    /// At most `bytes_max` bytes for all models together, shown in `telemetry`.
    pub fn new(bytes_max: usize, telemetry: Arc<Telemetry>) -> Arc<Self> {
        Arc::new(Self { bytes_max, telemetry, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is for `key` of the load `life`.
    pub(super) fn look_up(self: &Arc<Self>, life: &Life, key: Key) -> Looked {
        let mut state = self.state();
        state.uses += 1;
        let used = state.uses;
        let load = state.loads.entry(life.number()).or_insert_with(|| {
            let (cache, number, ended) = (Arc::downgrade(self), life.number(), life.ended());
            // Answers go with the load that gave them.
            tokio::spawn(async move {
                ended.await;
                if let Some(cache) = cache.upgrade() {
                    cache.forget(number);
                }
            });
            Load::default()
        });
        if let Some(kept) = load.kept.get_mut(&key) {
            load.order.remove(&kept.used);
            load.order.insert(used, key);
            kept.used = used;
            return Looked::Kept(Arc::clone(&kept.answer));
        }
        if let Some(landing) = load.under_way.get(&key) {
            return Looked::UnderWay(landing.clone());
        }
        let (land, landing) = watch::channel(None);
        load.under_way.insert(key, landing);
        Looked::Unknown(Lead { cache: Arc::clone(self), number: life.number(), key, land })
    }

    fn forget(&self, number: u64) {
        let mut state = self.state();
        if let Some(load) = state.loads.remove(&number) {
            state.bytes -= load.bytes;
            self.telemetry.set_cache_bytes(state.bytes);
        }
    }

    fn keep(&self, number: u64, key: Key, answer: Arc<Answer>, load_bytes_max: usize) {
        let bytes_max = load_bytes_max.min(self.bytes_max);
        if answer.bytes > bytes_max {
            return;
        }
        let mut state = self.state();
        state.uses += 1;
        let (used, bytes) = (state.uses, answer.bytes);
        // It may have ended meanwhile.
        let Some(load) = state.loads.get_mut(&number) else { return };
        if load.kept.contains_key(&key) {
            return;
        }
        load.kept.insert(key, Kept { answer, used });
        load.order.insert(used, key);
        load.bytes += bytes;
        let mut freed = 0;
        while load.bytes > bytes_max {
            freed += load.drop_oldest();
        }
        state.bytes += bytes;
        state.bytes -= freed;
        while state.bytes > self.bytes_max {
            let oldest = |load: &Load| load.order.keys().next().copied();
            let loads = state.loads.iter().filter_map(|(number, load)| Some((oldest(load)?, *number)));
            let Some((_, number)) = loads.min() else { break };
            let freed = state.loads.get_mut(&number).map_or(0, Load::drop_oldest);
            state.bytes -= freed;
        }
        self.telemetry.set_cache_bytes(state.bytes);
    }

    /// Bytes that are kept, and answers.
    pub fn held(&self) -> (usize, usize) {
        let state = self.state();
        (state.bytes, state.loads.values().map(|load| load.kept.len()).sum())
    }
}

impl Load {
    /// Drops the answer that was used longest ago; gives its bytes.
    fn drop_oldest(&mut self) -> usize {
        let Some((_, key)) = self.order.pop_first() else { return 0 };
        let bytes = self.kept.remove(&key).map_or(0, |kept| kept.answer.bytes);
        self.bytes -= bytes;
        bytes
    }
}

/// A request that runs for all who ask the same. Dropped without an answer, it has them run for themselves.
pub(super) struct Lead {
    cache: Arc<ResponseCache>,
    number: u64,
    key: Key,
    land: watch::Sender<Landing>,
}

impl Lead {
    /// Gives `answer` to those who wait, and keeps it for later within `bytes_max` for its load.
    pub(super) fn land(self, answer: Answer, bytes_max: usize) {
        let answer = Arc::new(answer);
        self.cache.keep(self.number, self.key, Arc::clone(&answer), bytes_max);
        self.land.send_replace(Some(answer));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut state = self.cache.state();
        if let Some(load) = state.loads.get_mut(&self.number) {
            load.under_way.remove(&self.key);
        }
    }
}
