//! `/v1/rejections`.

use actix_web::{HttpRequest, HttpResponse, get, web::Data};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Api,
    operations::answer,
    query::{Paging, Query, instant, list as page_of, named},
};
use crate::{
    domain::rejection::RejectionReason,
    http::{
        problem::{Problem, ProblemBody},
        view::{List, RejectionView},
    },
    store::rows::{PageRequest, RejectionFilter},
};

/// Which rejections.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RejectionQuery {
    /// For this reason.
    reason: Option<String>,
    /// At this receiver.
    receiver: Option<String>,
    /// Then or later.
    #[serde(deserialize_with = "instant")]
    #[param(value_type = Option<String>)]
    since: Option<Timestamp>,
    /// At most so many rows, 1 to 250; 50 unless told.
    limit: Option<u32>,
    /// Where the page begins: taken from `nextLink`.
    cursor: Option<String>,
}

impl RejectionQuery {
    pub(super) fn read(self) -> Result<(RejectionFilter, PageRequest), Problem> {
        let known = RejectionReason::ALL.map(RejectionReason::as_str);
        let filter = RejectionFilter {
            reason: named("reason", self.reason.as_ref(), RejectionReason::parse, &known)?,
            receiver: self.receiver,
            since: self.since,
        };
        let paging = Paging { limit: self.limit, cursor: self.cursor };
        Ok((filter, paging.request()?))
    }
}

/// Who was not let in, and why; newest first.
#[utoipa::path(params(RejectionQuery), responses(
    (status = 200, body = List<RejectionView>),
    (status = 400, body = ProblemBody, content_type = "application/problem+json"),
))]
#[get("/v1/rejections")]
pub(super) async fn list(api: Data<Api>, request: HttpRequest, query: Query<RejectionQuery>) -> HttpResponse {
    let page = async {
        let (filter, page) = query.0.read()?;
        if let Some(service) = &api.service {
            service.ledger.flush_rejections().await;
        }
        Ok(api.reader.rejections(&filter, page).await?)
    };
    answer(page.await.map(|page| page_of::<_, RejectionView>(page, request.uri())), &request)
}
