//! `loadtest bench`: the whole performance table in one run, every figure beside its ceiling.
//!
//! Windows of ceiling and server alternate, because the machine changes its speed more than a server changes from one
//! commit to the next.

mod cases;
mod closed;
mod neighbour;
mod open;
mod overload;
mod paging;
mod pairs;
mod repository;
mod server;
mod single;
mod stranger;
mod table;
mod traffic;

use std::error::Error;
use std::ffi::OsStr;

use self::cases::Case;
use self::closed::Closed;
use self::table::Row;
use crate::cli::BenchArgs;
use crate::process;

pub(crate) use self::open::{Pool, Source};
pub(crate) use self::repository::Scratch;
pub(crate) use self::server::{Process, get};
pub(crate) use self::traffic::Door;

/// What all parts of the bench share: programs, folders and cores.
struct Place<'a> {
    args: &'a BenchArgs,
    scratch: &'a Scratch,
    server_core: usize,
    load_core: usize,
}

impl Place<'_> {
    /// Starts a server on these models and waits until it is ready.
    fn server(
        &self,
        name: &str,
        models: &[&str],
        core: Option<usize>,
        further: &[&OsStr],
    ) -> Result<Process, Box<dyn Error>> {
        let repository = self.scratch.repository(name, models, &self.args.models)?;
        let log = self.scratch.path(&format!("{name}.log"));
        let server = Process::server(&self.args.server, &repository, core, log, further)?;
        server.wait_ready()?;
        Ok(server)
    }
}

/// Takes rows as they come.
struct Show<'a> {
    filter: Option<&'a str>,
    all_met: bool,
}

impl Show<'_> {
    /// Whether anybody wants to see this case.
    fn wants(&self, case: &str) -> bool {
        self.filter.is_none_or(|part| case.contains(part))
    }

    /// Prints a row, if it is wanted.
    fn row(&mut self, row: &Row) {
        if self.wants(&row.case) {
            println!("{row}");
            self.all_met &= row.met() != Some(false);
        }
    }
}

/// Runs the bench and prints the table as it comes. False if a target was missed.
pub(crate) fn run(args: &BenchArgs) -> Result<bool, Box<dyn Error>> {
    let scratch = Scratch::new("bench")?;
    let cores = process::cores()?;
    let server_core = *cores.first().ok_or("no core to run on")?;
    let load_core = cores.get(1).copied().unwrap_or(server_core);
    if server_core == load_core {
        eprintln!("loadtest: only one core: generator and server share it, figures are not comparable");
    }
    let place = Place { args, scratch: &scratch, server_core, load_core };
    let mut show = Show { filter: args.filter.as_deref(), all_met: true };
    println!("{}", Row::heading());
    closed_loops(&place, &mut show)?;
    overload::show(&place, &mut show);
    neighbour::show(&place, &mut show);
    paging::show(&place, &mut show);
    if show.wants(single::MEMORY) {
        show.row(&single::idle_memory(&args.server, &scratch));
    }
    if show.wants(single::START) {
        show.row(&single::first_answer(&args.server, &args.models, &scratch));
    }
    Ok(show.all_met)
}

fn closed_loops(place: &Place<'_>, show: &mut Show<'_>) -> Result<(), Box<dyn Error>> {
    let cases: Vec<Case> = cases::all().into_iter().filter(|case| show.wants(&case.name)).collect();
    if cases.is_empty() {
        return Ok(());
    }
    let mut closed = Closed::start(place, &cases)?;
    for case in &cases {
        let failed = |error: Box<dyn Error>| Row::failed(&case.name, case.unit, case.target, error.to_string());
        show.row(&closed.case(case).unwrap_or_else(failed));
    }
    Ok(())
}
