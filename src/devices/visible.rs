//! Which GPUs CUDA shows to this process, and under which numbers.

use super::{Described, Gpu};

/// The GPUs out of `all` that `told` names, in its order, which is that of their numbers; all of them where nothing is told.
///
/// The rules are those of the CUDA programming guide for `CUDA_VISIBLE_DEVICES`: numbers, beginnings of UUIDs, or parts of a GPU
/// by `MIG-` UUIDs; what stands behind the first that names none, or one for the second time, is not there.
pub(super) fn visible(all: Vec<Described>, told: Option<&str>) -> Vec<Gpu> {
    let gpu = |number: usize, index: Option<usize>, described: Described| Gpu {
        number: u32::try_from(number).unwrap_or(u32::MAX),
        index: index.and_then(|index| u32::try_from(index).ok()),
        described,
    };
    let Some(told) = told else {
        return all.into_iter().enumerate().map(|(index, described)| gpu(index, Some(index), described)).collect();
    };
    let mut shown: Vec<Gpu> = Vec::new();
    for entry in told.split(',').map(str::trim) {
        if entry.starts_with("MIG-") {
            // NVML lists it below its GPU; what the whole GPU takes would not be about it.
            let described = Described { name: "part of a GPU".into(), uuid: entry.into(), memory_bytes: None };
            shown.push(gpu(shown.len(), None, described));
            continue;
        }
        let Some(index) = place(&all, entry) else { break };
        let next = gpu(shown.len(), Some(index), all[index].clone());
        if shown.iter().any(|earlier| earlier.index == next.index) {
            break;
        }
        shown.push(next);
    }
    shown
}

/// Which of `all` an entry names, if exactly one.
fn place(all: &[Described], entry: &str) -> Option<usize> {
    if entry.starts_with("GPU-") {
        let mut named = all.iter().enumerate().filter(|(_, gpu)| gpu.uuid.starts_with(entry)).map(|(index, _)| index);
        return named.next().filter(|_| named.next().is_none());
    }
    entry.parse().ok().filter(|&index: &usize| index < all.len())
}
