//! What fuzz targets need of this room.

use std::path::Path;

use super::{Config, ConfigError};

/// The configuration of a file with this text and of these variables.
///
/// # Errors
/// As [`Config::load`].
pub fn read(text: &str, env: Vec<(String, String)>) -> Result<Config, ConfigError> {
    Config::merged(Some((Path::new("fuzzed.toml"), text)), env)
}
