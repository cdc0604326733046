use proptest::prelude::*;

use super::*;
use crate::model::{ModelName, Version};

fn id(name: usize) -> Id {
    (ModelName::new(format!("m{name}")), Version::ONE)
}

fn resident(name: usize, bytes: u64, uses: u64, now: Instant) -> Resident {
    let mut usage = Usage::new(now - Duration::from_secs(60));
    usage.note(now - Duration::from_secs(1), uses);
    let since = now - Duration::from_secs(60);
    Resident { id: id(name), bytes, reload: Duration::from_millis(20), usage, since, busy: false, pinned: false }
}

fn now() -> Instant {
    Instant::now() + Duration::from_secs(1_000_000)
}

#[test]
fn the_one_that_spares_least_waiting_for_its_memory_leaves() {
    let now = now();
    let mut memory =
        Memory { residents: (0..3).map(|n| resident(n, 10, 5 + n as u64, now)).collect(), ..Memory::default() };
    assert_eq!(memory.room(now, 40, 10), Room::Free);
    assert_eq!(memory.room(now, 30, 10), Room::Without(vec![id(0)]));
    assert_eq!(memory.room(now, 30, 15), Room::Without(vec![id(0), id(1)]));
    memory.residents[0].reload = Duration::from_secs(2);
    assert_eq!(memory.room(now, 30, 10), Room::Without(vec![id(1)]), "a slow reload");
    memory.residents[2].bytes = 100;
    assert_eq!(memory.room(now, 120, 10), Room::Without(vec![id(2)]), "a large one");
}

#[test]
fn pinned_ones_stay_and_busy_ones_leave_last() {
    let now = now();
    let mut memory =
        Memory { residents: (0..3).map(|n| resident(n, 10, 5 + n as u64, now)).collect(), ..Memory::default() };
    (memory.residents[0].pinned, memory.residents[1].busy) = (true, true);
    assert_eq!(memory.room(now, 30, 10), Room::Without(vec![id(2)]));
    assert_eq!(memory.room(now, 30, 20), Room::Without(vec![id(2), id(1)]));
    assert_eq!(memory.room(now, 30, 21), Room::Never);
}

#[test]
fn what_was_just_brought_in_stays_for_a_while() {
    let now = now();
    let mut memory = Memory { residents: vec![resident(0, 10, 0, now), resident(1, 10, 9, now)], ..Memory::default() };
    memory.residents[0].since = now;
    assert_eq!(memory.room(now, 20, 10), Room::Without(vec![id(1)]));
    assert_eq!(memory.room(now, 20, 20), Room::At(now + STAY_MIN));
    memory.residents[0].reload = Duration::from_secs(3);
    assert_eq!(memory.room(now, 20, 20), Room::At(now + Duration::from_secs(6)));
    // Above the bound, only the newest is spared.
    assert_eq!(memory.surplus(now, 15), [id(1)]);
    assert_eq!(memory.surplus(now, 20), []);
}

#[test]
fn memory_that_is_about_to_be_free_is_waited_for() {
    let now = now();
    let memory = Memory { residents: vec![resident(0, 10, 1, now)], loading: 0, leaving: 10 };
    assert_eq!(memory.room(now, 20, 10), Room::Soon);
    let memory = Memory { residents: Vec::new(), loading: 20, leaving: 0 };
    assert_eq!(memory.room(now, 20, 10), Room::Soon);
}

#[test]
fn a_rate_fades_and_falls_with_a_pause() {
    let start = now();
    let mut usage = Usage::new(start);
    for second in 1..=600 {
        usage.note(start + Duration::from_secs(second), 10 * second);
    }
    let end = start + Duration::from_secs(600);
    let steady = usage.rate(end);
    assert!((9.0..11.0).contains(&steady), "{steady}");
    let later = usage.rate(end + Duration::from_secs(60));
    assert!((later - PAUSES / 60.0).abs() < 1e-9, "{later}");
    let pause = usage.rate(end + Duration::from_secs(3600));
    assert!(pause < 1e-12, "{pause}");
    usage.note(end, 3);
    assert!(usage.rate(end) > steady, "counts that begin anew");
}

#[test]
fn what_was_not_measured_takes_what_others_took_beside_their_files() {
    let mut sizes = Sizes::default();
    assert_eq!(sizes.of(&id(0), 100), 100 + OVERHEAD_BYTES);
    sizes.note(&id(0), 100, 1_000_100);
    assert_eq!(sizes.of(&id(0), 100), 1_000_100 + OVERHEAD_BYTES);
    assert_eq!(sizes.of(&id(1), 500), 1_000_500 + OVERHEAD_BYTES);
    sizes.note(&id(2), 900, 10);
    assert_eq!(sizes.of(&id(2), 900), 900 + OVERHEAD_BYTES, "files are the least");
}

