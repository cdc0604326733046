//! The storage suite: what holds of every store (`every`), of stores and networks that do wrong (`faults`), and of the cache that
//! servers share (`cache`). Real servers of each protocol are in `tests/clients/with_stores`.

#[allow(dead_code)] // The bench `fetch` asks for its address.
mod bucket;
mod cache;
mod every;
mod faults;
mod place;

use place::Kind;

/// Every check over one kind of store, as tests that name it.
macro_rules! suite {
    ($kind:ident: $($check:ident),* $(,)?) => {
        mod $kind {
            use super::*;
            $(
                #[test]
                fn $check() {
                    every::$check(Kind::$kind());
                }
            )*
        }
    };
    ($($kind:ident),*) => {$(
        suite! { $kind:
            a_listing_tells_every_object_and_its_size,
            a_folder_is_what_the_store_holds,
            what_is_there_is_not_fetched_again,
            a_changed_object_is_fetched_anew,
            an_object_that_is_not_the_one_listed_is_noticed,
            wrong_digests_are_refused_and_right_ones_are_not,
            nothing_there_is_said,
            a_folder_of_a_listing_is_listed_alone,
        }
    )*};
}

suite!(local, memory, s3, web);
