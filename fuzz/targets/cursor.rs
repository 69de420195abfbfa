//! Cursors, ids and the rest of what clients give back: one text, a line break, the query of a request that gets a `nextLink`.
#![no_main]

use std::{fmt::Display, str::FromStr};

use callback_ledger::{
    domain::ids::{DeliveryId, ForwardId, NotificationId, OperationId, PlatformId, RejectionId, RequestId, Seq},
    http::api::fuzzing::{cursor, events, next_link, page},
};
use callback_ledger_fuzz::memory::Bound;
use libfuzzer_sys::fuzz_target;
use url::form_urlencoded;

/// A link grows by doubling, and writes a byte with three.
const READING: Bound = Bound { fixed: 4096, per_byte: 16 };

fuzz_target!(|input: &str| {
    let (text, query) = input.split_once('\n').unwrap_or((input, ""));
    if let Ok(position) = READING.holds(text.len(), || cursor(text)) {
        assert!(position.0 >= 0, "a position before the first");
        assert_eq!(cursor_of(&link("/v1/calls", position)), text, "two texts for one position");
        if let Some(link) = READING.holds(input.len(), || next_link(&format!("/v1/calls?{query}"), position)) {
            leads_on(&link, query, position);
        }
    }
    if let Ok((_, Some(after))) = READING.holds(text.len(), || events("", Some(text.as_bytes()))) {
        assert!(after.0 >= 0, "a position before the first");
    }
    reads_back::<DeliveryId>(text);
    reads_back::<NotificationId>(text);
    reads_back::<OperationId>(text);
    reads_back::<RequestId>(text);
    reads_back::<ForwardId>(text);
    reads_back::<RejectionId>(text);
    if let Some(id) = PlatformId::parse(text) {
        assert_eq!(PlatformId::parse(id.as_str()).as_ref(), Some(&id), "a spelling that is not the last");
    }
});

fn link(uri: &str, position: Seq) -> String {
    next_link(uri, position).expect("there is a next page")
}

/// The link keeps what was asked, but for the cursor.
fn leads_on(link: &str, query: &str, position: Seq) {
    let (_, behind) = link.split_once('?').expect("a link has a query");
    let pairs =
        |query: &str| form_urlencoded::parse(query.as_bytes()).into_owned().filter(|(name, _)| name != "cursor").collect();
    let asked = query.split_once('#').map_or(query, |(query, _)| query);
    let (kept, asked): (Vec<_>, Vec<_>) = (pairs(behind), pairs(asked));
    assert_eq!(kept, asked, "{link} does not ask what was asked");
    assert_eq!(cursor(&cursor_of(link)).ok(), Some(position));
    let alone = page(&format!("cursor={}", cursor_of(link))).expect("a page that we named is one");
    assert_eq!(alone.after, Some(position));
}

fn cursor_of(link: &str) -> String {
    let (_, query) = link.split_once('?').expect("a link has a query");
    let cursors: Vec<_> = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "cursor").collect();
    let [(_, cursor)] = cursors.as_slice() else { panic!("{link} has not one cursor") };
    cursor.to_string()
}

fn reads_back<Id: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(id) = text.parse::<Id>() {
        assert!(id.to_string().parse::<Id>().is_ok_and(|again| again == id), "{text} is {id}, and that is another");
    }
}
