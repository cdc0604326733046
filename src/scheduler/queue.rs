//! Waiting requests, in lanes: those of one lane may be joined into a batch, earliest deadline first.

use std::collections::VecDeque;

use slab::Slab;
use tokio::time::Instant;

use super::policy::{Entry, LaneView};

/// What can wait.
pub trait Item {
    /// Rows on dimension 0, at least 1.
    fn rows(&self) -> usize;

    /// Work of one row at most, in the curve's units: 1, or its cells where requests of different lengths are joined.
    fn unit(&self) -> usize {
        1
    }

    /// Whether this one and `other` may share a batch.
    fn joins(&self, other: &Self) -> bool;
}

/// A lane: the places are in order of their deadlines, of equal ones in order of arrival.
struct Lane {
    class: Priority,
    /// The same for lanes that differ only in class and unit.
    group: u64,
    unit: usize,
    rows: usize,
    places: VecDeque<Place>,
}

struct Place {
    entry: Entry,
    /// Where the item is.
    slot: usize,
}

/// How important a request is: lower values go first, whatever the deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u32);

impl Priority {
    /// What a request has that states none.
    pub const NORMAL: Priority = Priority(1 << 16);
    /// Work that only fills what is left over, and may be shed first.
    pub const LOW: Priority = Priority(u32::MAX - 1);
    /// Requests that missed their objective while the server was not overloaded: answered late, after all others.
    pub const LATE: Priority = Priority(u32::MAX);

    /// One of a model's own levels, from 1, the most important one (Triton's `priority_levels`).
    pub const fn level(level: u16) -> Self {
        Priority(level as u32)
    }

    /// Whether work of this class only fills what is left over.
    pub fn is_filler(self) -> bool {
        self >= Priority::LOW
    }
}

/// All lanes of one model version. A lane exists while something waits in it.
pub struct Queue<T> {
    lanes: Vec<Lane>,
    items: Slab<T>,
    joining: bool,
    groups: u64,
}

impl<T: Item> Queue<T> {
    /// A queue; without `joining`, every request is run alone, and all of one priority share a lane.
    pub fn new(joining: bool) -> Self {
        Self { lanes: Vec::new(), items: Slab::new(), joining, groups: 0 }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Work that goes before a request of [`Priority::NORMAL`] that arrives now.
    pub fn work_ahead(&self) -> usize {
        self.lanes.iter().filter(|lane| !lane.class.is_filler()).map(|lane| lane.rows * lane.unit).sum()
    }

    /// Work that waits in each lane, with its class.
    pub fn work_by_lane(&self) -> impl Iterator<Item = (Priority, usize)> + '_ {
        self.lanes.iter().map(|lane| (lane.class, lane.rows * lane.unit))
    }

    /// Takes out the requests that were due at `now` or before and gives them to `to`.
    pub fn take_expired(&mut self, now: Instant, to: impl FnMut(Entry, Priority, T)) {
        self.take_first(|entry| entry.deadline <= now, to);
    }

    /// Takes out the first requests of each lane for which `gone` holds, which must not hold again after one for which it
    /// does not, and gives them to `to`.
    pub fn take_first(&mut self, gone: impl Fn(&Entry) -> bool, mut to: impl FnMut(Entry, Priority, T)) {
        for lane in 0..self.lanes.len() {
            let Lane { class, places, .. } = &self.lanes[lane];
            let (class, count) = (*class, places.partition_point(|place| gone(&place.entry)));
            if count > 0 {
                self.take(lane, count, |entry, item| to(entry, class, item));
            }
        }
        self.settle();
    }

