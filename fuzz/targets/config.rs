//! Configuration: the text of a file, then, behind a line `---`, variables `KEY=value` (`CALLBACK_LEDGER__` is put before each).
#![no_main]

use std::{collections::BTreeMap, sync::LazyLock};

use callback_ledger::{
    app::known_sources,
    config::{Config, ConfigError, KnownSource, fuzzing::read},
};
use callback_ledger_fuzz::memory::Bound;
use libfuzzer_sys::fuzz_target;

/// The defaults are read each time. Of each value in nested lists it is remembered where it stands, with its whole path.
const READING: Bound = Bound { fixed: 256 * 1024, per_byte: 512 };

static SOURCES: LazyLock<Vec<KnownSource>> = LazyLock::new(known_sources);

fuzz_target!(|input: &str| {
    let (text, variables) = input.split_once("\n---\n").unwrap_or((input, ""));
    // the environment has each variable once
    let variables: BTreeMap<String, String> = variables.lines().filter_map(|line| line.split_once('=')).map(variable).collect();
    let load = || read(text, variables.clone().into_iter().collect());
    let loaded = READING.holds(input.len(), load);
    assert_eq!(format!("{loaded:?}"), format!("{:?}", load()), "read twice, it says two things");
    match loaded {
        Ok(config) => good(config),
        Err(error) => says_why(&error),
    }
});

fn variable((name, value): (&str, &str)) -> (String, String) {
    (format!("CALLBACK_LEDGER__{name}"), value.to_owned())
}

fn good(config: Config) {
    let shown = config.shown().expect("what was configured can be shown");
    shown.parse::<toml::Table>().expect("what is shown is TOML");
    for known in [config.clone().for_service(&SOURCES), config.for_development(&SOURCES)] {
        match known {
            Ok(config) => assert!(!config.receivers.is_empty()),
            Err(error) => says_why(&error),
        }
    }
}

fn says_why(error: &ConfigError) {
    assert!(!error.to_string().trim().is_empty(), "{error:?}");
}
