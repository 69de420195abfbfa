//! What the fuzz targets share. A target panics where the ledger breaks a promise; libFuzzer keeps the input.
//!
//! - [`memory`]: how much may be allocated for so much input
//! - [`request`]: a callback's headers and body out of one input
//! - [`body`]: what holds for the bodies of every source
//! - [`law`]: what holds for the stories that facts tell
//! - [`token`]: a key that receivers believe, and tokens signed with it

pub mod body;
pub mod law;
pub mod memory;
pub mod request;
pub mod token;
