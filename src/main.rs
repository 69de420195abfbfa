//! The binary: everything is in the library.

use std::process::ExitCode;

/// A delivery is read on one thread and written on another, where the system's allocator makes threads wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    callback_ledger::cli::run().await
}
