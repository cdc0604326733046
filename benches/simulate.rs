//! The table of cells on a virtual clock: goodput of ours, of the best of 48 hand-tuned settings chosen for each cell with
//! hindsight, and of CORK. `SEED=n` begins with another seed; `--filter WORD` shows only cells whose names have the word.

use std::time::Duration;

#[allow(dead_code, reason = "the tests of the same engine use the rest")]
#[path = "../tests/simulation/engine/mod.rs"]
mod engine;

use engine::fifo::Tuned;
use engine::table::{Cell, REGIMES, TRAFFIC, tunings};

/// Shares of the capacity that are offered.
const LOADS: [f64; 6] = [0.3, 0.6, 0.9, 1.2, 2.0, 10.0];

/// Each cell is the mean of so many pairs of traffic and noise.
const SEEDS: u64 = 12;

/// Ours is to be no further below the best hand-tuned setting, in points of goodput.
const BELOW_MAX: f64 = 2.0;

struct Row {
    name: String,
    ours: f64,
    soft: f64,
    tuned: f64,
    setting: Tuned,
    cork: f64,
}

fn mean(count: u64, of: impl FnMut(u64) -> f64) -> f64 {
    (0..count).map(of).sum::<f64>() / count as f64
}

/// All competitors on the arrivals of the same seeds.
fn measure(name: String, cell: &Cell, first: u64) -> Row {
    let seeds: Vec<(u64, Vec<u64>)> = (first..first + SEEDS).map(|seed| (seed, cell.arrivals(seed))).collect();
    let mean = |of: &dyn Fn(&[u64], u64) -> f64| {
        mean(SEEDS, |position| {
            let (seed, arrivals) = &seeds[position as usize];
            of(arrivals, *seed)
        })
    };
    let scored = tunings(cell.regime.objective)
        .into_iter()
        .map(|tuned| (mean(&|arrivals, seed| cell.tuned(arrivals, seed, tuned)), tuned));
    let (tuned, setting) = scored.max_by(|a, b| a.0.total_cmp(&b.0)).expect("48 settings");
    let ours = mean(&|arrivals, seed| cell.ours(arrivals, seed, true));
    let soft = mean(&|arrivals, seed| cell.ours(arrivals, seed, false));
    let cork = mean(&|arrivals, seed| cell.cork(arrivals, seed));
    Row { name, ours, soft, tuned, setting, cork }
}

fn show(row: &Row, objective: f64) {
    let Row { name, ours, soft, tuned, setting, cork } = row;
    let queue = if setting.queue_max == usize::MAX { "inf".to_owned() } else { setting.queue_max.to_string() };
    let delay = Duration::from_nanos(setting.delay).as_secs_f64() / objective;
    let setting = format!("{delay:.2} x{} q{queue}", setting.batch_max);
    let (over_tuned, over_cork) = (ours - tuned, ours - cork);
    println!("{name:<24} {ours:7.1} {soft:7.1} {tuned:7.1} {cork:7.1} {over_tuned:+9.1} {over_cork:+9.1}   {setting}");
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filter = arguments.iter().position(|argument| argument == "--filter").and_then(|at| arguments.get(at + 1));
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!(
        "{:<24} {:>7} {:>7} {:>7} {:>7} {:>9} {:>9}   the best setting: delay of objective, rows, queue",
        "goodput, %", "ours", "soft", "tuned", "cork", "-tuned", "-cork"
    );
    let mut rows = Vec::new();
    let mut sustained: Vec<(String, f64)> = Vec::new();
    for regime in REGIMES {
        for (traffic, pattern) in TRAFFIC {
            for load in LOADS {
                let name = format!("{} {traffic} {load}", regime.name);
                if filter.is_some_and(|word| !name.contains(word.as_str())) {
                    continue;
                }
                let row = measure(name, &Cell { regime, pattern, load }, seed);
                show(&row, regime.objective);
                rows.push(row);
                if load == LOADS[LOADS.len() - 1] {
                    let full = Cell { regime, pattern, load: 1.0 };
                    let at_full = mean(SEEDS, |n| full.ours(&full.arrivals(seed + n), seed + n, true));
                    let at_ten = rows.last().map_or(0.0, |row| row.ours);
                    sustained.push((format!("{} {traffic}", regime.name), 100.0 * at_ten / at_full));
                }
            }
        }
    }
    summary(&rows, &sustained);
}

fn summary(rows: &[Row], sustained: &[(String, f64)]) {
    let worst = |against: &str, of: &dyn Fn(&Row) -> f64| {
        let Some(worst) = rows.iter().min_by(|a, b| of(a).total_cmp(&of(b))) else { return };
        let below = rows.iter().filter(|row| of(row) < -BELOW_MAX).count();
        let mean = rows.iter().map(of).sum::<f64>() / rows.len() as f64;
        println!(
            "{against}: {below} of {} cells more than {BELOW_MAX} points below; worst {:+.1} ({}); mean {mean:+.1}",
            rows.len(),
            of(worst),
            worst.name
        );
    };
    println!();
    worst("ours against the best hand-tuned setting", &|row| row.ours - row.tuned);
    worst("ours against CORK", &|row| row.ours - row.cork);
    worst("soft deadlines against firm ones", &|row| row.soft - row.ours);
    for (name, share) in sustained {
        println!("goodput at 10x of that at 1x, {name}: {share:.0} %");
    }
}
