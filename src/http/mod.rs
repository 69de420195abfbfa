//! Transport: the public callbacks, the private API, and what both answer with.
//!
//! - [`public`]: the internet-facing listener, callbacks and nothing else
//! - [`api`]: the private listener
//! - [`view`]: the JSON shapes of the API
//! - [`problem`]: every answer that is not a success; the only file that knows status codes of errors
//! - [`metrics`]: what is counted
//! - [`trace`]: one span a request
//! - [`crowd`]: who calls, and how many of them at once
//! - [`patience`]: connections that ask for nothing are ended
//! - `end_to_end`: which headers go on with a message that is passed on
//! - [`platform`]: the listener of a simulated platform
//! - [`in_process`]: the private API without a socket, for the command line
//!
//! Called by `app`, and by `cli` for the views.

pub mod api;
pub mod crowd;
mod end_to_end;
pub mod in_process;
pub mod metrics;
pub mod patience;
pub mod platform;
pub mod problem;
pub mod public;
pub mod threshold;
pub mod trace;
pub mod view;

/// Whether `host[:port]`, as a `Host` header and an origin write it, is a loopback name.
fn is_of_this_machine(authority: &str) -> bool {
    url::Url::parse(&format!("http://{authority}/")).is_ok_and(|url| crate::net::is_loopback(&url))
}
