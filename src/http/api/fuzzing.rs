//! What fuzz targets need of this room: what each query string is read as.

use std::time::Duration;

use actix_web::http::{Uri, header::HeaderValue};

use super::{
    calls::CallQuery,
    events::EventQuery,
    forwards::ForwardQuery,
    notifications::NotificationQuery,
    operations::{OperationQuery, WaitQuery},
    query::{self, Paging, read},
    rejections::RejectionQuery,
};
use crate::{
    domain::ids::Seq,
    http::{problem::Problem, public, view::OperationView},
    net::Secret,
    store::{
        forwards::ForwardFilter,
        log::ChangeFilter,
        rows::{CallFilter, NotificationFilter, OperationFilter, OperationRow, Page, PageRequest, RejectionFilter},
    },
};

type Asked<Filter> = Result<(Filter, PageRequest), Problem>;

/// Of `/v1/operations`.
///
/// # Errors
/// What is wrong with it, here and below.
pub fn operations(query: &str) -> Asked<OperationFilter> {
    read::<OperationQuery>(query)?.read()
}

/// Of `/v1/operations/wait`.
///
/// # Errors
/// Likewise.
pub fn wait(query: &str) -> Result<(OperationFilter, Duration), Problem> {
    read::<WaitQuery>(query)?.read()
}

/// Of `/v1/calls`.
///
/// # Errors
/// Likewise.
pub fn calls(query: &str) -> Asked<CallFilter> {
    read::<CallQuery>(query)?.read()
}

/// Of `/v1/notifications`.
///
/// # Errors
/// Likewise.
pub fn notifications(query: &str) -> Asked<NotificationFilter> {
    read::<NotificationQuery>(query)?.read()
}

/// Of `/v1/rejections`.
///
/// # Errors
/// Likewise.
pub fn rejections(query: &str) -> Asked<RejectionFilter> {
    read::<RejectionQuery>(query)?.read()
}

/// Of `/v1/forwards`.
///
/// # Errors
/// Likewise.
pub fn forwards(query: &str) -> Asked<ForwardFilter> {
    read::<ForwardQuery>(query)?.read()
}

/// Of `/v1/events`, with the header `Last-Event-ID`.
///
/// # Errors
/// Likewise.
pub fn events(query: &str, last: Option<&[u8]>) -> Result<(ChangeFilter, Option<Seq>), Problem> {
    let asked = read::<EventQuery>(query)?;
    let last = last.and_then(|last| HeaderValue::from_bytes(last).ok());
    Ok((asked.filter()?, asked.after(last.as_ref())?))
}

/// The page that a query asks for which says nothing else.
///
/// # Errors
/// Likewise.
pub fn page(query: &str) -> Result<PageRequest, Problem> {
    read::<Paging>(query)?.request()
}

/// The position that a cursor stands for.
///
/// # Errors
/// Likewise.
pub fn cursor(text: &str) -> Result<Seq, Problem> {
    query::cursor(text)
}

/// The link to the page behind a position, in the answer to a request for `uri`; `None` if that is none.
#[must_use]
pub fn next_link(uri: &str, position: Seq) -> Option<String> {
    let page = Page::<OperationRow> { rows: Vec::new(), next: Some(position) };
    query::list::<_, OperationView>(page, &uri.parse::<Uri>().ok()?).next_link
}

/// The secret in the query of a callback.
#[must_use]
pub fn secret(query: &str) -> Option<Secret> {
    public::secret(query)
}
