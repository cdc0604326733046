//! Guarded rollouts: a new revision gets its share step by step, as long as it is shown to do as well as the one that it takes over
//! from. Pure: what pods count comes in, the step comes out; `plan` makes the weights of it, `run` reads the pods.
//!
//! Each step is judged by what both revisions have counted in it, at the same time, by the tests of [`tensorgate_contract::verdict`], which may be
//! looked at as often as one likes. Any condition that is shown to be broken ends the rollout with nothing left for the new
//! revision; a step is gone on from when all are shown to hold; what can be shown neither way is held.
//!
//! Where the guard asks for it there is a step before the first, the shadow's: nobody gets an answer of the new revision, and those that
//! it would have given are compared by the routers, whose counts are what that step is judged by.

pub mod analysis;
pub mod guard;
pub mod shadow;
pub mod step;
pub mod tally;

pub use self::analysis::{Analysis, Finding, Outcome};
pub use self::guard::Guard;
pub use self::shadow::{Compared, Shadow, ShadowAnalysis};
pub use self::step::{Facts, decide};
pub use self::tally::Tally;
