//! `/v1/notifications`.

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS},
    web::{Data, Path},
};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Api, Leave,
    operations::answer,
    query::{Paging, Query, instant, list as page_of, named, platform_id, source_name, source_names},
};
use crate::{
    domain::{ids::NotificationId, notification::Disposition},
    http::{
        problem::{Problem, ProblemBody},
        view::{List, NotificationView},
    },
    source::redacted,
    store::rows::{NotificationFilter, PageRequest},
};

/// Which notifications.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct NotificationQuery {
    /// Of this source.
    #[param(schema_with = source_names)]
    source: Option<String>,
    /// About this call, quarantined ones included.
    call_id: Option<String>,
    /// Of this kind, as the platform spells it.
    kind: Option<String>,
    /// `applied`, `late`, `unrecognized` or `quarantined`.
    disposition: Option<String>,
    /// Brought by this token, as `tokenHash` names it.
    token_hash: Option<String>,
    /// Received then or later.
    #[serde(deserialize_with = "instant")]
    #[param(value_type = Option<String>)]
    since: Option<Timestamp>,
    /// Received before.
    #[serde(deserialize_with = "instant")]
    #[param(value_type = Option<String>)]
    until: Option<Timestamp>,
    /// At most so many rows, 1 to 250; 50 unless told.
    limit: Option<u32>,
    /// Where the page begins: taken from `nextLink`.
    cursor: Option<String>,
}

impl NotificationQuery {
    pub(super) fn read(self) -> Result<(NotificationFilter, PageRequest), Problem> {
        let known = Disposition::ALL.map(Disposition::as_str);
        let filter = NotificationFilter {
            disposition: named("disposition", self.disposition.as_ref(), Disposition::parse, &known)?,
            source: source_name(self.source.as_ref())?,
            call_id: platform_id(self.call_id.as_ref()),
            kind: self.kind,
            token_hash: self.token_hash.as_deref().map(token_hash).transpose()?,
            since: self.since,
            until: self.until,
        };
        let paging = Paging { limit: self.limit, cursor: self.cursor };
        Ok((filter, paging.request()?))
    }
}

/// A page of notifications, newest first.
#[utoipa::path(params(NotificationQuery), responses(
    (status = 200, body = List<NotificationView>),
    (status = 400, body = ProblemBody, content_type = "application/problem+json"),
))]
#[get("/v1/notifications")]
pub(super) async fn list(api: Data<Api>, request: HttpRequest, query: Query<NotificationQuery>) -> HttpResponse {
    let page = async {
        let (filter, page) = query.0.read()?;
        Ok(api.reader.notifications(&filter, page).await?)
    };
    answer(page.await.map(|page| page_of::<_, NotificationView>(page, request.uri())), &request)
}

/// One notification.
#[utoipa::path(params(("id" = String, Path)), responses(
    (status = 200, body = NotificationView),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
))]
#[get("/v1/notifications/{id}")]
pub(super) async fn show(api: Data<Api>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    let notification = async {
        let found = api.reader.notification(notification_id(&id)?).await?;
        found.map(NotificationView::from).ok_or_else(no_notification)
    };
    answer(notification.await, &request)
}

/// The body of the delivery that brought a notification, byte for byte as received. Credentials in it are replaced unless the
/// caller's token has the scope `secrets`; where they cannot be told from the rest, nothing of it is shown.
#[utoipa::path(params(("id" = String, Path)), responses(
    (status = 200, description = "as received", content_type = "application/octet-stream"),
    (status = 403, body = ProblemBody, content_type = "application/problem+json"),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
))]
#[get("/v1/notifications/{id}/raw")]
pub(super) async fn raw(api: Data<Api>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    let body = async {
        let delivery = api.reader.delivery_of(notification_id(&id)?).await?.ok_or_else(no_notification)?;
        let body = delivery.body.ok_or_else(|| Problem::NotFound("the body was erased".to_owned()))?;
        if Leave::of(&request).secrets { Ok(body) } else { redacted(body).ok_or(Problem::SecretsRequired) }
    };
    // A body is a stranger's text: it is never to be taken for a page of ours.
    match body.await {
        Ok(body) => HttpResponse::Ok()
            .content_type("application/octet-stream")
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((CONTENT_SECURITY_POLICY, "sandbox"))
            .insert_header((CACHE_CONTROL, "no-store"))
            .body(body),
        Err(problem) => problem.answer(&request),
    }
}

fn token_hash(text: &str) -> Result<i64, Problem> {
    let digits = Some(text).filter(|text| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let hash = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).map(u64::cast_signed);
    hash.ok_or_else(|| Problem::InvalidQuery("tokenHash: 16 hexadecimal digits, as notifications bear them".to_owned()))
}

fn notification_id(text: &str) -> Result<NotificationId, Problem> {
    text.parse().map_err(|_error| no_notification())
}

fn no_notification() -> Problem {
    Problem::NotFound("there is no such notification".to_owned())
}
