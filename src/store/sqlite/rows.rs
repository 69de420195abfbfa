//! Rows on their way to their tables.
//!
//! A step to the database costs two changes of threads, so statements that follow each other go together, and each takes all its rows
//! at once. They are bound cell by cell: a JSON text of the same costs SQLite several times the work, to take it apart again. That makes
//! a statement for every number of rows, so each has [`places`] for more than it takes, and few have to be prepared.
//!
//! Parameters are written `?` and bound in the order of the text. Numbered ones would not do: in a step of several statements those of
//! the second begin at one again.

use std::{cell::RefCell, sync::Arc};

use sqlx::{Arguments, AssertSqlSafe, Error, SqliteConnection, sqlite::SqliteArguments};

use crate::{domain::ids::PlatformId, store::StoreError};

/// The most rows of one statement: with the columns of an operation fewer cells than the 32,766 that SQLite takes.
const ROWS: usize = 1024;
/// So many are few.
const MANY: usize = 16;
/// For how many of them there is room at first.
const FIRST_ROWS: usize = 32;
/// How many cells go together, about; each takes some 100 bytes while its statement is prepared. More statements than that are sent one
/// part after another: SQLite takes texts of a million bytes at the most.
const CELLS: usize = 32_768;

/// How much text there is besides places for cells, about.
const TEXT: usize = 4096;

/// The value of a column.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Text(String),
    Shared(Arc<str>),
    Bytes(Vec<u8>),
}

thread_local! {
    static WORDS: RefCell<Vec<Arc<str>>> = const { RefCell::new(Vec::new()) };
}

/// How many words are remembered, and of how many bytes each at the most.
const MOST_WORDS: usize = 64;
const LONGEST_WORD: usize = 64;

impl Cell {
    /// A text that is one of few, such as a state: of those there is one, for all rows.
    pub(super) fn word(text: &str) -> Self {
        WORDS.with_borrow_mut(|words| {
            if let Some(known) = words.iter().find(|known| ***known == *text) {
                return Self::Shared(Arc::clone(known));
            }
            let new = Arc::from(text);
            if words.len() < MOST_WORDS && text.len() <= LONGEST_WORD {
                words.push(Arc::clone(&new));
            }
            Self::Shared(new)
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
        Self::Text(value.to_owned())
    }
}

impl From<&Arc<str>> for Cell {
    fn from(value: &Arc<str>) -> Self {
        Self::Shared(Arc::clone(value))
    }
}

impl From<&PlatformId> for Cell {
    fn from(value: &PlatformId) -> Self {
        Self::Shared(value.into())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value)
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
        let (count, places) = (rows.0.len(), places(rows.0.len()));
        self.part.sql.push_str("(VALUES ");
        let row = format!("(?{})", ",?".repeat(COLUMNS.saturating_sub(1)));
        for place in 0..places {
            self.part.sql.push_str(if place == 0 { "" } else { "," });
            self.part.sql.push_str(&row);
        }
        self.part.sql.push(')');
        self.part.arguments.reserve(places * COLUMNS, 0);
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
            Cell::Null => self.part.arguments.add(None::<i64>),
            Cell::Integer(value) => self.part.arguments.add(value),
            Cell::Text(value) => self.part.arguments.add(value),
            Cell::Shared(value) => self.part.arguments.add(value),
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
mod tests {
    use std::collections::BTreeSet;

    use sqlx::Connection;

    use super::*;

    #[test]
    fn a_word_stays_what_it_is_and_those_that_are_remembered_are_few_and_short() {
        let text = |cell: Cell| if let Cell::Shared(text) = cell { Some(text) } else { None };
        let long = "x".repeat(LONGEST_WORD + 1);
        for word in (0..2 * MOST_WORDS).map(|n| n.to_string()).chain([String::new(), long]) {
            assert_eq!(text(Cell::word(&word)).as_deref(), Some(word.as_str()));
        }
        WORDS.with_borrow(|words| {
            assert_eq!(words.len(), MOST_WORDS);
            assert!(words.iter().all(|word| word.len() <= LONGEST_WORD));
        });
        let twice = [text(Cell::word("0")), text(Cell::word("0"))];
        assert!(matches!(twice, [Some(one), Some(other)] if Arc::ptr_eq(&one, &other)));
    }

    #[test]
    fn of_many_places_few_are_left_over_and_they_are_of_few_numbers() {
        assert_eq!([0, 1, 2, 3, 5, 9, 16, 17, 24, 25, 48, 49].map(places), [0, 1, 2, 4, 8, 16, 16, 24, 24, 32, 48, 64]);
        let all: BTreeSet<usize> = (1..=ROWS).map(places).collect();
        assert_eq!((all.len(), all.last()), (17, Some(&ROWS)));
        assert!((MANY..=ROWS).all(|rows| (rows..=rows * 3 / 2).contains(&places(rows))));
    }

    async fn table() -> Result<SqliteConnection, sqlx::Error> {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await?;
        sqlx::raw_sql("CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT, c BLOB) STRICT")
            .execute(&mut connection)
            .await?;
        Ok(connection)
    }

    async fn insert(connection: &mut SqliteConnection, count: usize) -> Result<u64, StoreError> {
        let row = |n: usize| [n.into(), (n % 2 == 1).then_some(7_i64).into(), "text".into(), vec![0, 1].into()];
        let mut step = Step::default();
        for rows in (0..count).map(row).collect::<Rows<4>>().by_statement() {
            step.sql("INSERT INTO t SELECT column1, column2 + ").bind(1_i64)?.sql(", column3, column4 FROM ");
            step.values(rows)?.sql(IS_ROW).end();
        }
        step.execute(connection).await
    }

    /// What a call has of operations has no bound, and its end ends all of them; SQLite has bounds, for cells and for texts.
    #[tokio::test]
    async fn a_step_takes_any_number_of_rows_and_nothing_besides() -> Result<(), Box<dyn std::error::Error>> {
        for count in [0, 1, 2, 3, 5, 1023, 1024, 1025, 130_000] {
            let mut connection = table().await?;
            assert_eq!(insert(&mut connection, count).await?, u64::try_from(count)?);
            let found: (i64, i64, i64) =
                sqlx::query_as("SELECT count(*), coalesce(sum(a), 0), coalesce(sum(b = 'text' AND c = x'0001'), 0) FROM t")
                    .fetch_one(&mut connection)
                    .await?;
            let odd = i64::try_from(count / 2)?;
            assert_eq!(found, (i64::try_from(count)?, 8 * odd, i64::try_from(count)?));
        }
        Ok(())
    }
}
