//! Rows on their way to their tables.
//!
//! A step to the database costs two changes of threads, so statements that follow each other go together, and each takes all its rows
//! at once. They are bound cell by cell: a JSON text of the same costs SQLite several times the work, to take it apart again. That makes
//! a statement for every number of rows, so each has [`places`] for more than it takes, and few have to be prepared.
//!
//! Parameters are written `?` and bound in the order of the text. Numbered ones would not do: in a step of several statements those of
//! the second begin at one again.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use sqlx::{Arguments, AssertSqlSafe, Error, SqliteConnection, sqlite::SqliteArguments};

use crate::{domain::ids::PlatformId, store::StoreError};

/// The most rows of one statement: with the columns of an operation fewer cells than the 32,766 that SQLite takes.
const ROWS: usize = 1024;
/// Up to so many rows are few.
const MANY: usize = 16;
/// For how many of them there is room at first.
const FIRST_ROWS: usize = 32;
/// How many cells go together, about; each takes some 100 bytes while its statement is prepared. More statements than that are sent one
/// part after another: SQLite takes texts of a million bytes at the most.
const CELLS: usize = 32_768;

/// How much text there is besides places for cells, about.
const TEXT: usize = 4096;

/// The value of a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Text(Arc<str>),
    Bytes(Vec<u8>),
}

thread_local! {
    static WORDS: RefCell<Vec<Arc<str>>> = const { RefCell::new(Vec::new()) };
    /// Of each table, in how many rows since it last differed a column was like that of the row before.
    static ALIKE: RefCell<BTreeMap<&'static str, Vec<usize>>> = const { RefCell::new(BTreeMap::new()) };
}

/// After so many rows a column is expected to stay the same in all of a statement.
const ALIKE_FOR: usize = 4096;
/// The columns that are never the same for all: what a row is known by.
const KEYS: usize = 2;

/// How many words are remembered, and of how many bytes each at the most.
const MOST_WORDS: usize = 64;
const LONGEST_WORD: usize = 64;

impl Cell {
    /// A text that is one of few, such as a state: of those there is one, for all rows.
    pub(super) fn word(text: &str) -> Self {
        WORDS.with_borrow_mut(|words| {
            if let Some(known) = words.iter().find(|known| ***known == *text) {
                return Self::Text(Arc::clone(known));
            }
            let new = Arc::from(text);
            if words.len() < MOST_WORDS && text.len() <= LONGEST_WORD {
                words.push(Arc::clone(&new));
            }
            Self::Text(new)
        })
    }
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

impl From<&Arc<str>> for Cell {
    fn from(value: &Arc<str>) -> Self {
        Self::Text(Arc::clone(value))
    }
}

impl From<&PlatformId> for Cell {
    fn from(value: &PlatformId) -> Self {
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
        if self.0.is_empty() {
            self.0.reserve(FIRST_ROWS); // they are large: not to be moved again and again
        }
        self.0.push(row);
    }

    /// How many cells they take in a statement.
    pub(super) fn cells(&self) -> usize {
        COLUMNS * places(self.0.len())
    }

    /// Which columns are the same in all rows, and were for long. Others may be by chance, and each choice is another statement.
    fn alike(&self, table: &'static str) -> [bool; COLUMNS] {
        ALIKE.with_borrow_mut(|tables| {
            let alike_for = tables.entry(table).or_insert_with(|| vec![0; COLUMNS]);
            let mut alike = [false; COLUMNS];
            for (at, (alike, alike_for)) in alike.iter_mut().zip(alike_for).enumerate().skip(KEYS) {
                let mut cells = self.0.iter().filter_map(|row| row.get(at));
                let first = cells.next();
                if cells.any(|cell| Some(cell) != first) {
                    *alike_for = 0;
                    continue;
                }
                *alike = *alike_for >= ALIKE_FOR;
                *alike_for = alike_for.saturating_add(self.0.len().saturating_sub(1));
            }
            alike
        })
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

/// For how many rows there is room in the statement for so many: for a power of two of them; of many, for three quarters of one, since
/// a place that is left over costs nearly as much as one that is taken.
fn places(rows: usize) -> usize {
    let places = rows.next_power_of_two();
    match rows {
        0 => 0,
        _ if places > MANY && rows <= places / 4 * 3 => places / 4 * 3,
        _ => places,
    }
}

/// Statements that go to the database together, with what is bound to them.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// What is to go before, because there is too much of it.
    before: Vec<Part>,
    part: Part,
}

#[derive(Debug, Default)]
struct Part {
    sql: String,
    arguments: SqliteArguments,
}

impl Step {
    /// One that has room for so many cells.
    pub(super) fn with_cells(cells: usize) -> Self {
        let mut step = Self::default();
        step.part.arguments.reserve(cells, 0);
        step.part.sql.reserve(TEXT + 2 * cells);
        step
    }

