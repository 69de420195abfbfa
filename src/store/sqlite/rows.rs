//! Rows on their way to their tables.
//!
//! A step to the database costs two changes of threads, so statements that follow each other go together, and each takes all its rows
//! at once. They are bound cell by cell: a JSON text of the same costs SQLite several times the work, to take it apart again. That makes
//! a statement for every number of rows, so each has places for a power of two of them, and few have to be prepared.
//!
//! Parameters are written `?` and bound in the order of the text. Numbered ones would not do: in a step of several statements those of
//! the second begin at one again.

use std::sync::Arc;

use sqlx::{
    Arguments, AssertSqlSafe, Error, SqliteConnection,
    sqlite::{SqliteArguments, SqliteQueryResult},
};

use crate::store::StoreError;

/// The most rows of one statement: with the 22 columns of an operation fewer cells than SQLite's 32,766.
const ROWS: usize = 1024;
/// The most cells of a step that is kept prepared: about 100 bytes each.
const KEPT: usize = 32_768;

/// The value of a column.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Text(Arc<str>),
    Bytes(Vec<u8>),
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<usize> for Cell {
    fn from(value: usize) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}

impl From<Vec<u8>> for Cell {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Rows of so many columns. The first is never NULL.
#[derive(Debug)]
pub(super) struct Rows<const COLUMNS: usize>(Vec<[Cell; COLUMNS]>);

impl<const COLUMNS: usize> Default for Rows<COLUMNS> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<const COLUMNS: usize> Rows<COLUMNS> {
    pub(super) fn push(&mut self, row: [Cell; COLUMNS]) {
        self.0.push(row);
    }

    /// As many as one statement takes, and so on.
    pub(super) fn by_statement(self) -> impl Iterator<Item = Self> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let more = rest.split_off(rest.len().min(ROWS));
            let rows = std::mem::replace(&mut rest, more);
            (!rows.is_empty()).then_some(Self(rows))
        })
    }
}

impl<const COLUMNS: usize> FromIterator<[Cell; COLUMNS]> for Rows<COLUMNS> {
    fn from_iter<T: IntoIterator<Item = [Cell; COLUMNS]>>(rows: T) -> Self {
        Self(rows.into_iter().collect())
    }
}

/// Statements that go to the database together, with what is bound to them.
#[derive(Debug, Default)]
pub(super) struct Step {
    sql: String,
    arguments: SqliteArguments,
}

impl Step {
    /// Adds a part of a statement.
    pub(super) fn sql(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Adds a parameter.
    pub(super) fn bind(&mut self, cell: impl Into<Cell>) -> Result<&mut Self, StoreError> {
        self.sql.push('?');
        self.add(cell.into())?;
        Ok(self)
    }

    /// Adds rows as something to select from, to be followed by [`IS_ROW`].
    pub(super) fn values<const COLUMNS: usize>(&mut self, rows: Rows<COLUMNS>) -> Result<&mut Self, StoreError> {
        let (count, places) = (rows.0.len(), rows.0.len().next_power_of_two());
        self.sql.push_str("(VALUES ");
        let row = format!("(?{})", ",?".repeat(COLUMNS.saturating_sub(1)));
        for place in 0..places {
            self.sql.push_str(if place == 0 { "" } else { "," });
            self.sql.push_str(&row);
        }
        self.sql.push(')');
        self.arguments.reserve(places * COLUMNS, 0);
        for cell in rows.0.into_iter().flatten() {
            self.add(cell)?;
        }
        for _ in count * COLUMNS..places * COLUMNS {
            self.add(Cell::Null)?;
        }
        Ok(self)
    }

    fn add(&mut self, cell: Cell) -> Result<(), StoreError> {
        let added = match cell {
            Cell::Null => self.arguments.add(None::<i64>),
            Cell::Integer(value) => self.arguments.add(value),
            Cell::Text(value) => self.arguments.add(value),
            Cell::Bytes(value) => self.arguments.add(value),
        };
        added.map_err(|error| StoreError::Database(Error::Encode(error)))
    }

    /// Takes the step. What it returns counts the rows of all its statements.
    pub(super) async fn execute(self, connection: &mut SqliteConnection) -> Result<SqliteQueryResult, StoreError> {
        let is_kept = self.arguments.len() <= KEPT;
        Ok(sqlx::query_with(AssertSqlSafe(self.sql), self.arguments).persistent(is_kept).execute(connection).await?)
    }
}

/// The condition that leaves out the places that were left over.
pub(super) const IS_ROW: &str = " WHERE column1 IS NOT NULL";
