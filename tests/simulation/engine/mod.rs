//! A discrete-event simulation of schedulers: ours, out of the production code, and two rivals, on the same arrivals and the
//! same machines. Time is virtual and in nanoseconds since the start; all chance comes from one seed.

pub(crate) mod cork;
pub(crate) mod fifo;
pub(crate) mod machine;
pub(crate) mod server;
pub(crate) mod table;
pub(crate) mod traffic;
pub(crate) mod world;

/// Virtual time since the start, in nanoseconds.
pub(crate) type Nanos = u64;

/// `seconds` as virtual time.
pub(crate) fn nanos(seconds: f64) -> Nanos {
    (seconds.max(0.0) * 1e9) as Nanos
}
