//! Arguments in, exit code out: one file per command.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 not found,
//! 4 timed out. To add a command: its file here, its variant in `Command`, its line in `dispatch`.

mod ask;
mod calls;
mod cancel;
mod completions;
mod configuration;
mod db;
mod demo;
mod doctor;
mod failure;
mod forwards;
mod lists;
mod notifications;
mod operations;
mod output;
mod rejections;
mod replay;
mod scenario;
mod serve;
mod simulate;
mod tail;
mod token;
mod tokens;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use self::failure::Failure;

/// The callback URL of calling bots: verifies, understands and durably remembers what the calling platforms report.
#[derive(Debug, Parser)]
#[command(name = "callback-ledger", version, propagate_version = true)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let a bot live calls at both platforms, simulated, through a service of its own, and print the stories.
    Demo(demo::Demo),
    /// Serve the configured receivers and the private API.
    Serve(serve::Serve),
    /// Play a platform on this machine: requests in, signed callbacks out.
    #[command(subcommand)]
    Simulate(simulate::Simulate),
    /// Post recorded bodies and scenarios to a receiver.
    Replay(replay::Replay),
    /// Mint a token of the development issuer.
    Token(token::Token),
    /// Ask for operations.
    #[command(subcommand)]
    Operations(operations::Operations),
    /// Ask for calls.
    #[command(subcommand)]
    Calls(calls::Calls),
    /// Ask for notifications.
    #[command(subcommand)]
    Notifications(notifications::Notifications),
    /// Cancel at a platform, through the gateway of a running service, and tell what that did.
    #[command(subcommand)]
    Cancel(cancel::Cancel),
    /// Ask who was not let in.
    #[command(subcommand)]
    Rejections(rejections::Rejections),
    /// Ask what bots have not been told, and have it tried again or skipped.
    #[command(subcommand)]
    Forwards(forwards::Forwards),
    /// Follow what changes, as it happens.
    Tail(tail::Tail),
    /// Make, list and revoke tokens of the private API.
    #[command(subcommand)]
    Tokens(tokens::Tokens),
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(configuration::Configuration),
    /// Look for what would keep a service from working.
    Doctor(doctor::Doctor),
    /// Care for the ledger.
    #[command(subcommand)]
    Db(db::Db),
    /// Print completions for a shell.
    Completions(completions::Completions),
}

/// Runs the command line of this process.
pub async fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match Box::pin(dispatch(arguments)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    }
}

async fn dispatch(arguments: Arguments) -> Result<(), Failure> {
    let config = configuration::Source { file: arguments.config };
    match arguments.command {
        Command::Demo(demo) => demo.run(&config).await,
        Command::Serve(serve) => Box::pin(serve.run(&config)).await,
        Command::Simulate(simulate) => simulate.run(&config).await,
        Command::Replay(replay) => replay.run(&config).await,
        Command::Token(token) => token.run(&config),
        Command::Operations(operations) => operations.run(&config).await,
        Command::Calls(calls) => calls.run(&config).await,
        Command::Notifications(notifications) => notifications.run(&config).await,
        Command::Cancel(cancel) => cancel.run(&config).await,
        Command::Rejections(rejections) => rejections.run(&config).await,
        Command::Forwards(forwards) => forwards.run(&config).await,
        Command::Tail(tail) => tail.run(&config).await,
        Command::Tokens(tokens) => tokens.run(&config).await,
        Command::Config(configuration) => configuration.run(&config),
        Command::Doctor(doctor) => doctor.run(&config).await,
        Command::Db(db) => db.run(&config).await,
        Command::Completions(completions) => completions.run(),
    }
}