proptest! {
    #[test]
    fn whoever_leaves_makes_room_and_nobody_leaves_in_vain(
        sizes in prop::collection::vec((1_u64..50, 0_u64..100, any::<bool>(), any::<bool>()), 0..12),
        needed in 0_u64..120,
        bytes_max in 1_u64..300,
    ) {
        let now = now();
        let residents: Vec<Resident> = sizes.iter().enumerate().map(|(name, &(bytes, uses, pinned, young))| {
            let since = if young { now } else { now - Duration::from_secs(60) };
            Resident { pinned, since, ..resident(name, bytes, uses, now) }
        }).collect();
        let memory = Memory { residents, ..Memory::default() };
        if let Room::Without(leavers) = memory.room(now, bytes_max, needed) {
            let bytes_of = |id: &Id| memory.residents.iter().find(|resident| resident.id == *id).unwrap();
            let freed: u64 = leavers.iter().map(|id| bytes_of(id).bytes).sum();
            prop_assert!(memory.bytes() - freed + needed <= bytes_max);
            for id in &leavers {
                prop_assert!(!bytes_of(id).pinned && bytes_of(id).stays_until() <= now);
                prop_assert!(memory.bytes() - (freed - bytes_of(id).bytes) + needed > bytes_max, "{id:?} in vain");
            }
        }
    }
}

/// Numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const MODELS: usize = 1000;
const RESIDENT: usize = 50;

/// Requests whose models follow Zipf's law; every `shift` requests other models are the popular ones.
fn zipf(seed: u64, count: usize, shift: usize) -> Vec<usize> {
    let mut random = Random(seed);
    let weights = (1..=MODELS).scan(0.0, |sum, rank| {
        *sum += 1.0 / rank as f64;
        Some(*sum)
    });
    let sums: Vec<f64> = weights.collect();
    let of = |number: usize, random: &mut Random| {
        let point = random.unit() * sums[MODELS - 1];
        let rank = sums.partition_point(|sum| *sum < point).min(MODELS - 1);
        (rank + number / shift * 100) % MODELS
    };
    (0..count).map(|number| of(number, &mut random)).collect()
}

/// Hits of the least recently used rule.
fn lru(trace: &[usize]) -> usize {
    let mut order: Vec<usize> = Vec::new();
    let mut hits = 0;
    for model in trace {
        if let Some(position) = order.iter().position(|known| known == model) {
            order.remove(position);
            hits += 1;
        } else if order.len() == RESIDENT {
            order.remove(0);
        }
        order.push(*model);
    }
    hits
}

/// Hits of ours, with a request every 100 ms.
fn ours(trace: &[usize]) -> usize {
    let start = now();
    let mut memory = Memory::default();
    let mut kept: BTreeMap<Id, (Usage, u64)> = BTreeMap::new();
    let mut hits = 0;
    for (number, &model) in trace.iter().enumerate() {
        let now = start + Duration::from_millis(100) * number as u32;
        let entry = kept.entry(id(model)).or_insert_with(|| (Usage::new(now), 0));
        entry.1 += 1;
        entry.0.note(now, entry.1);
        let usage = entry.0;
        if let Some(resident) = memory.residents.iter_mut().find(|resident| resident.id == id(model)) {
            resident.usage = usage;
            hits += 1;
            continue;
        }
        match memory.room(now, RESIDENT as u64, 1) {
            Room::Free => {}
            Room::Without(leavers) => memory.residents.retain(|resident| !leavers.contains(&resident.id)),
            other => panic!("{other:?}"),
        }
        let reload = Duration::from_millis(20);
        let brought = Resident { id: id(model), bytes: 1, reload, usage, since: now, busy: false, pinned: false };
        memory.residents.push(brought);
        assert!(memory.residents.len() <= RESIDENT);
    }
    hits
}

#[test]
fn of_a_thousand_models_with_room_for_fifty_as_many_are_hit_as_with_the_least_recently_used_rule() {
    for seed in 0..6 {
        // Popularity that stays, and one that moves on every 100 s and every 400 s.
        for shift in [usize::MAX, 1000, 4000] {
            let trace = zipf(seed, 8000, shift);
            let (ours, lru) = (ours(&trace) as f64 / 8000.0, lru(&trace) as f64 / 8000.0);
            assert!(ours >= lru - 0.05, "seed {seed}, shift {shift}: {ours:.3} of ours, {lru:.3} of theirs");
        }
    }
}

#[test]
fn what_is_free_is_given_back_when_it_is_much_and_at_last() {
    let mut freed = Freed::default();
    assert!(!freed.take());
    let given_back = (0..64).filter(|_| freed.note(1 << 20)).count();
    assert_eq!(given_back, 3, "17 MiB each time");
    assert!(freed.take() && !freed.take());
    assert!(freed.note(17 << 20), "a large one at once");
    assert!(!freed.take());
}
