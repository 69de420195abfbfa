//! The private API without a socket: how a command reads a ledger that nobody serves, through the same code.
//!
//! actix calls the module that it is built on `test`; its helpers panic only if a service answers with an error instead of
//! a response, and ours answer every problem themselves.

use actix_web::{App, HttpMessage, test};

use super::api::{Api, Leave, configure};

/// The answer of the API.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Asks the API for `path_and_query` without going over the network.
pub async fn get(api: &Api, path_and_query: &str) -> Answer {
    let service = test::init_service(App::new().configure(|app| configure(app, api))).await;
    let request = test::TestRequest::get().uri(path_and_query).to_request();
    request.extensions_mut().insert(Leave { secrets: true, ..Leave::default() }); // whoever can open the ledger holds its key
    let response = test::call_service(&service, request).await;
    let status = response.status().as_u16();
    Answer { status, body: test::read_body(response).await.to_vec() }
}
