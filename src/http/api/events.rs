//! `/v1/events`: the change log as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! The body is pulled: while its reader does not read, nothing is read for it. It ends when the service shuts down, when the token
//! that opened it is no longer good or the first one is made, and when the ledger cannot be read; a follower then connects again, with the last id.

mod limits;

use std::{convert::Infallible, fmt::Write, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header::{CACHE_CONTROL, HeaderName, HeaderValue},
    web::{Bytes, Data},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

pub use self::limits::Followers;
use self::limits::Place;
use super::{
    Api, Leave,
    guard::Standing,
    query::{Query, platform_id, source_name, source_names},
};
use crate::{
    domain::ids::Seq,
    feed::follow::{Followed, Follower},
    http::{
        problem::{Problem, ProblemBody},
        view::{EventView, GapView},
    },
    store::log::{ChangeFilter, ChangeKind},
};

/// How long a stream may say nothing: proxies give up on those that are silent for longer.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a follower is told to wait before it connects again (milliseconds).
const RETRY: u32 = 1000;

/// Which events, and from where on.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    /// Begin behind this event; 0: with the oldest that is kept. Without it, and without `Last-Event-ID`, with what happens from
    /// now on.
    after: Option<i64>,
    /// Of this source.
    #[param(schema_with = source_names)]
    source: Option<String>,
    /// Of this call, a GUID in any spelling.
    call_id: Option<String>,
    /// Of this kind of operation, notification or request.
    kind: Option<String>,
    /// Of these types, separated by commas: `call`, `operation`, `notification`, `request`, `rejection`.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    about: Option<String>,
}

impl EventQuery {
    pub(super) fn filter(&self) -> Result<ChangeFilter, Problem> {
        Ok(ChangeFilter {
            source: source_name(self.source.as_ref())?,
            call_id: platform_id(self.call_id.as_ref()),
            kind: self.kind.clone(),
            about: self.about.as_deref().map(types).transpose()?.unwrap_or_default(),
        })
    }

    /// `Last-Event-ID` is what a follower that connects again knows last, so it wins.
    pub(super) fn after(&self, last: Option<&HeaderValue>) -> Result<Option<Seq>, Problem> {
        let wrong = |name: &str| Problem::InvalidQuery(format!("{name}: the id of an event, or 0"));
        if let Some(last) = last.filter(|last| !last.is_empty()) {
            let last = last.to_str().ok().and_then(|last| last.parse().ok()).filter(|last| *last >= 0);
            return last.map(|last| Some(Seq(last))).ok_or_else(|| wrong("Last-Event-ID"));
        }
        match self.after {
            Some(after) if after < 0 => Err(wrong("after")),
            after => Ok(after.map(Seq)),
        }
    }
}

fn types(names: &str) -> Result<Vec<ChangeKind>, Problem> {
    let known = ChangeKind::ALL.map(ChangeKind::as_str).join(", ");
    let kind =
        |name| ChangeKind::parse(name).ok_or_else(|| Problem::InvalidQuery(format!("type: of {known}, separated by commas")));
    names.split(',').map(kind).collect()
}

/// What changes, as server-sent events: `id` is the position in the change log, `event` the type, `data` the API's JSON of what
/// changed with the member `change`. An event `gap` says that retention has removed what was asked for.
#[utoipa::path(params(EventQuery, ("Last-Event-ID" = Option<i64>, Header, description = "The last event that was seen")), responses(
    (status = 200, body = EventView, content_type = "text/event-stream"),
    (status = 400, body = ProblemBody, content_type = "application/problem+json"),
    (status = 429, body = ProblemBody, content_type = "application/problem+json"),
))]
#[get("/v1/events")]
pub(super) async fn events(api: Data<Api>, request: HttpRequest, query: Query<EventQuery>) -> HttpResponse {
    let leave = Leave::of(&request);
    let opened = async {
        let (filter, after) = (query.0.filter()?, query.0.after(request.headers().get("last-event-id"))?);
        let place = api.followers.enter(leave.standing.name())?;
        let follower = api.feed.follow(filter, after).await?;
        Ok(Open {
            told: follower.after(),
            follower,
            begun: false,
            silent_since: Instant::now(),
            standing: leave.standing.clone(),
            shutdown: api.shutdown.clone(),
            _place: place,
        })
    };
    let open = match opened.await {
        Ok(open) => open,
        Err(problem) => return Problem::answer(&problem, &request),
    };
    let body = stream::unfold(open, async |mut open| Some((Ok::<_, Infallible>(open.next().await?), open)));
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would collect the events
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(body)
}

/// An open stream.
struct Open {
    follower: Follower,
    /// The position that its reader knows.
    told: Seq,
    begun: bool,
    silent_since: Instant,
    standing: Standing,
    shutdown: CancellationToken,
    /// Given back when the stream is gone.
    _place: Place,
}

impl Open {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            self.begun = true;
            // at once: the reader learns that it is let in, and where it stands
            return Some(format!("retry: {RETRY}\nid: {}\n\n", self.told).into());
        }
        let followed = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return None,
            () = self.standing.lost() => return None,
            followed = self.follower.next() => followed,
            () = sleep_until(self.silent_since + SILENCE) => {
                self.silent_since = Instant::now();
                // with where it stands: what did not match need not be looked through again
                self.told = self.follower.after();
                return Some(format!(": nothing new\nid: {}\n\n", self.told).into());
            }
        };
        self.silent_since = Instant::now();
        self.told = self.follower.after();
        match followed {
            Ok(Followed::Changes(rows)) => {
                let written: Option<String> = rows.into_iter().map(|row| event(&EventView::from(row))).collect();
                written.map(Bytes::from)
            }
            Ok(Followed::Gap { after, resumes_after }) => {
                written(resumes_after.0, "gap", &GapView::new(after, resumes_after)).map(Bytes::from)
            }
            Err(error) => {
                tracing::warn!(error = %error, "a follower was sent away: the change log cannot be read");
                None
            }
        }
    }
}

fn event(view: &EventView) -> Option<String> {
    written(view.change.seq, &view.change.kind, view)
}

/// One event; JSON has no line breaks.
fn written(id: i64, kind: &str, data: &impl Serialize) -> Option<String> {
    let data = serde_json::to_string(data).ok()?;
    let mut text = String::with_capacity(data.len() + 64);
    writeln!(text, "id: {id}\nevent: {kind}\ndata: {data}\n").ok()?;
    Some(text)
}
