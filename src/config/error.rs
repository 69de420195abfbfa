//! What can be wrong with a configuration.

use std::{fmt, io, path::PathBuf};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{place}: {message}")]
    NotToml {
        /// Where.
        place: Place,
        /// What the parser says.
        message: String,
    },
    /// A variable that starts like a key but is none.
    #[error("{variable}: {message}")]
    Variable {
        /// The variable.
        variable: String,
        /// What is wrong with it.
        message: String,
    },
    /// A key that is unknown, missing, or has a value that it must not have.
    #[error("{place}: {key}: {message}")]
    Key {
        /// Where it was set.
        place: Place,
        /// Its path, e.g. `receiver[0].audience`.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// Nobody could call.
    #[error(
        "no receiver is configured: add [[receiver]] with path = \"/api/calls\", source = \"graph\" and \
         audience = [\"<application id>\"] to the configuration file (or set CALLBACK_LEDGER__RECEIVER__0__PATH, \
         …__SOURCE and …__AUDIENCE), or try it with --dev"
    )]
    NoReceiver,
    /// The effective configuration cannot be written as TOML.
    #[error("cannot show the configuration")]
    NotShown(#[source] toml::ser::Error),
}

/// Where a key was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the defaults, or nowhere.
    Defaults,
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
    },
    /// In an environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.write_str("configuration"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}
