//! What every test needs.

pub mod app;
pub mod attacks;
pub mod bot;
pub mod child;
pub mod fake_issuer;
pub mod ledger;
pub mod load;
pub mod world;
