//! Classes: lists are asked for by source, state, subcode and kind, in any combination. The combinations that occur are few, and the
//! rows of each are in order by themselves, under 47 bits of a hash of it. What such a hash stands for says any row that has it.
//!
//! Whoever writes a row writes its class; rows that are older than classes get theirs when the ledger is opened.

use std::cell::RefCell;

use aws_lc_rs::digest;
use sqlx::SqliteConnection;

use super::batch::json;
use crate::store::{
    StoreError,
    rows::{Difference, Finding},
};

/// How many rows get their classes in one transaction.
const ROWS_AT_ONCE: i64 = 10_000;
/// After how many rows the log tells how far it is: some four seconds.
const ROWS_A_LINE: u64 = 200_000;

/// A combination by which rows are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Class<'a> {
    pub(super) source: &'a str,
    /// Of an operation, or of a call where it is known.
    pub(super) state: Option<&'a str>,
    /// Of an operation.
    pub(super) subcode: Option<i64>,
    /// Of an operation or a notification.
    pub(super) kind: Option<&'a str>,
}

thread_local! {
    /// Of the classes that came first, under what their rows are listed.
    static KNOWN: RefCell<Vec<ClassRow>> = const { RefCell::new(Vec::new()) };
}

/// How many classes are remembered, and how long a kind of theirs may be (bytes).
const MOST_KNOWN: usize = 64;
const LONGEST_KIND: usize = 64;

impl Class<'_> {
    /// Under what its rows are listed.
    pub(super) fn hash(&self) -> i64 {
        KNOWN.with_borrow_mut(|known| {
            if let Some(hash) = known.iter().find(|row| class_of(row) == *self).and_then(|row| row.0) {
                return hash;
            }
            let hash = self.hashed();
            if known.len() < MOST_KNOWN && self.kind.is_none_or(|kind| kind.len() <= LONGEST_KIND) {
                let owned = |text: Option<&str>| text.map(str::to_owned);
                known.push((Some(hash), self.source.to_owned(), owned(self.state), self.subcode, owned(self.kind)));
            }
            hash
        })
    }

    /// As much of its hash as SQLite stores in six bytes: with a thousand classes any two of them meet in one ledger of 280 million.
    fn hashed(&self) -> i64 {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(self.source.as_bytes());
        for part in [self.state, self.kind] {
            hash.update(&[0, part.is_some().into()]);
            hash.update(part.unwrap_or_default().as_bytes());
        }
        if let Some(subcode) = self.subcode {
            hash.update(&[0]);
            hash.update(&subcode.to_be_bytes());
        }
        let bits = hash.finish().as_ref().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        i64::try_from(bits >> 17).unwrap_or(0)
    }
}

/// A table whose rows have classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Operation,
    Notification,
    Call,
}

/// What a class stands for, behind the number that asks for it: the class, or the row that is to get one.
pub(super) type ClassRow = (Option<i64>, String, Option<String>, Option<i64>, Option<String>);

pub(super) fn class_of((_, source, state, subcode, kind): &ClassRow) -> Class<'_> {
    Class { source, state: state.as_deref(), subcode: *subcode, kind: kind.as_deref() }
}

/// The columns of a [`ClassRow`], but for the first.
macro_rules! parts_sql {
    ("operation") => {
        "source, state, subcode, kind"
    };
    ("notification") => {
        "source, NULL AS state, NULL AS subcode, kind"
    };
    ("call") => {
        "source, state, NULL AS subcode, NULL AS kind"
    };
}

/// The SQL that a macro makes for a table.
macro_rules! of_table {
    ($table:expr, $sql:ident) => {
        match $table {
            Table::Operation => $sql!("operation"),
            Table::Notification => $sql!("notification"),
            Table::Call => $sql!("call"),
        }
    };
}
pub(super) use {of_table, parts_sql};

impl Table {
    const ALL: [Self; 3] = [Self::Operation, Self::Notification, Self::Call];

    const fn name(self) -> &'static str {
        of_table!(self, concat)
    }

    const fn without_class(self) -> &'static str {
        macro_rules! sql {
            ($table:tt) => {
                concat!("SELECT id, ", parts_sql!($table), " FROM ", $table, " WHERE class_hash IS NULL ORDER BY id LIMIT ?1")
            };
        }
        of_table!(self, sql)
    }

    const fn set_classes(self) -> &'static str {
        macro_rules! sql {
            ($table:tt) => {
                concat!("UPDATE ", $table, " SET class_hash = value ->> 1 FROM json_each(?1) WHERE ", $table, ".id = value ->> 0")
            };
        }
        of_table!(self, sql)
    }

    const fn all_classes(self) -> &'static str {
        macro_rules! sql {
            ($table:tt) => {
                concat!("SELECT DISTINCT class_hash, ", parts_sql!($table), " FROM ", $table)
            };
        }
        of_table!(self, sql)
    }
}

// ---- rows that are older than classes

