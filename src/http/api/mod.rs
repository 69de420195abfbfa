//! The private listener: what the ledger knows, for bots, operators and scripts.
//!
//! Each file is a resource; `guard` decides who may ask, `query` reads what is asked. To add a call: its handler in the
//! file of its resource, one line in [`configure`], one in [`Description`].

mod body;
mod calls;
mod events;
mod forwards;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod guard;
mod health;
mod notifications;
mod operations;
mod query;
mod register;
mod rejections;

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, get,
    web::{self, Data, ServiceConfig},
};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

pub use self::{
    events::Followers,
    guard::{Good, Guard, Leave, PrivateToken, Scopes, Standing, Tokens, Writer},
};
use super::{metrics::Metrics, problem::Problem};
use crate::{
    auth::KeyStore,
    domain::clock::Clock,
    feed::{follow::Feed, forward::Forwarder},
    gateway::{Gateway, InFlight},
    receive::Receiver,
    store::{Ledger, LedgerReader},
};

/// What the handlers work with.
#[derive(Clone, Debug)]
pub struct Api {
    /// Where everything is read.
    pub reader: LedgerReader,
    /// The ledger and its receivers; `None` where a command reads a ledger that nobody serves here.
    pub service: Option<Service>,
    /// Where followers begin.
    pub feed: Feed,
    /// Who follows now.
    pub followers: Followers,
    /// Where "now" comes from.
    pub clock: Clock,
    /// Ends open waits and streams.
    pub shutdown: CancellationToken,
}

/// The parts of a running service that the API reports on.
#[derive(Clone, Debug)]
pub struct Service {
    /// The ledger.
    pub ledger: Ledger,
    /// Its receivers.
    pub receivers: Vec<Arc<Receiver>>,
    /// The ways to the platforms.
    pub gateways: Vec<Gateway>,
    /// What is on its way there.
    pub in_flight: InFlight,
    /// The bots that are told.
    pub forwarder: Forwarder,
    /// The keys that they believe.
    pub keys: KeyStore,
    /// What is counted.
    pub metrics: Metrics,
    /// How long the body of a request may take.
    pub body_time: Duration,
}

/// Adds every call of the API.
pub fn configure(app: &mut ServiceConfig, api: &Api) {
    app.app_data(Data::new(api.clone()))
        .service(operations::wait_for_match)
        .service(operations::list)
        .service(register::register)
        .service(operations::show)
        .service(operations::history)
        .service(calls::list)
        .service(calls::show)
        .service(calls::timeline)
        .service(notifications::list)
        .service(notifications::show)
        .service(notifications::raw)
        .service(rejections::list)
        .service(events::events)
        .service(forwards::list)
        .service(forwards::targets)
        .service(forwards::retry)
        .service(forwards::skip)
        .service(health::healthz)
        .service(health::readyz)
        .service(health::metrics)
        .service(description)
        .route("/gateway/{tail:.*}", web::route().to(gateway::pass_on))
        .default_service(web::to(unknown));
}

async fn unknown(request: HttpRequest) -> HttpResponse {
    let known = request.resource_map().has_resource(request.path());
    if known {
        let is_order = ["/v1/forwards/retry", "/v1/forwards/skip"].contains(&request.path());
        return Problem::MethodNotAllowed(if is_order { "POST" } else { "GET" }).answer(&request);
    }
    Problem::NotFound("the API has no such path; GET /openapi.json lists them".to_owned()).answer(&request)
}

/// The API's description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "callback-ledger",
        description = "What the ledger knows of calls, operations and notifications. Lists are newest first and run in pages: \
                       follow `nextLink`. Errors are problem documents (RFC 9457); look at their `code`."
    ),
    paths(
        operations::list,
        register::register,
        operations::show,
        operations::history,
        operations::wait_for_match,
        calls::list,
        calls::show,
        calls::timeline,
        notifications::list,
        notifications::show,
        notifications::raw,
        rejections::list,
        events::events,
        forwards::list,
        forwards::targets,
        forwards::retry,
        forwards::skip,
        health::healthz,
        health::readyz,
        health::metrics,
    )
)]
#[derive(Debug)]
pub struct Description;

#[get("/openapi.json")]
async fn description() -> HttpResponse {
    HttpResponse::Ok().json(Description::openapi())
}
