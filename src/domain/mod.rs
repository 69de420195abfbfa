//! The vocabulary: words and rules, no input or output.
//!
//! Everybody above uses these types; nothing here knows who they are. A platform's spelling is
//! parsed once at the border (`source/`) and is one of these types from then on.
//!
//! - [`ids`]: the ledger's own ids, and the platforms' ids in one spelling
//! - [`clock`]: the only place that asks the system for the time
//! - [`trust`]: whom a receiver believes, and the proof that somebody was believed
//! - [`delivery`], [`notification`]: what came
//! - [`operation`], [`call`]: what it means; the law of the ledger as pure functions
//! - [`result`]: code, subcode, message
//! - [`rejection`]: who was not let in, and why
//! - [`text`]: text that nobody has verified, made safe to keep and show

pub mod call;
pub mod clock;
pub mod delivery;
pub mod ids;
pub mod notification;
pub mod operation;
pub mod people;
pub mod rejection;
pub mod request;
pub mod result;
pub mod text;
pub mod trust;
