//! `/v1/forwards`: what the bots have not been told, and what is to be done about it.

use std::collections::HashMap;

use actix_web::{
    HttpRequest, HttpResponse, get, post,
    web::{Data, Payload},
};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api, Leave, Service,
    body::read_json,
    operations::answer,
    query::{Paging, Query, instant, list as page_of, named, platform_id},
};
use crate::{
    feed::forward::{Command, OrderError},
    http::{
        problem::{Problem, ProblemBody, not_recorded},
        view::{ForwardView, List, OrderedView, TargetView},
    },
    store::{
        forwards::{ForwardCount, ForwardFilter, ForwardState},
        rows::PageRequest,
    },
};

/// Which forwards.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(super) struct ForwardQuery {
    /// To this target.
    forward: Option<String>,
    /// `waiting` or `dead`.
    state: Option<String>,
    /// About this call.
    call_id: Option<String>,
    /// Of this kind.
    kind: Option<String>,
    /// Recorded then or later.
    #[serde(deserialize_with = "instant")]
    #[param(value_type = Option<String>)]
    since: Option<Timestamp>,
    /// Recorded before.
    #[serde(deserialize_with = "instant")]
    #[param(value_type = Option<String>)]
    until: Option<Timestamp>,
    /// At most so many rows, 1 to 250; 50 unless told.
    limit: Option<u32>,
    /// Where the page begins: taken from `nextLink`.
    cursor: Option<String>,
}

impl ForwardQuery {
    pub(super) fn read(self) -> Result<(ForwardFilter, PageRequest), Problem> {
        let filter = ForwardFilter {
            id: None,
            target: self.forward,
            state: state_named(self.state.as_ref())?,
            call_id: platform_id(self.call_id.as_ref()),
            kind: self.kind,
            since: self.since,
            until: self.until,
        };
        let paging = Paging { limit: self.limit, cursor: self.cursor };
        Ok((filter, paging.request()?))
    }
}

fn state_named(name: Option<&String>) -> Result<Option<ForwardState>, Problem> {
    named("state", name, ForwardState::parse, &ForwardState::ALL.map(ForwardState::as_str))
}

/// What could not be forwarded at once, newest first. What goes well is not listed.
#[utoipa::path(params(ForwardQuery), responses(
    (status = 200, body = List<ForwardView>),
    (status = 400, body = ProblemBody, content_type = "application/problem+json"),
))]
#[get("/v1/forwards")]
pub(super) async fn list(api: Data<Api>, request: HttpRequest, query: Query<ForwardQuery>) -> HttpResponse {
    let page = async {
        let (filter, page) = query.0.read()?;
        if let Some(service) = &api.service {
            service.forwarder.settle().await;
        }
        Ok(api.reader.forwards(&filter, page).await?)
    };
    answer(page.await.map(|page| page_of::<_, ForwardView>(page, request.uri())), &request)
}

/// Where notifications go, and how that stands.
#[utoipa::path(responses((status = 200, body = List<TargetView>)))]
#[get("/v1/forwards/targets")]
pub(super) async fn targets(api: Data<Api>, request: HttpRequest) -> HttpResponse {
    let views = async {
        if let Some(service) = &api.service {
            service.forwarder.settle().await;
        }
        let counts = api.reader.forward_counts().await?;
        let mut counts: HashMap<String, ForwardCount> = counts.into_iter().map(|count| (count.target.clone(), count)).collect();
        let running = || api.service.iter().flat_map(|service| service.forwarder.targets());
        let view = |known: crate::store::forwards::TargetRow| {
            let count = counts.remove(&known.name).unwrap_or_default();
            let running = running().find(|(target, _)| target.name == known.name);
            TargetView::new(known.name, known.disabled_at, running, &count)
        };
        Ok(List { value: api.reader.targets().await?.into_iter().map(view).collect(), next_link: None })
    };
    answer(views.await, &request)
}

/// Which forwards an order is about: those that match all of it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Order {
    /// This one alone.
    id: Option<String>,
    /// To this target. A target that was disabled (410) begins again when a retry names it.
    forward: Option<String>,
    /// `waiting` or `dead`.
    state: Option<String>,
    /// About this call.
    call_id: Option<String>,
    /// Of this kind.
    kind: Option<String>,
    /// Recorded then or later.
    #[schema(value_type = Option<String>)]
    since: Option<Timestamp>,
    /// Recorded before.
    #[schema(value_type = Option<String>)]
    until: Option<Timestamp>,
    /// Only count them.
    dry_run: bool,
}

/// Tries the forwards that match now, also those that were given up; their time begins anew.
#[utoipa::path(request_body = Order, responses(
    (status = 200, body = OrderedView),
    (status = 400, body = ProblemBody, content_type = "application/problem+json"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json"),
))]
#[post("/v1/forwards/retry")]
pub(super) async fn retry(api: Data<Api>, request: HttpRequest, payload: Payload) -> HttpResponse {
    answer(ordered(&api, Command::Retry, &request, payload).await, &request)
}

/// Forgets the forwards that match: they are not tried any more.
#[utoipa::path(request_body = Order, responses(
    (status = 200, body = OrderedView),
    (status = 400, body = ProblemBody, content_type = "application/problem+json"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json"),
))]
#[post("/v1/forwards/skip")]
pub(super) async fn skip(api: Data<Api>, request: HttpRequest, payload: Payload) -> HttpResponse {
    answer(ordered(&api, Command::Skip, &request, payload).await, &request)
}

async fn ordered(api: &Api, command: Command, request: &HttpRequest, payload: Payload) -> Result<OrderedView, Problem> {
    let admin = Leave::of(request).admin.ok_or(Problem::ScopeRequired("admin"))?;
    let service = api.service.as_ref().ok_or_else(|| Problem::LedgerUnavailable("nobody serves this ledger".to_owned()))?;
    let Order { id, forward, state, call_id, kind, since, until, dry_run } =
        read_json(request, payload, service.body_time).await?;
    let invalid = |_error| Problem::InvalidBody("id: as in fwd_…".to_owned());
    let filter = ForwardFilter {
        id: id.map(|id| id.parse().map_err(invalid)).transpose()?,
        target: forward,
        state: state_named(state.as_ref()).map_err(|_query| Problem::InvalidBody("state: one of waiting, dead".to_owned()))?,
        call_id: platform_id(call_id.as_ref()),
        kind,
        since,
        until,
    };
    if filter.is_empty() {
        return Err(Problem::InvalidBody("say which: at least one of id, forward, state, callId, kind, since, until".to_owned()));
    }
    let matched = carry_out(service, command, &filter, dry_run).await?;
    tracing::info!(
        api.caller = crate::domain::trust::Asking::name(&admin),
        matched,
        dry_run,
        "forwards were ordered to be {}",
        match command {
            Command::Retry => "tried again",
            Command::Skip => "skipped",
        }
    );
    Ok(OrderedView { matched, dry_run })
}

async fn carry_out(service: &Service, command: Command, filter: &ForwardFilter, dry_run: bool) -> Result<u64, Problem> {
    service.forwarder.order(&service.ledger, command, filter, dry_run).await.map_err(|error| match error {
        OrderError::NotConfigured(_) | OrderError::Disabled(_) => Problem::InvalidBody(error.to_string()),
        OrderError::NotCarriedOut(_) => Problem::LedgerUnavailable(error.to_string()),
        OrderError::Read(error) => error.into(),
        OrderError::NotRecorded(error) => not_recorded(error),
    })
}
