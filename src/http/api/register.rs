//! `POST /v1/operations`: a bot says what it asks of a platform by itself.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse, post,
    web::{Data, Payload},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Api, Leave, body::read_json};
use crate::{
    domain::ids::PlatformId,
    gateway::{Registration, register as write_down},
    http::{
        problem::{Problem, ProblemBody, not_recorded},
        view::OperationView,
    },
    source::source,
};

/// The longest tag (bytes): Graph allows 256 characters, Call Automation's SDKs 5,000.
const MAX_CONTEXT: usize = 20_000;
/// The longest name of a kind, and the longest key (bytes).
const MAX_NAME: usize = 256;
/// The longest time that a request may be allowed (seconds): a month.
pub(super) const MAX_DEADLINE: u64 = 31 * 24 * 60 * 60;

/// What a bot asks of a platform by itself.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewOperation {
    /// Whose platform: `graph`, `acs`.
    source: String,
    /// The call; absent for a request that begins one.
    call_id: Option<String>,
    /// The kind of the operation, or the platform's name of the request: `recordOperation` or `record`, `addParticipant`.
    kind: String,
    /// The tag that the request bears.
    context: Option<String>,
    /// How long it may take, in seconds; as configured for its kind unless told.
    deadline_seconds: Option<u64>,
}

/// Registers a request that the bot sends by itself, before or after it is sent. With an `Idempotency-Key` header a second copy
/// is answered as the first was.
#[utoipa::path(
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = NewOperation,
    responses(
        (status = 201, body = OperationView),
        (status = 200, body = OperationView, description = "known under this key"),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    )
)]
#[post("/v1/operations")]
pub(super) async fn register(api: Data<Api>, request: HttpRequest, payload: Payload) -> HttpResponse {
    match registered(&api, &request, payload).await {
        Ok((true, view)) => HttpResponse::Created().json(view),
        Ok((false, view)) => HttpResponse::Ok().json(view),
        Err(problem) => problem.answer(&request),
    }
}

async fn registered(api: &Api, request: &HttpRequest, payload: Payload) -> Result<(bool, OperationView), Problem> {
    let writer = Leave::of(request).writer.ok_or(Problem::ScopeRequired("write"))?;
    let service = api.service.as_ref().ok_or_else(|| Problem::LedgerUnavailable("nobody serves this ledger".to_owned()))?;
    let new: NewOperation = read_json(request, payload, service.body_time).await?;
    let asked = asked(&new, request)?;
    let now = api.clock.now();
    let requested = write_down(&service.ledger, &writer, asked, now).await.map_err(not_recorded)?;
    let row = api.reader.operation(requested.operation, api.clock.now()).await?.ok_or(Problem::Internal)?;
    if !requested.is_same {
        return Err(Problem::IdempotencyMismatch);
    }
    Ok((requested.is_new, OperationView::from(row)))
}

fn asked(new: &NewOperation, request: &HttpRequest) -> Result<Registration, Problem> {
    let invalid = |why: &str| Problem::InvalidBody(why.to_owned());
    // a source that nothing can be asked of only tells
    let source = source(&new.source).filter(|source| source.asks_for("createCall").is_some());
    let source = source.ok_or_else(|| invalid("source: one of graph, acs"))?;
    let kind = new.kind.trim();
    if kind.is_empty() || kind.len() > MAX_NAME {
        return Err(invalid("kind: 1 to 256 bytes"));
    }
    if new.context.as_ref().is_some_and(|context| context.len() > MAX_CONTEXT) {
        return Err(invalid("context: at most 20000 bytes"));
    }
    if new.deadline_seconds.is_some_and(|seconds| !(1..=MAX_DEADLINE).contains(&seconds)) {
        return Err(invalid("deadlineSeconds: 1 to 2678400"));
    }
    let call = new.call_id.as_deref().map(|call| {
        // no platform's ids hold a slash: they are parts of paths
        PlatformId::parse(call).filter(|_| !call.contains('/')).ok_or_else(|| invalid("callId: not blank, without a slash"))
    });
    let mut keys = request.headers().get_all("idempotency-key");
    let idempotency_key = match (keys.next().map(|key| key.to_str().ok().filter(|key| !key.is_empty())), keys.next()) {
        (None, _) => None,
        (Some(Some(key)), None) if key.len() <= MAX_NAME => Some(key.to_owned()),
        _ => return Err(invalid("Idempotency-Key: one text of 1 to 256 bytes")),
    };
    Ok(Registration {
        source,
        call: call.transpose()?,
        kind: kind.to_owned(),
        context: new.context.clone().filter(|context| !context.trim().is_empty()),
        deadline: new.deadline_seconds.map(Duration::from_secs),
        idempotency_key,
    })
}
