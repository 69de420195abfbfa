//! What a notification is about, as far as its URL tells.
//!
//! Documentation and captures spell it in many ways: `/communications/calls/{id}`, `/app/calls/{id}` (2018 beta and still
//! beside the other), `/applications/{id}/calls/{id}`, without the leading slash (`participant-startholdmusic`), with ids
//! undashed and upper-case.

use memchr::memchr2;

use crate::{
    domain::{ids::PlatformId, text},
    source::json::Fields,
};

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    /// The call.
    pub call: PlatformId,
    /// What of it.
    pub part: Part,
}

/// A call, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The call itself.
    Call,
    /// `operations`, and which.
    Operation(Option<PlatformId>),
    /// `participants`, one or all.
    Participants,
    /// `contentsharingsessions`, one or all.
    ContentSharingSessions,
    /// `audioroutinggroups`, one or all.
    AudioRoutingGroups,
    /// A collection that nobody has documented, in lower case.
    Unknown(String),
}

impl Resource {
    /// The resource of an item: `resourceUrl`, else the older `resource`, else what the data itself says.
    pub fn of(item: Fields<'_>, data: Fields<'_>) -> Option<Self> {
        [item.text("resourceUrl"), item.text("resource"), data.text("@odata.id")].into_iter().flatten().find_map(Self::parse)
    }

    /// Reads a URL in any spelling; `None` if it names no call.
    pub fn parse(url: &str) -> Option<Self> {
        let segments: Vec<&str> = path(url).split('/').filter(|segment| !segment.trim().is_empty()).collect();
        match without_prefix(&segments) {
            [calls, call, part @ ..] if calls.eq_ignore_ascii_case("calls") => {
                Some(Self { call: PlatformId::parse(call)?, part: Part::of(part) })
            }
            _ => None,
        }
    }
}

/// The path of a URL that may be absolute and may have a query.
fn path(url: &str) -> &str {
    let url = memchr2(b'?', b'#', url.as_bytes()).and_then(|end| url.get(..end)).unwrap_or(url);
    if url.starts_with('/') {
        return url;
    }
    match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => url,
    }
}

/// The segments from `calls` on.
fn without_prefix<'a, 'b>(segments: &'a [&'b str]) -> &'a [&'b str] {
    let segments = match segments {
        [version, rest @ ..] if is(version, &["v1.0", "beta"]) => rest,
        _ => segments,
    };
    match segments {
        [root, rest @ ..] if is(root, &["communications", "app"]) => rest,
        [root, _, rest @ ..] if is(root, &["applications"]) => rest,
        _ => segments,
    }
}

fn is(segment: &str, names: &[&str]) -> bool {
    names.iter().any(|name| segment.trim().eq_ignore_ascii_case(name))
}

impl Part {
    fn of(segments: &[&str]) -> Self {
        match segments {
            [] => Self::Call,
            // the roster in the examples of `participant-invite`
            [operations, participants, ..] if is(operations, &["operations"]) && is(participants, &["participants"]) => {
                Self::Participants
            }
            [operations, rest @ ..] if is(operations, &["operations"]) => {
                Self::Operation(rest.first().and_then(|id| PlatformId::parse(id)))
            }
            [participants, ..] if is(participants, &["participants"]) => Self::Participants,
            [sessions, ..] if is(sessions, &["contentsharingsessions"]) => Self::ContentSharingSessions,
            [groups, ..] if is(groups, &["audioroutinggroups"]) => Self::AudioRoutingGroups,
            [collection, ..] => Self::Unknown(text::tame(&collection.trim().to_ascii_lowercase())),
        }
    }
}
