//! Everything that is tested through a door (HTTP, command line, `Ledger`), in one binary.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod acs;
mod api;
mod bots;
mod cli;
mod config;
mod doors;
mod event_grid;
mod faults;
mod feed;
mod fixtures;
mod forward;
mod gateway;
mod hostile;
mod ingest;
mod key_store;
mod kill;
mod law;
mod layering;
mod ledger;
mod lookups;
mod master_key;
mod plans;
mod platform;
mod questions;
mod redirect;
mod referee;
mod remembered;
mod removal;
mod requests;
mod rosters;
mod secrets;
mod security;
mod strays;
mod support;
mod trust;
