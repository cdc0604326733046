//! The runtime suite. Cases and signatures are tables over the files in `tests/fixtures`, for candle the folders in its `candle/`; `behaviour` holds what a table
//! cannot say. What an engine is known not to do stands in `gaps`: an entry that no longer fails, fails the suite.

mod behaviour;
mod cases;
mod engine;
mod gaps;
mod signatures;

use engine::Engine;

/// Every check over one engine, as tests that name it.
macro_rules! suite {
    ($engine:ident: $($check:ident::$name:ident),* $(,)?) => {
        mod $engine {
            use super::*;
            $(
                #[test]
                fn $name() {
                    if let Some(engine) = Engine::$engine() {
                        $check::$name(&engine);
                    }
                }
            )*
        }
    };
    ($($engine:ident),*) => {$(
        suite! { $engine:
            signatures::signatures_are_what_the_files_state,
            cases::every_case_has_the_expected_outcome,
            behaviour::rows_of_a_batch_are_answered_as_if_alone,
            behaviour::rows_that_influence_each_other_show_it,
            behaviour::outputs_come_as_asked_for_in_subset_and_order,
            behaviour::inputs_are_left_as_they_were,
            behaviour::an_instance_takes_batches_of_changing_size,
            behaviour::an_instance_takes_rows_of_changing_length,
            behaviour::an_instance_stays_usable_after_an_error,
            behaviour::an_instance_stays_usable_after_a_refusal,
            behaviour::instances_answer_rightly_on_several_threads_at_once,
            behaviour::instances_of_shared_weights_do_not_disturb_each_other,
            behaviour::outputs_outlive_their_instance_and_model,
            behaviour::a_missing_file_is_an_error_that_names_it,
            behaviour::loading_and_unloading_does_not_grow_the_process,
        }
    )*};
}

suite!(onnx, tract, candle, identity);
