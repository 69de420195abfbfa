//! Why a command did not do what it was asked to, and the exit code that says so.

use std::{fmt, process::ExitCode};

use crate::store::OpenError;

/// A command that did not do what it was asked to.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    error: anyhow::Error,
    /// Nothing is left to say: the command has reported line by line.
    silent: bool,
}

impl Failure {
    /// Wrong use or configuration (exit 2).
    pub(super) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 2, error: error.into(), silent: false }
    }

    /// There is no such thing (exit 3).
    pub(super) fn not_found(message: impl fmt::Display) -> Self {
        Self { code: 3, error: anyhow::anyhow!("{message}"), silent: false }
    }

    /// The time was over first (exit 4).
    pub(super) fn timed_out(message: impl fmt::Display) -> Self {
        Self { code: 4, error: anyhow::anyhow!("{message}"), silent: false }
    }

    /// Failed, and what failed was already said (exit 1).
    pub(super) fn reported() -> Self {
        Self { code: 1, error: anyhow::anyhow!("failed"), silent: true }
    }

    /// Says why on stderr, with every cause.
    pub(super) fn report(&self) {
        if !self.silent {
            eprintln!("error: {self}");
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

/// A ledger that could not be opened: one that is not there was named wrongly (exit 2), anything else is a failure.
pub(super) fn not_opened(error: OpenError) -> Failure {
    match error {
        missing @ OpenError::Missing { .. } => Failure::usage(missing),
        other => other.into(),
    }
}

/// Failed (exit 1).
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { code: 1, error: error.into(), silent: false }
    }
}
