//! `/v1/operations`.

use actix_web::{
    HttpRequest, HttpResponse, get,
    web::{Data, Path},
};
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Api,
    query::{Paging, Query, instant, list as page_of, named, patience, platform_id, source_name, source_names},
};
use crate::{
    domain::{ids::OperationId, operation::State},
    feed::{Waited, wait_for, wait_for_match as wait},
    http::{
        problem::{Problem, ProblemBody},
        view::{HistoryView, List, OperationView},
    },
    store::rows::{OperationFilter, PageRequest},
};

/// Which operations. GUIDs in any spelling.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OperationQuery {
    /// Of this source.
    #[param(schema_with = source_names)]
    source: Option<String>,
    /// Of this call.
    call_id: Option<String>,
    /// With this platform id.
    operation_id: Option<String>,
    /// With this tag.
    context: Option<String>,
    /// Of this kind, as the platform spells it.
    kind: Option<String>,
    /// In this state.
    state: Option<String>,
    /// With this subcode.
    subcode: Option<i64>,
    /// First seen then or later.
    #[serde(deserialize_with = "instant")]
    #[param(value_type = Option<String>)]
    since: Option<Timestamp>,
    /// First seen before.
    #[serde(deserialize_with = "instant")]
    #[param(value_type = Option<String>)]
    until: Option<Timestamp>,
    /// Whether it is open.
    open: Option<bool>,
    /// Whether it is past its deadline without an end.
    overdue: Option<bool>,
    /// At most so many rows, 1 to 250; 50 unless told.
    limit: Option<u32>,
    /// Where the page begins: taken from `nextLink`.
    cursor: Option<String>,
}

impl OperationQuery {
    pub(super) fn read(self) -> Result<(OperationFilter, PageRequest), Problem> {
        let filter = OperationFilter {
            source: source_name(self.source.as_ref())?,
            call_id: platform_id(self.call_id.as_ref()),
            operation_id: platform_id(self.operation_id.as_ref()),
            context: self.context,
            kind: self.kind,
            state: named("state", self.state.as_ref(), State::parse, &State::ALL.map(State::as_str))?,
            subcode: self.subcode,
            since: self.since,
            until: self.until,
            open: self.open,
            overdue: self.overdue,
        };
        let paging = Paging { limit: self.limit, cursor: self.cursor };
        Ok((filter, paging.request()?))
    }
}

/// A page of operations, newest first.
#[utoipa::path(params(OperationQuery), responses(
    (status = 200, body = List<OperationView>),
    (status = 400, body = ProblemBody, content_type = "application/problem+json"),
))]
#[get("/v1/operations")]
pub(super) async fn list(api: Data<Api>, request: HttpRequest, query: Query<OperationQuery>) -> HttpResponse {
    let page = async {
        let (filter, page) = query.0.read()?;
        Ok(api.reader.operations(&filter, page, api.clock.now()).await?)
    };
    answer(page.await.map(|page| page_of::<_, OperationView>(page, request.uri())), &request)
}

/// How long to hold the answer.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ShowQuery {
    /// Hold the answer until the operation has ended, for so many seconds at the most.
    wait: u64,
}

/// One operation.
#[utoipa::path(params(("id" = String, Path), ShowQuery), responses(
    (status = 200, body = OperationView),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
))]
#[get("/v1/operations/{id}")]
pub(super) async fn show(api: Data<Api>, request: HttpRequest, id: Path<String>, query: Query<ShowQuery>) -> HttpResponse {
    let operation = async {
        let id = operation_id(&id)?;
        let wait = wait_for(&api.reader, &api.clock, id, patience("wait", query.0.wait)?);
        let found = tokio::select! {
            found = wait => found?,
            () = api.shutdown.cancelled() => return Err(shutting_down()),
        };
        found.map(OperationView::from).ok_or_else(no_operation)
    };
    answer(operation.await, &request)
}

/// The states that an operation went through, oldest first, each with what caused it.
#[utoipa::path(params(("id" = String, Path)), responses(
    (status = 200, body = List<HistoryView>),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
))]
#[get("/v1/operations/{id}/history")]
pub(super) async fn history(api: Data<Api>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    let history = async {
        let history = api.reader.history(operation_id(&id)?, api.clock.now()).await?.ok_or_else(no_operation)?;
        Ok(List { value: history.into_iter().map(HistoryView::from).collect(), next_link: None })
    };
    answer(history.await, &request)
}

/// What to wait for: at least a call or a context.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitQuery {
    /// Of this source.
    #[param(schema_with = source_names)]
    source: Option<String>,
    /// Of this call.
    call_id: Option<String>,
    /// With this tag.
    context: Option<String>,
    /// Of this kind.
    kind: Option<String>,
    /// Only operations first seen after this time.
    #[serde(deserialize_with = "instant")]
    #[param(value_type = Option<String>)]
    after: Option<Timestamp>,
    /// For so many seconds at the most; 30 unless told.
    timeout: Option<u64>,
}

impl WaitQuery {
    pub(super) fn read(self) -> Result<(OperationFilter, Duration), Problem> {
        let filter = OperationFilter {
            source: source_name(self.source.as_ref())?,
            call_id: platform_id(self.call_id.as_ref()),
            context: self.context,
            kind: self.kind,
            // "after" is not "since": times have milliseconds.
            since: self.after.and_then(|after| after.checked_add(Duration::from_millis(1)).ok()),
            ..OperationFilter::default()
        };
        if filter.call_id.is_none() && filter.context.is_none() {
            return Err(Problem::InvalidQuery("name a callId or a context".to_owned()));
        }
        Ok((filter, patience("timeout", self.timeout.unwrap_or(30))?))
    }
}

/// The newest matching operation, once it has ended; also one that nobody has seen yet.
#[utoipa::path(params(WaitQuery), responses(
    (status = 200, body = OperationView),
    (status = 408, body = ProblemBody, content_type = "application/problem+json"),
    (status = 409, body = ProblemBody, content_type = "application/problem+json"),
))]
#[get("/v1/operations/wait")]
pub(super) async fn wait_for_match(api: Data<Api>, request: HttpRequest, query: Query<WaitQuery>) -> HttpResponse {
    let operation = async {
        let (filter, patience) = query.0.read()?;
        let waited = tokio::select! {
            waited = wait(&api.reader, &api.clock, &filter, patience) => waited?,
            () = api.shutdown.cancelled() => return Err(shutting_down()),
        };
        match waited {
            Waited::Ended(operation) => Ok(OperationView::from(*operation)),
            Waited::TimedOut => Err(Problem::Timeout("no matching operation has ended".to_owned())),
            Waited::Ambiguous(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                Err(Problem::Ambiguous(format!("several open operations match: {}", ids.join(", "))))
            }
        }
    };
    answer(operation.await, &request)
}

fn operation_id(text: &str) -> Result<OperationId, Problem> {
    text.parse().map_err(|_error| no_operation())
}

fn no_operation() -> Problem {
    Problem::NotFound("there is no such operation".to_owned())
}

fn shutting_down() -> Problem {
    Problem::LedgerUnavailable("the service is shutting down; ask again".to_owned())
}

/// A success as JSON, a problem as what it is.
pub(super) fn answer(outcome: Result<impl serde::Serialize, Problem>, request: &HttpRequest) -> HttpResponse {
    match outcome {
        Ok(view) => HttpResponse::Ok().json(view),
        Err(problem) => problem.answer(request),
    }
}
