//! `/v1/calls`.

use actix_web::{
    HttpRequest, HttpResponse, get,
    web::{Data, Path},
};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Api, Leave,
    operations::answer,
    query::{Paging, Query, instant, list as page_of, named, source_name, source_names},
};
use crate::{
    domain::{call::CallState, ids::PlatformId},
    http::{
        problem::{Problem, ProblemBody},
        view::{CallView, List, TimelineView},
    },
    store::rows::{CallFilter, PageRequest},
};

/// Which calls.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CallQuery {
    /// Of this source.
    #[param(schema_with = source_names)]
    source: Option<String>,
    /// In this state, as the platform spells it.
    state: Option<String>,
    /// First seen then or later.
    #[serde(deserialize_with = "instant")]
    #[param(value_type = Option<String>)]
    since: Option<Timestamp>,
    /// First seen before.
    #[serde(deserialize_with = "instant")]
    #[param(value_type = Option<String>)]
    until: Option<Timestamp>,
    /// At most so many rows, 1 to 250; 50 unless told.
    limit: Option<u32>,
    /// Where the page begins: taken from `nextLink`.
    cursor: Option<String>,
}

impl CallQuery {
    pub(super) fn read(self) -> Result<(CallFilter, PageRequest), Problem> {
        let state = named("state", self.state.as_ref(), CallState::parse, &CallState::ALL.map(CallState::as_str))?;
        let filter = CallFilter {
            source: source_name(self.source.as_ref())?,
            state: state.map(|state| state.as_str().to_owned()),
            since: self.since,
            until: self.until,
        };
        let paging = Paging { limit: self.limit, cursor: self.cursor };
        Ok((filter, paging.request()?))
    }
}

/// A page of calls, newest first.
#[utoipa::path(params(CallQuery), responses(
    (status = 200, body = List<CallView>),
    (status = 400, body = ProblemBody, content_type = "application/problem+json"),
))]
#[get("/v1/calls")]
pub(super) async fn list(api: Data<Api>, request: HttpRequest, query: Query<CallQuery>) -> HttpResponse {
    let page = async {
        let (filter, page) = query.0.read()?;
        Ok(api.reader.calls(&filter, page, api.clock.now()).await?)
    };
    answer(page.await.map(|page| page_of::<_, CallView>(page, request.uri())), &request)
}

/// Which of the calls with this id.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SourceQuery {
    /// The source, if several know a call of this id.
    #[param(schema_with = source_names)]
    source: Option<String>,
}

/// One call, its id in any spelling.
#[utoipa::path(params(("callId" = String, Path), SourceQuery), responses(
    (status = 200, body = CallView),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
))]
#[get("/v1/calls/{callId}")]
pub(super) async fn show(api: Data<Api>, request: HttpRequest, id: Path<String>, query: Query<SourceQuery>) -> HttpResponse {
    let call = async {
        let calls = api.reader.call(&call_id(&id)?, api.clock.now()).await?;
        let wanted = source_name(query.0.source.as_ref())?;
        let call =
            calls.into_iter().find(|call| wanted.as_ref().is_none_or(|wanted| *wanted == call.source)).ok_or_else(no_call)?;
        let people = api.reader.people_of(call.id).await?;
        Ok(CallView::from(call).with_people(people.as_ref(), &Leave::of(&request)))
    };
    answer(call.await, &request)
}

/// Everything about one call, oldest first.
#[utoipa::path(params(("callId" = String, Path), Paging), responses(
    (status = 200, body = List<TimelineView>),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
))]
#[get("/v1/calls/{callId}/timeline")]
pub(super) async fn timeline(api: Data<Api>, request: HttpRequest, id: Path<String>, query: Query<Paging>) -> HttpResponse {
    let page = async {
        let id = call_id(&id)?;
        if api.reader.call(&id, api.clock.now()).await?.is_empty() {
            return Err(no_call());
        }
        Ok(api.reader.timeline(&id, query.0.request()?).await?)
    };
    answer(page.await.map(|page| page_of::<_, TimelineView>(page, request.uri())), &request)
}

fn call_id(text: &str) -> Result<PlatformId, Problem> {
    PlatformId::parse(text).ok_or_else(no_call)
}

fn no_call() -> Problem {
    Problem::NotFound("there is no such call".to_owned())
}
