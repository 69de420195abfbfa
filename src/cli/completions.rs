//! `completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, failure::Failure, output};

/// `completions`
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// For which shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        // Into memory first: the generator panics on a pipe that closes early.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "callback-ledger", &mut script);
        output::bytes(&script)
    }
}
