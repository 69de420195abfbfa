//! The one outbound HTTP client, and the text it must not spill.
//!
//! Owns: where a request may go (https, and http to loopback hosts), how long it may take, how much of an
//! answer is read, and that no redirect is followed. `auth` fetches keys with it, the command line talks to a
//! server with it. Whoever needs another kind of request adds a field to [`Request`], not a client.

mod address;
mod client;
mod networks;
mod secret;

pub use address::{is_here, is_loopback};
pub use client::{Answer, FetchError, Fetched, HttpClient, Method, OpenAnswer, Request, header_bytes, header_text};
pub use networks::Networks;
pub use secret::Secret;