    /// Takes out all requests of `class` and gives them to `to`.
    pub fn remove_class(&mut self, class: Priority, mut to: impl FnMut(T)) {
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].class == class {
                self.take(lane, usize::MAX, |_, item| to(item));
            }
        }
        self.settle();
    }

    /// Whether requests of a lane may be joined.
    pub fn joining(&self) -> bool {
        self.joining
    }

    /// Puts `item` behind all of its lane that are due at the same time or before.
    pub fn push(&mut self, item: T, entry: Entry, class: Priority) {
        let lane = self.lane_for(&item, class);
        let place = Place { entry, slot: self.items.insert(item) };
        let lane = &mut self.lanes[lane];
        lane.rows += entry.rows;
        // Most requests have the same objective, so that the newest is the last one.
        let at = match lane.places.back() {
            Some(last) if last.entry.deadline > entry.deadline => {
                lane.places.partition_point(|before| before.entry.deadline <= entry.deadline)
            }
            _ => lane.places.len(),
        };
        lane.places.insert(at, place);
    }

    /// The lane of `class` that `item` joins; made where there is none.
    fn lane_for(&mut self, item: &T, class: Priority) -> usize {
        let alike = |lane: &Lane| {
            let head = lane.places.front().and_then(|place| self.items.get(place.slot));
            !self.joining || head.is_some_and(|head| head.joins(item))
        };
        let mut group = None;
        for (position, lane) in self.lanes.iter().enumerate().filter(|(_, lane)| alike(lane)) {
            if lane.class == class && (lane.unit == item.unit() || !self.joining) {
                return position;
            }
            group = Some(lane.group);
        }
        let group = group.unwrap_or_else(|| {
            self.groups += 1;
            self.groups
        });
        self.lanes.push(Lane { class, group, unit: item.unit(), rows: 0, places: VecDeque::new() });
        self.lanes.len() - 1
    }

    /// The lanes as the policy sees them.
    pub fn views(&self) -> impl Iterator<Item = LaneView<'_>> + Clone {
        self.lanes.iter().map(|lane| LaneView {
            class: lane.class,
            group: lane.group,
            unit: lane.unit,
            rows: lane.rows,
            entries: Entries(&lane.places),
        })
    }

    /// Takes the first `count` requests out of `lane` and gives them to `to`. The lane stays where it is, even if empty,
    /// until [`Queue::settle`].
    pub fn take(&mut self, lane: usize, count: usize, mut to: impl FnMut(Entry, T)) {
        let lane = &mut self.lanes[lane];
        for place in lane.places.drain(..count.min(lane.places.len())) {
            lane.rows -= place.entry.rows;
            to(place.entry, self.items.remove(place.slot));
        }
    }

    /// Forgets lanes in which nothing waits any more.
    pub fn settle(&mut self) {
        self.lanes.retain(|lane| !lane.places.is_empty());
    }

    /// Takes out the requests for which `gone` holds and gives them to `to`.
    pub fn remove(&mut self, gone: impl Fn(&T) -> bool, mut to: impl FnMut(T)) {
        let items = &mut self.items;
        for lane in &mut self.lanes {
            let rows = &mut lane.rows;
            lane.places.retain(|place| {
                let stays = !items.get(place.slot).is_some_and(&gone);
                if !stays {
                    *rows -= place.entry.rows;
                    to(items.remove(place.slot));
                }
                stays
            });
        }
        self.settle();
    }

    /// The earliest deadline of all that wait.
    pub fn earliest_deadline(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.places.front()).map(|place| place.entry.deadline).min()
    }
}

/// The requests of a lane, in the order in which they run.
#[derive(Clone, Copy)]
pub struct Entries<'a>(&'a VecDeque<Place>);

impl<'a> Entries<'a> {
    /// How many there are, at least 1.
    #[allow(clippy::len_without_is_empty, reason = "a lane without requests does not exist")]
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// The one at `position`, which must be below [`Entries::len`].
    pub fn at(self, position: usize) -> Entry {
        self.0[position].entry
    }

    /// Those from `position` on.
    pub fn from(self, position: usize) -> impl Iterator<Item = Entry> + 'a {
        self.0.range(position.min(self.0.len())..).map(|place| place.entry)
    }
}

#[cfg(test)]
mod tests;
