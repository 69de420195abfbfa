//! Results on stdout: tables on a terminal, one JSON document a line when piped.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use serde_json::Value;

use super::failure::Failure;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Ndjson,
}

impl Output {
    /// As asked, else by who reads.
    pub(super) fn or_default(asked: Option<Self>) -> Self {
        asked.unwrap_or_else(|| if io::stdout().is_terminal() { Self::Table } else { Self::Ndjson })
    }
}

/// A column of a table: its head, and where its cells are in a row (members separated by dots).
pub(super) type Column = (&'static str, &'static str);

/// Writes rows.
pub(super) fn rows(rows: &[Value], columns: &[Column], output: Output) -> Result<(), Failure> {
    match output {
        Output::Table => text(&table(rows, columns)),
        Output::Json => text(&format!("{}\n", serde_json::to_string_pretty(rows)?)),
        Output::Ndjson => rows.iter().try_for_each(|row| line(&row.to_string())),
    }
}

/// Writes one object; as a table it is a list of its members.
pub(super) fn object(value: &Value, output: Output) -> Result<(), Failure> {
    match output {
        Output::Table => text(&members(value)),
        Output::Json => text(&format!("{}\n", serde_json::to_string_pretty(value)?)),
        Output::Ndjson => line(&value.to_string()),
    }
}

/// Rows as a table that fits the terminal.
pub(super) fn table(rows: &[Value], columns: &[Column]) -> String {
    if rows.is_empty() {
        return "nothing\n".to_owned();
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns.iter().map(|(head, _)| *head));
    for row in rows {
        table.add_row(columns.iter().map(|(_, path)| cell(member(row, path))));
    }
    format!("{}\n", table.trim_fmt())
}

fn members(value: &Value) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    for (name, member) in value.as_object().into_iter().flatten().filter(|(_, member)| !member.is_null()) {
        table.add_row([name.clone(), cell(Some(member))]);
    }
    format!("{}\n", table.trim_fmt())
}

fn member<'v>(row: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(row, |value, name| value.get(name))
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => printable(text),
        Some(Value::Array(items)) => items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(", "),
        Some(Value::Object(members)) => {
            let shown = members.iter().filter(|(_, member)| !member.is_null());
            shown.map(|(name, member)| format!("{name} {}", cell(Some(member)))).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

/// A terminal obeys control characters, and some texts are strangers'.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Writes a line.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes a text as it is.
pub(super) fn text(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Writes a line of what does not end by itself; `false`: the reader has seen enough.
pub(super) fn follow(text: &str) -> Result<bool, Failure> {
    write(format!("{text}\n").as_bytes())
}

/// Writes bytes as they are. A reader that has seen enough is no failure.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    write(bytes).map(drop)
}

fn write(bytes: &[u8]) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => Ok(written.map(|()| true)?),
    }
}
