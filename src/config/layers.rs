//! The layers: each merged over the one before, and the memory of where each key was set.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{ConfigError, DEFAULTS, Place};

/// What a variable starts with that sets a key.
const PREFIX: &str = "CALLBACK_LEDGER__";

/// Operation kinds are the platform's names, whose case counts: below this key a variable's parts are kept as written.
const NAMES_AS_WRITTEN: [&str; 2] = ["lifecycle", "deadline_seconds"];

/// The most parts of a variable's key. No key has half of that, and values are read by functions that call themselves.
const MAX_PARTS: usize = 16;

/// The text of a configuration file.
pub(super) fn text(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

/// The defaults with the text of `file` and the variables of `env` merged over them.
pub(super) fn merge(
    file: Option<(&Path, &str)>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<(Table, Origins), ConfigError> {
    let mut origins = Origins::default();
    let mut merged = parse(Path::new("config/default.toml"), DEFAULTS)?;
    if let Some((path, text)) = file {
        overlay(&mut merged, parse(path, text)?);
        origins.learn_file(path, text);
    }
    for variable in variables(env)? {
        set(&mut merged, &variable)?;
        origins.learn_variable(&variable);
    }
    Ok((merged, origins))
}

/// The merged layers as a value of `T`; what does not fit is reported where it was set.
pub(super) fn read<T: DeserializeOwned>(merged: Table, origins: &Origins) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(Value::Table(merged)).map_err(|error| {
        let key = error.path().to_string();
        let message = error.into_inner().message().trim_end().to_owned();
        let message = message.replacen("unknown field", "unknown key", 1).replacen("missing field", "missing key", 1);
        origins.fault(&key, message)
    })
}

fn parse(path: &Path, text: &str) -> Result<Table, ConfigError> {
    text.parse::<Table>().map_err(|error| ConfigError::NotToml {
        place: place(path, text, error.span()),
        message: error.message().trim_end().to_owned(),
    })
}

/// Tables are merged key by key, everything else is replaced.
fn overlay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => overlay(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// A variable that sets a key.
struct Variable {
    name: String,
    parts: Vec<Part>,
    value: Value,
}

/// One part of a variable's key. Numbers come first and in their order, so that sorted variables append in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Index(usize),
    Key(String),
}

/// The variables that set keys, in the order in which they are to be applied: outer keys first, arrays in order.
fn variables(env: impl IntoIterator<Item = (String, String)>) -> Result<Vec<Variable>, ConfigError> {
    let mut variables = Vec::new();
    for (name, text) in env {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        let Some(parts) = parts(key) else {
            return Err(unusable(&name, "is not a key: CALLBACK_LEDGER__SECTION__KEY is expected"));
        };
        let value = text.parse::<Value>().unwrap_or(Value::String(text));
        variables.push(Variable { name, parts, value });
    }
    variables.sort_by(|a, b| a.parts.cmp(&b.parts).then_with(|| a.name.cmp(&b.name)));
    Ok(variables)
}

fn parts(key: &str) -> Option<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    for part in key.split("__") {
        let as_written = parts.iter().map(Part::as_key).eq(NAMES_AS_WRITTEN.map(Some));
        parts.push(match part.parse() {
            _ if part.is_empty() || parts.len() == MAX_PARTS => return None,
            Ok(index) => Part::Index(index),
            Err(_) if as_written => Part::Key(part.to_owned()),
            Err(_) => Part::Key(part.to_ascii_lowercase()),
        });
    }
    Some(parts)
}

impl Part {
    fn as_key(&self) -> Option<&str> {
        match self {
            Self::Index(_) => None,
            Self::Key(key) => Some(key),
        }
    }
}

