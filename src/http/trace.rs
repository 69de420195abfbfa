//! One span a request. The path's query and every header stay out of it: both can carry secrets.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
};
use tracing::Span;
use tracing_actix_web::{RequestId, RootSpanBuilder};

/// Builds the root span of a request.
#[derive(Debug)]
pub struct RequestSpan;

impl RootSpanBuilder for RequestSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let id = actix_web::HttpMessage::extensions(request).get::<RequestId>().copied();
        tracing::info_span!(
            "request",
            http.method = %request.method(),
            http.route = request.match_pattern(),
            request_id = id.map(tracing::field::display),
        )
    }

    /// Nothing is logged behind the end of a request that its status could be of use to.
    fn on_request_end<B: MessageBody>(_span: Span, _outcome: &Result<ServiceResponse<B>, Error>) {}
}
