//! `callback-ledger`: the callback URL of calling bots, and the memory behind it.
//!
//! ```text
//!  5  cli · main                 arguments in, exit code out
//!  4  app                        composition root: the only file that constructs everything
//!     client                     what a running service tells, over HTTP
//!  3  http                       transport: public callbacks, private API, problem+json
//!  2  receive · gateway · feed   use cases: a notification came in / a request goes out / somebody listens, or is told
//!     simulator                  and a platform in miniature, to try all of it on one machine
//!  1  source · auth · store      three siblings that do not know each other
//!  0  domain · net               words and rules (no I/O) / the one outbound HTTP client
//!  –  config · telemetry         leaves, read by app and cli only
//! ```
//!
//! The straight line of one notification:
//!
//! ```text
//! POST /api/calls
//!   1 path ───────────► receiver: source + trust policy            404
//!   2 Authorization ──► Caller ─► Admission                        401 · 403 · 503 when we cannot check
//!   3 body ≤ limit ───► bytes                                      413
//!   4 source.read ────► facts + reply                              400, quarantined
//!   5 ledger.record ──► committed: applied / duplicate / late      503
//!   6 reply                                                        2xx
//! ```

pub mod app;
pub mod auth;
pub mod cli;
pub mod client;
pub mod config;
pub mod domain;
pub mod feed;
pub mod gateway;
pub mod http;
pub mod net;
pub mod receive;
pub mod simulator;
pub mod source;
pub mod store;
pub mod telemetry;

pub use app::embedded::Receiver;
