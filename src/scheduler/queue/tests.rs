use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A request of some kind; requests of one kind join.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Thing {
    id: usize,
    kind: u8,
    rows: usize,
}

impl Item for Thing {
    fn rows(&self) -> usize {
        self.rows
    }

    fn joins(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push { kind: u8, class: Priority, rows: usize, due: u64 },
    Expire(u64),
    RemoveEach(usize),
    RemoveClass(Priority),
    Take { lane: usize, count: usize },
}

fn classes() -> impl Strategy<Value = Priority> {
    prop_oneof![
        4 => Just(Priority::NORMAL),
        1 => Just(Priority::LOW),
        1 => Just(Priority::LATE),
        1 => Just(Priority::level(1))
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let push = (0..3_u8, classes(), 1..5_usize, 0..100_u64);
    let step = prop_oneof![
        8 => push.prop_map(|(kind, class, rows, due)| Step::Push { kind, class, rows, due }),
        1 => (0..60_u64).prop_map(Step::Expire),
        1 => (2..5_usize).prop_map(Step::RemoveEach),
        1 => classes().prop_map(Step::RemoveClass),
        2 => (0..8_usize, 0..6_usize).prop_map(|(lane, count)| Step::Take { lane, count }),
    ];
    prop::collection::vec(step, 0..80)
}

/// All that waits, in order of arrival.
type Naive = Vec<(Thing, Entry, Priority)>;

fn split_off(naive: &mut Naive, out: impl Fn(&(Thing, Entry, Priority)) -> bool) -> Vec<usize> {
    let gone = naive.iter().filter(|waits| out(waits)).map(|(thing, ..)| thing.id).collect();
    naive.retain(|waits| !out(waits));
    gone
}

proptest! {
    #[test]
    fn a_queue_gives_out_what_a_list_searched_from_end_to_end_would(steps in steps(), joining: bool) {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let (mut queue, mut naive): (Queue<Thing>, Naive) = (Queue::new(joining), Vec::new());
        for (id, step) in steps.into_iter().enumerate() {
            let mut out: Vec<usize> = Vec::new();
            let mut expected = match step {
                Step::Push { kind, class, rows, due } => {
                    let (thing, entry) = (
                        Thing { id, kind, rows },
                        Entry { deadline: at(due), arrived: start, rows, firm: true },
                    );
                    queue.push(thing, entry, class);
                    naive.push((thing, entry, class));
                    Vec::new()
                }
                Step::Expire(now) => {
                    queue.take_expired(at(now), |_, _, thing| out.push(thing.id));
                    split_off(&mut naive, |(_, entry, _)| entry.deadline <= at(now))
                }
                Step::RemoveEach(each) => {
                    queue.remove(|thing| thing.id.is_multiple_of(each), |thing| out.push(thing.id));
                    split_off(&mut naive, |(thing, ..)| thing.id.is_multiple_of(each))
                }
                Step::RemoveClass(class) => {
                    queue.remove_class(class, |thing| out.push(thing.id));
                    split_off(&mut naive, |(_, _, other)| *other == class)
                }
                Step::Take { lane, count } => {
                    let first = queue.views().nth(lane).map(|view| (view.class, view.group));
                    let Some((class, _)) = first else { continue };
                    queue.take(lane, count, |_, thing| out.push(thing.id));
                    queue.settle();
                    let kind = out.first().and_then(|id| naive.iter().find(|(thing, ..)| thing.id == *id));
                    let kind = kind.map(|(thing, ..)| thing.kind);
                    let mut alike: Vec<_> = naive
                        .iter()
                        .filter(|(thing, _, other)| *other == class && (!joining || Some(thing.kind) == kind))
                        .map(|(thing, entry, _)| (entry.deadline, thing.id))
                        .collect();
                    alike.sort();
                    let taken: Vec<usize> = alike.into_iter().take(count).map(|(_, id)| id).collect();
                    prop_assert_eq!(&out, &taken, "earliest deadline first, of equal ones the first to come");
                    split_off(&mut naive, |(thing, ..)| taken.contains(&thing.id))
                }
            };
            out.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(out, expected);
            prop_assert_eq!(queue.len(), naive.len());
            prop_assert_eq!(queue.is_empty(), naive.is_empty());
            let ahead: usize = naive.iter().filter(|(_, _, class)| !class.is_filler()).map(|(thing, ..)| thing.rows).sum();
            prop_assert_eq!(queue.work_ahead(), ahead);
            prop_assert_eq!(queue.earliest_deadline(), naive.iter().map(|(_, entry, _)| entry.deadline).min());
            for view in queue.views() {
                let entries: Vec<Entry> = view.entries.from(0).collect();
                prop_assert!(entries.is_sorted_by_key(|entry| entry.deadline));
                prop_assert_eq!(view.rows, entries.iter().map(|entry| entry.rows).sum::<usize>());
            }
        }
    }
}