/// Whether there are rows that have no class yet.
pub(super) async fn are_missing(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM operation WHERE class_hash IS NULL)
             OR EXISTS (SELECT 1 FROM notification WHERE class_hash IS NULL)
             OR EXISTS (SELECT 1 FROM call WHERE class_hash IS NULL)",
    )
    .fetch_one(connection)
    .await
}

/// Gives their classes to the rows that have none yet. Goes on where it was cut off.
pub(super) async fn fill(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    for table in Table::ALL {
        let mut filled: u64 = 0;
        loop {
            let some = fill_some(connection, table).await?;
            if some == 0 {
                break;
            }
            if filled.is_multiple_of(ROWS_A_LINE) {
                tracing::info!(table = table.name(), rows = filled, "the rows of an older ledger are being put into their lists");
            }
            filled += some;
        }
    }
    Ok(())
}

/// Gives their classes to some rows of a table that have none; says to how many.
pub(super) async fn fill_some(connection: &mut SqliteConnection, table: Table) -> Result<u64, StoreError> {
    let rows: Vec<ClassRow> = sqlx::query_as(table.without_class()).bind(ROWS_AT_ONCE).fetch_all(&mut *connection).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let classes: Vec<(Option<i64>, i64)> = rows.iter().map(|row| (row.0, class_of(row).hash())).collect();
    Ok(sqlx::query(table.set_classes()).bind(json(&classes)?).execute(connection).await?.rows_affected())
}

// ---- verify, rebuild

/// The classes that are not those of their rows, as a text each.
pub(super) async fn wrong(connection: &mut SqliteConnection) -> Result<Vec<Finding>, StoreError> {
    let mut findings = Vec::new();
    for table in Table::ALL {
        let rows = wrong_in(connection, table).await?;
        findings.extend(rows.iter().map(|row| Finding(format!("rows that are not in their lists: {}", told(table, row)))));
    }
    Ok(findings)
}

/// Puts notifications into their lists that are in none or in a wrong one: all else is put there as it is derived.
pub(super) async fn mend(connection: &mut SqliteConnection) -> Result<Vec<Difference>, StoreError> {
    let mut mended = Vec::new();
    for row in wrong_in(connection, Table::Notification).await? {
        let (held, derived) = (row.0, class_of(&row).hash());
        sqlx::query("UPDATE notification SET class_hash = ?1 WHERE class_hash IS ?2 AND source = ?3 AND kind IS ?4")
            .bind(derived)
            .bind(held)
            .bind(&row.1)
            .bind(&row.4)
            .execute(&mut *connection)
            .await?;
        mended.push(Difference {
            what: format!("class of {}", told(Table::Notification, &row)),
            held: held.map_or_else(|| "nothing".to_owned(), |held| held.to_string()),
            derived: derived.to_string(),
        });
    }
    Ok(mended)
}

async fn wrong_in(connection: &mut SqliteConnection, table: Table) -> Result<Vec<ClassRow>, StoreError> {
    let mut rows: Vec<ClassRow> = sqlx::query_as(table.all_classes()).fetch_all(connection).await?;
    rows.retain(|row| row.0 != Some(class_of(row).hash()));
    Ok(rows)
}

fn told(table: Table, row: &ClassRow) -> String {
    let Class { source, state, subcode, kind } = class_of(row);
    let subcode = subcode.map(|subcode| subcode.to_string());
    let parts = [Some(source), state, subcode.as_deref(), kind];
    format!("{} {}", table.name(), parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They are stored: what stands for a class must stay what it is.
    #[test]
    fn a_class_has_the_same_47_bits_forever_and_no_other_class_has_them() {
        let call = Class { source: "graph", ..Class::default() };
        let established = Class { state: Some("established"), ..call };
        let notification = Class { kind: Some("established"), ..call };
        let operation = Class { state: Some("failed"), kind: Some("recordOperation"), ..call };
        let result = Class { subcode: Some(8508), ..operation };
        let other = Class { subcode: Some(-8508), ..operation };
        let hashes = [call, established, notification, operation, result, other].map(|class| class.hash());
        let known = [
            56_699_795_291_439,
            135_261_458_034_080,
            131_711_131_525_145,
            132_331_554_410_236,
            22_782_845_361_919,
            79_336_181_898_859,
        ];
        assert_eq!(hashes, known);
        assert!(hashes.iter().all(|hash| (0..1 << 47).contains(hash)));
    }

    #[test]
    fn a_class_that_is_remembered_is_not_taken_for_another() {
        let classes = (0..MOST_KNOWN + 9).map(|number| (number.to_string(), i64::try_from(number / 4).ok()));
        let classes: Vec<_> = classes.collect();
        let classes = classes.iter().flat_map(|(text, subcode)| {
            let of = |state, kind| Class { source: "graph", state, subcode: *subcode, kind };
            let long = "x".repeat(LONGEST_KIND + 1).leak();
            [
                of(Some(text.as_str()), None),
                of(None, Some(text.as_str())),
                of(Some(""), Some(text.as_str())),
                of(None, Some(long)),
            ]
        });
        for class in classes {
            assert_eq!([class.hash(), class.hash()], [class.hashed(); 2]);
        }
    }
}