/// Puts a variable's value in its place, making tables and arrays on the way.
fn set(merged: &mut Table, variable: &Variable) -> Result<(), ConfigError> {
    let mut whole = Value::Table(std::mem::take(merged));
    let mut at = &mut whole;
    for part in &variable.parts {
        at = match part {
            Part::Key(key) => {
                if !at.is_table() {
                    *at = Value::Table(Table::new());
                }
                let Value::Table(table) = at else { return Err(unusable(&variable.name, "names no key")) };
                table.entry(key.clone()).or_insert_with(|| Value::Array(Vec::new()))
            }
            Part::Index(index) => {
                let Value::Array(items) = at else {
                    return Err(unusable(&variable.name, &format!("{index} is a place in an array, but there is none")));
                };
                if *index == items.len() {
                    items.push(Value::Table(Table::new()));
                }
                let length = items.len();
                items.get_mut(*index).ok_or_else(|| {
                    unusable(&variable.name, &format!("there are {length} entries, so the next one is {length}, not {index}"))
                })?
            }
        };
    }
    *at = variable.value.clone();
    if let Value::Table(table) = whole {
        *merged = table;
    }
    Ok(())
}

fn unusable(variable: &str, message: &str) -> ConfigError {
    ConfigError::Variable { variable: variable.to_owned(), message: message.to_owned() }
}

/// Where each key was set, by its path (`receiver[0].audience`).
#[derive(Clone, Debug, Default)]
pub(super) struct Origins(BTreeMap<String, Place>);

impl Origins {
    /// Whether a file or a variable set this key.
    pub(super) fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The error that this key is wrong.
    pub(super) fn fault(&self, key: &str, message: String) -> ConfigError {
        ConfigError::Key { place: self.place(key), key: key.to_owned(), message }
    }

    /// Where the key was set; else where something below it was, else where the nearest thing above it was.
    fn place(&self, key: &str) -> Place {
        let below = || self.0.iter().find(|(path, _)| is_below(path, key)).map(|(_, place)| place);
        let above = || self.0.iter().rev().find(|(path, _)| is_below(key, path)).map(|(_, place)| place);
        self.0.get(key).or_else(below).or_else(above).cloned().unwrap_or(Place::Defaults)
    }

    fn learn_file(&mut self, path: &Path, text: &str) {
        // It parsed before, so an error cannot come here; if it did, messages would lack their places, no more.
        if let Ok(document) = DeTable::parse(text) {
            self.learn_table("", document.get_ref(), &|span| place(path, text, Some(span)));
        }
    }

    fn learn_table(&mut self, above: &str, table: &DeTable<'_>, place: &impl Fn(Range<usize>) -> Place) {
        for (key, value) in table {
            let path = if above.is_empty() { key.get_ref().to_string() } else { format!("{above}.{}", key.get_ref()) };
            self.0.insert(path.clone(), place(key.span()));
            self.learn_value(&path, value.get_ref(), place);
        }
    }

    fn learn_value(&mut self, path: &str, value: &DeValue<'_>, place: &impl Fn(Range<usize>) -> Place) {
        match value {
            DeValue::Table(table) => self.learn_table(path, table, place),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.0.insert(path.clone(), place(item.span()));
                    self.learn_value(&path, item.get_ref(), place);
                }
            }
            _ => {}
        }
    }

    /// The variable sets its key and replaces what was below it.
    fn learn_variable(&mut self, variable: &Variable) {
        let mut key = String::new();
        for part in &variable.parts {
            // Writing to a `String` does not fail.
            let _ = match part {
                Part::Index(index) => write!(key, "[{index}]"),
                Part::Key(part) if key.is_empty() => write!(key, "{part}"),
                Part::Key(part) => write!(key, ".{part}"),
            };
        }
        self.0.retain(|path, _| !is_below(path, &key));
        self.0.insert(key, Place::Variable(variable.name.clone()));
    }
}

/// Whether `path` is a key below `key`.
fn is_below(path: &str, key: &str) -> bool {
    path.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', '[']))
}

/// The line and column, counted from 1, at which the span begins.
fn place(path: &Path, text: &str, span: Option<Range<usize>>) -> Place {
    let before = text.get(..span.map_or(0, |span| span.start)).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    Place::File { path: PathBuf::from(path), line, column }
}
