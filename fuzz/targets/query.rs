//! Query strings: of every list and of the feed, and the secret in that of a callback.
#![no_main]

use std::{fmt::Debug, time::Duration};

use callback_ledger::{
    http::{
        api::fuzzing::{calls, events, forwards, notifications, operations, page, rejections, secret, wait},
        problem::Problem,
    },
    store::rows::PageRequest,
};
use callback_ledger_fuzz::memory::Bound;
use libfuzzer_sys::fuzz_target;

/// `type=call,call,…` is a list of names, and an unknown one is repeated in the message.
const READING: Bound = Bound { fixed: 4096, per_byte: 16 };

fuzz_target!(|input: &str| {
    let pages = [
        asked(input, operations),
        asked(input, calls),
        asked(input, notifications),
        asked(input, rejections),
        asked(input, forwards),
        READING.holds(input.len(), || page(input)).ok(),
    ];
    for PageRequest { after, limit } in pages.into_iter().flatten() {
        assert!((1..=250).contains(&limit), "{limit} rows");
        assert!(after.is_none_or(|after| after.0 >= 0), "{after:?}");
    }
    if let Ok((filter, patience)) = twice(input, wait) {
        assert!(filter.call_id.is_some() || filter.context.is_some(), "it waits for anything");
        assert!(patience <= Duration::from_mins(2), "it waits for {patience:?}");
    }
    let _fed = twice(input, |query| events(query, None));
    if let Some(secret) = READING.holds(input.len(), || secret(input)) {
        assert!(input.matches("secret=").count() > 0 && secret.expose().len() <= input.len());
    }
});

fn asked<Filter: Debug>(query: &str, read: fn(&str) -> Result<(Filter, PageRequest), Problem>) -> Option<PageRequest> {
    twice(query, read).ok().map(|(_, page)| page)
}

/// What is read, the second time as the first.
fn twice<T: Debug>(query: &str, read: impl Fn(&str) -> Result<T, Problem>) -> Result<T, Problem> {
    let asked = READING.holds(query.len(), || read(query));
    assert_eq!(format!("{asked:?}"), format!("{:?}", read(query)), "read twice, it asks two things");
    asked
}
