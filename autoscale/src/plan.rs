//! What one replica is planned to serve within the objective.

use tensorgate_contract::capacity::{self, Conditions};

use crate::chain;
use crate::model::Model;

/// Executions from which a curve is trusted: the server's own learning has settled by then.
pub const TRUSTED_AFTER: u64 = 200;

/// The share of what a model promises that is planned with: the chain is up to 3 % above what simulation at request level
/// shows.
const PLANNED: f64 = 0.97;

/// The 99th percentile of a normal distribution, in standard deviations.
const P99_DEVIATIONS: f64 = 2.33;

/// What is planned of the highest throughput where no batch fits the objective at all: as much as others' rules of thumb have it.
const INFEASIBLE: f64 = 0.7;

/// What one replica serves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Plan {
    /// Rows per second within the objective.
    pub rows_per_second: f64,
    /// Rows of the batches that reach it.
    pub batch: usize,
    /// Whether the objective can be met at all; where not, the rate is a share of the highest throughput.
    pub feasible: bool,
}

/// What a replica with `model` serves of arrivals whose counts have the index of dispersion `dispersion` (variance over mean; 1
/// for independent callers). None where nothing was measured.
pub fn plan(model: &Model, dispersion: f64) -> Option<Plan> {
    if model.points.is_empty() || model.objective.is_zero() {
        return None;
    }
    let batch = model.fitting();
    if batch == 0 {
        let rows_per_second = INFEASIBLE * model.throughput();
        return Some(Plan { rows_per_second, batch: model.largest(), feasible: false });
    }
    if model.executions < TRUSTED_AFTER {
        return Some(Plan { rows_per_second: prior(model, batch, dispersion), batch, feasible: true });
    }
    let rows_per_second = if model.instances <= 1 {
        PLANNED * chain::capacity(model, batch, dispersion)
    } else {
        let Model { objective, instances, rows_max, unit, .. } = *model;
        let conditions = Conditions { objective, instances, rows_max, unit, burstiness: dispersion };
        capacity::capacity(&model.points, &conditions).rows_per_second
    };
    // A curve that promises next to nothing is one that was measured badly.
    let rows_per_second = rows_per_second.max(prior(model, batch, dispersion).min(INFEASIBLE * model.throughput()));
    Some(Plan { rows_per_second, batch, feasible: true })
}

/// The rate at which the rows that arrive while a batch of `batch` rows runs fit the next one in 99 of 100 cases:
/// `rT + z sqrt(I r T) = b`. Safe, at half to two thirds of what can be served.
fn prior(model: &Model, batch: usize, dispersion: f64) -> f64 {
    let spread = P99_DEVIATIONS * dispersion.max(1.0).sqrt();
    let root = ((spread * spread + 4.0 * batch as f64).sqrt() - spread) / 2.0;
    root * root / model.seconds(batch).1 * model.instances.max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tensorgate_contract::capacity::Point;

    use super::*;

    /// A model that takes `fixed` and `each` for every row, in milliseconds, measured up to `largest` rows.
    pub(crate) fn model(fixed: f64, each: f64, largest: usize, objective: f64) -> Model {
        let point = |work: usize| {
            let centre = Duration::from_secs_f64((fixed + each * work as f64) / 1e3);
            Point { work, centre, upper: centre.mul_f64(1.1) }
        };
        Model {
            points: capacity::sizes(largest).map(point).collect(),
            executions: 10_000,
            objective: Duration::from_secs_f64(objective / 1e3),
            instances: 1,
            rows_max: usize::MAX,
            unit: 1,
        }
    }

    #[test]
    fn nothing_is_planned_of_a_model_that_nobody_has_measured() {
        assert_eq!(plan(&Model { objective: Duration::from_secs(1), ..Model::default() }, 1.0), None);
    }

    #[test]
    fn an_objective_that_no_batch_meets_is_told_and_planned_by_throughput() {
        let planned = plan(&model(100.0, 10.0, 16, 120.0), 1.0).unwrap();
        assert!(!planned.feasible);
        assert!((planned.rows_per_second / (0.7 * 16.0 / 0.26) - 1.0).abs() < 1e-6, "{planned:?}");
    }

    #[test]
    fn a_model_that_ran_seldom_is_planned_more_carefully_than_one_that_is_known() {
        let known = model(50.0, 12.5, 16, 2000.0);
        let young = Model { executions: 10, ..known.clone() };
        let (known, young) = (plan(&known, 1.0).unwrap(), plan(&young, 1.0).unwrap());
        assert!(young.rows_per_second < 0.8 * known.rows_per_second, "{young:?} {known:?}");
        assert!(known.rows_per_second > 0.85 * 64.0 && known.rows_per_second < 64.0, "{known:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

        #[test]
        fn bursts_never_serve_more_and_a_looser_objective_never_less(
            fixed in 1.0..100.0_f64, each in 0.1..30.0_f64, largest in 1_usize..48, times in 2.4..20.0_f64,
            dispersion in 1.0..20.0_f64,
        ) {
            let objective = (fixed + each) * 1.1 * times;
            let base = plan(&model(fixed, each, largest, objective), dispersion).unwrap().rows_per_second;
            let calm = plan(&model(fixed, each, largest, objective), 1.0).unwrap().rows_per_second;
            let loose = plan(&model(fixed, each, largest, objective * 2.0), dispersion).unwrap().rows_per_second;
            prop_assert!(base > 0.0 && base <= largest as f64 / (fixed + each) * 1e3 + largest as f64 / each * 1e3);
            prop_assert!(calm >= base * 0.99, "{} {}", calm, base);
            // Larger batches become possible, and the steps of batch sizes are coarse.
            prop_assert!(loose >= base * 0.97, "{} {}", loose, base);
        }
    }
}
