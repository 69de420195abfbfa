//! `/healthz`, `/readyz`, `/metrics`.

use actix_web::{HttpRequest, HttpResponse, get, route, web::Data};

use super::Api;
use crate::http::{
    problem::Problem,
    view::{ReadinessView, ReceiverReadiness},
};

/// The process answers.
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "alive")))]
#[route("/healthz", method = "GET", method = "HEAD")]
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ok\n")
}

/// The ledger can be written and read, and every receiver has keys.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, body = ReadinessView),
    (status = 503, body = ReadinessView),
))]
#[route("/readyz", method = "GET", method = "HEAD")]
pub(super) async fn readyz(api: Data<Api>) -> HttpResponse {
    let readable = api.reader.ping().await.is_ok();
    let service = api.service.as_ref();
    let receivers: Vec<ReceiverReadiness> = service
        .map(|service| {
            let ready = |receiver: &std::sync::Arc<crate::receive::Receiver>| ReceiverReadiness {
                path: receiver.path.clone(),
                keys: receiver.authenticator.is_ready(),
            };
            service.receivers.iter().map(ready).collect()
        })
        .unwrap_or_default();
    let ledger = readable && service.is_none_or(|service| service.ledger.is_writable());
    let ready = ledger && receivers.iter().all(|receiver| receiver.keys) && !api.shutdown.is_cancelled();
    let mut response = if ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.json(ReadinessView { ready, ledger, receivers })
}

/// What is counted, for Prometheus.
#[utoipa::path(responses((status = 200, content_type = "application/openmetrics-text")))]
#[get("/metrics")]
pub(super) async fn metrics(api: Data<Api>, request: HttpRequest) -> HttpResponse {
    let Some(service) = &api.service else { return Problem::NotFound("nothing is served here".to_owned()).answer(&request) };
    let overdue = api.reader.overdue(api.clock.now()).await.ok();
    service.metrics.following(api.followers.count());
    service.metrics.targets(&service.forwarder, api.clock.now());
    match service.metrics.scrape(&service.ledger, &service.keys.key_sets(), overdue) {
        Ok(text) => HttpResponse::Ok().content_type("application/openmetrics-text; version=1.0.0; charset=utf-8").body(text),
        Err(error) => {
            tracing::error!(error = %error, "the metrics cannot be written");
            Problem::Internal.answer(&request)
        }
    }
}
