//! The log, on stderr: for people on a terminal, one JSON object a line for machines.
//!
//! stdout belongs to results; nothing here writes to it.

mod fields;

use std::{
    env,
    io::{self, IsTerminal as _},
};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use self::fields::JsonFields;
use crate::config::{Log, LogFormat};

/// Starts the log as `[log]` says. The first call counts; later ones (tests share a process) change nothing.
///
/// # Errors
/// If `log.filter` cannot be parsed, which `Config::load` has checked.
pub fn init(log: &Log) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::try_new(&log.filter)?;
    let terminal = io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match log.format {
        LogFormat::Text => registry.with(lines.with_ansi(terminal && wants_colour())).try_init(),
        LogFormat::Auto if terminal => registry.with(lines.with_ansi(wants_colour())).try_init(),
        LogFormat::Json | LogFormat::Auto => {
            registry.with(lines.json().flatten_event(true).with_span_list(false).fmt_fields(JsonFields)).try_init()
        }
    };
    // The only error is that a log runs already.
    drop(started);
    Ok(())
}

/// Unless the user asked for none: <https://no-color.org>.
fn wants_colour() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