    /// Adds a part of a statement.
    pub(super) fn sql(&mut self, sql: &str) -> &mut Self {
        self.part.sql.push_str(sql);
        self
    }

    /// Adds a parameter.
    pub(super) fn bind(&mut self, cell: impl Into<Cell>) -> Result<&mut Self, StoreError> {
        self.part.sql.push('?');
        self.add(cell.into())?;
        Ok(self)
    }

    /// Adds rows as something to select from, to be followed by [`IS_ROW`].
    pub(super) fn values<const COLUMNS: usize>(&mut self, rows: Rows<COLUMNS>) -> Result<&mut Self, StoreError> {
        self.cells(rows.0.len(), COLUMNS, rows.0.into_iter().flatten())
    }

    /// Adds the selection of rows for this table. What has long been the same in all rows is bound once: in most rows half of the cells
    /// tell whose bot it is and what has not happened.
    pub(super) fn select<const COLUMNS: usize>(
        &mut self,
        table: &'static str,
        rows: Rows<COLUMNS>,
    ) -> Result<&mut Self, StoreError> {
        let (count, alike) = (rows.0.len(), rows.alike(table));
        self.sql("SELECT ");
        let mut columns = 0;
        for (at, (cell, is_alike)) in rows.0.first().into_iter().flatten().zip(alike).enumerate() {
            self.sql(if at == 0 { "" } else { ", " });
            if is_alike {
                self.bind(cell.clone())?;
            } else {
                columns += 1;
                self.sql("column").sql(&columns.to_string());
            }
        }
        self.sql(" FROM ");
        let differing = |row: [Cell; COLUMNS]| row.into_iter().zip(alike).filter_map(|(cell, alike)| (!alike).then_some(cell));
        self.cells(count, columns, rows.0.into_iter().flat_map(differing))?;
        Ok(self.sql(IS_ROW))
    }

    /// Adds so many rows of so many columns, and the places that are left over.
    fn cells(&mut self, rows: usize, columns: usize, cells: impl Iterator<Item = Cell>) -> Result<&mut Self, StoreError> {
        let places = places(rows);
        self.part.sql.push_str("(VALUES ");
        let row = format!("(?{})", ",?".repeat(columns.saturating_sub(1)));
        for place in 0..places {
            self.part.sql.push_str(if place == 0 { "" } else { "," });
            self.part.sql.push_str(&row);
        }
        self.part.sql.push(')');
        self.part.arguments.reserve(places * columns, 0);
        for cell in cells {
            self.add(cell)?;
        }
        for _ in rows * columns..places * columns {
            self.add(Cell::Null)?;
        }
        Ok(self)
    }

    fn add(&mut self, cell: Cell) -> Result<(), StoreError> {
        let added = match cell {
            Cell::Null => self.part.arguments.add(None::<i64>),
            Cell::Integer(value) => self.part.arguments.add(value),
            Cell::Text(value) => self.part.arguments.add(value),
            Cell::Bytes(value) => self.part.arguments.add(value),
        };
        added.map_err(|error| StoreError::Database(Error::Encode(error)))
    }

    /// Ends a statement.
    pub(super) fn end(&mut self) {
        self.part.sql.push(';');
        if self.part.arguments.len() >= CELLS {
            self.before.push(std::mem::take(&mut self.part));
        }
    }

    /// Takes the step. Returns how many rows its statements have inserted or changed, if they are such: of others SQLite says what the
    /// one before did.
    pub(super) async fn execute(self, connection: &mut SqliteConnection) -> Result<u64, StoreError> {
        let Self { before, part } = self;
        let mut rows = 0;
        for Part { sql, arguments } in before.into_iter().chain([part]).filter(|part| !part.sql.is_empty()) {
            let is_kept = arguments.len() <= CELLS;
            let query = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(is_kept);
            rows += query.execute(&mut *connection).await?.rows_affected();
        }
        Ok(rows)
    }
}

/// The condition that leaves out the places that were left over.
pub(super) const IS_ROW: &str = " WHERE column1 IS NOT NULL";

#[cfg(test)]
mod tests;
