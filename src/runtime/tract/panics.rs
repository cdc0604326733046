//! Panics of tract as errors.
//!
//! tract indexes, unwraps and divides where other engines return an error, also for a request's values: an index out of
//! range is a panic. Such a panic is an answer like any other, so it neither takes the thread down nor fills the log with a
//! trace per poisoned request; its place and text go into the error.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

use tract_onnx::tract_hir::internal::{TractResult, format_err};

thread_local! {
    /// Whether this thread is within [`caught`].
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    /// Where the panic was that is being caught.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

static HOOK: Once = Once::new();

/// Calls into tract: a panic becomes an error.
///
/// Unwind safety: every caller drops what `call` was working on when it fails.
pub(super) fn caught<T>(call: impl FnOnce() -> TractResult<T>) -> TractResult<T> {
    HOOK.call_once(listen);
    let outer = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    CATCHING.set(outer);
    result.unwrap_or_else(|panic| {
        let place = PLACE.take().map(|place| format!(" at {place}")).unwrap_or_default();
        Err(format_err!("tract panicked{place}: {}", text(&*panic)))
    })
}

/// Puts a hook before the process's own, which stays in charge of every panic that is not caught here.
fn listen() {
    let process_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        if CATCHING.get() {
            PLACE.set(panic.location().map(|at| format!("{}:{}", within_crate(at.file()), at.line())));
        } else {
            process_hook(panic);
        }
    }));
}

/// The path from the crate's folder on: the rest is where the building machine keeps its registry.
fn within_crate(file: &str) -> &str {
    file.find("tract-").map_or(file, |start| &file[start..])
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
