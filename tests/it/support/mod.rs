//! What every test needs.

pub mod fake_issuer;
