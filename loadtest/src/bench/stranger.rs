//! What any work on the same cores costs requests, whoever does it: threads of this process at the lowest priority, which read as many
//! bytes over and over as a model has weights. A server's own work meanwhile can cost them no less, as long as it shares their cores.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::process;

/// The weights of mlp. More than a core's own cache has room for, as those of most models are.
const BYTES: usize = 6 << 20;
/// How long it computes at a time where it does not without end: about as long as a page-in of a small model.
const BURST: Duration = Duration::from_millis(2);

/// Does `work` while a stranger computes: on `core` alone, or on each of `cores`, the share `busy` of their time.
pub(super) fn beside<T>(core: Option<usize>, cores: usize, busy: f64, work: impl FnOnce() -> T) -> T {
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..core.map_or(cores, |_| 1) {
            scope.spawn(|| {
                // Where it cannot be had, the stranger is merely more noticeable.
                let _ = core.map(process::pin);
                let _ = process::give_way();
                compute(busy, &end);
            });
        }
        let done = work();
        end.store(true, Ordering::Relaxed);
        done
    })
}

fn compute(busy: f64, end: &AtomicBool) {
    let weights = vec![1.0_f32; BYTES / size_of::<f32>()];
    let pause = BURST.mul_f64((1.0 / busy.clamp(0.01, 1.0)) - 1.0);
    while !end.load(Ordering::Relaxed) {
        let begun = Instant::now();
        for chunk in weights.chunks(4096).cycle() {
            black_box(chunk.iter().sum::<f32>());
            if begun.elapsed() >= BURST {
                break;
            }
        }
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_computes_until_the_work_is_done() {
        let spent = || process::cpu_time(std::process::id()).expect("own CPU clock");
        let before = spent();
        let took = beside(None, 1, 1.0, || {
            while spent() - before < Duration::from_millis(5) {
                std::thread::yield_now();
            }
            7
        });
        assert_eq!(took, 7);
    }
}
