//! `instance_group`: how many executable copies, and where.

use std::num::{NonZeroU32, NonZeroUsize};

use super::fields::{Fields, Notes, boolean, choice, natural};
use crate::model::{DeviceChoice, ModelSettings};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Any,
    Cpu,
    Gpu,
}

const KINDS: [(&str, i128, Kind); 4] =
    [("KIND_AUTO", 0, Kind::Any), ("KIND_GPU", 1, Kind::Gpu), ("KIND_CPU", 2, Kind::Cpu), ("KIND_MODEL", 3, Kind::Any)];

/// One group.
struct Group<'a> {
    fields: Fields<'a>,
    kind: Kind,
    count: usize,
    /// The first of its GPUs.
    gpu: Option<u32>,
}

/// Reads all groups into `settings`. Several groups sum; but all instances of a model are on one device here, so that of groups
/// on GPUs and on the processor the former are made.
pub(super) fn read(root: &mut Fields<'_>, settings: &mut ModelSettings, notes: &mut Notes) {
    let groups: Vec<Group<'_>> = root
        .nested_each("instance_group", notes)
        .into_iter()
        .filter_map(|fields| group(fields, settings, notes))
        .collect();
    let has = |kind: Kind| groups.iter().any(|group| group.kind == kind);
    let on_gpu = has(Kind::Gpu);
    settings.device = match groups.iter().find(|group| group.kind == Kind::Gpu) {
        Some(first) => DeviceChoice::Cuda(first.gpu),
        None if has(Kind::Cpu) => DeviceChoice::Cpu,
        None => DeviceChoice::Auto,
    };
    let mut total = 0_usize;
    for group in groups {
        if on_gpu && group.kind != Kind::Gpu {
            group.fields.warn(
                "kind",
                notes,
                "not made: all instances are on one device, and another group asks for a GPU",
            );
        } else {
            total = total.saturating_add(group.count);
        }
        group.fields.finish(notes);
    }
    settings.instances = NonZeroUsize::new(total);
}

/// One group; none where it is passive.
fn group<'a>(mut fields: Fields<'a>, settings: &mut ModelSettings, notes: &mut Notes) -> Option<Group<'a>> {
    // Triton reads a count of zero as one that is missing: one instance.
    let count = fields.read("count", notes, natural).unwrap_or(1).max(1);
    let kind = fields.read("kind", notes, |value| choice(value, &KINDS)).unwrap_or(Kind::Any);
    let passive = fields.read("passive", notes, boolean).unwrap_or(false);
    let gpus = fields.read_each("gpus", notes, |value| {
        let number = natural(value)?;
        u32::try_from(number).map_err(|_| format!("expected the number of a GPU, got {number}"))
    });
    fields.skip("name");
    for name in ["profile", "secondary_devices", "host_policy"] {
        fields.ignore(name, notes, "not used");
    }
    if let Some(mut limiter) = fields.nested("rate_limiter", notes) {
        // An instance of priority 2 has half the chances of one of priority 1; 0 is read as 1.
        let priority = limiter.read("priority", notes, natural).filter(|&priority| priority > 0);
        let thousandths = priority.map(|priority| u32::try_from(1000 / priority).unwrap_or(u32::MAX).max(1));
        settings.weight = settings.weight.or(thousandths.and_then(NonZeroU32::new));
        limiter.ignore("resources", notes, "not used: instances take cores, and nothing else");
        limiter.finish(notes);
    }
    if kind == Kind::Cpu && !gpus.is_empty() {
        // Triton's own rule.
        fields.fault("gpus", notes, "names GPUs, and the kind is KIND_CPU");
    } else if kind == Kind::Gpu && gpus.len() > 1 {
        let rest = "serve the model under another name for the others";
        fields.warn("gpus", notes, format!("instances are made on GPU {} alone: {rest}", gpus[0]));
    }
    if passive {
        fields.warn("passive", notes, "passive instances are not made");
        fields.finish(notes);
        return None;
    }
    Some(Group { fields, kind, count, gpu: gpus.first().copied() })
}
