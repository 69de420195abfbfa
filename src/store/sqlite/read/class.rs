//! Lists by source, kind, state and subcode: those of each class that occurs are in order already; the newest of all are wanted.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::bounds;
use crate::store::{
    StoreError,
    rows::PageRequest,
    sqlite::{
        batch::json,
        classes::{Class, ClassRow, class_of, of_table, parts_sql},
    },
};

pub(super) use crate::store::sqlite::classes::Table;

/// What a list is asked for by, of what a class is made of; `None` asks for nothing.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    pub(super) source: Option<&'a str>,
    pub(super) kind: Option<&'a str>,
    /// One of these.
    pub(super) states: Option<Vec<&'a str>>,
    pub(super) subcode: Option<i64>,
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

impl Asked<'_> {
    /// Whether it asks for something that classes answer.
    pub(super) const fn is_for_classes(&self) -> bool {
        self.source.is_some() || self.kind.is_some() || self.states.is_some() || self.subcode.is_some()
    }

    fn asks_for(&self, class: &Class<'_>) -> bool {
        self.source.is_none_or(|asked| asked == class.source)
            && self.kind.is_none_or(|asked| class.kind == Some(asked))
            && self.states.as_ref().is_none_or(|asked| class.state.is_some_and(|state| asked.contains(&state)))
            && self.subcode.is_none_or(|asked| class.subcode == Some(asked))
    }
}

impl Table {
    /// Every class that occurs: one look into the index for each, and at one of its rows.
    const fn classes(self) -> &'static str {
        macro_rules! sql {
            ($table:tt) => {
                concat!(
                    "WITH RECURSIVE found (class) AS (
                         SELECT min(class_hash) FROM ",
                    $table,
                    " UNION ALL
                         SELECT (SELECT min(class_hash) FROM ",
                    $table,
                    " WHERE class_hash > found.class) FROM found WHERE found.class IS NOT NULL
                     )
                     SELECT class, ",
                    parts_sql!($table),
                    " FROM found
                     CROSS JOIN ",
                    $table,
                    " AS held ON held.id = (SELECT id FROM ",
                    $table,
                    " AS of_class WHERE of_class.class_hash = found.class LIMIT 1)"
                )
            };
        }
        of_table!(self, sql)
    }

    /// The newest rows of some classes, of those between two positions: as many of each as are wanted, and then of them all.
    const fn newest(self) -> &'static str {
        macro_rules! sql {
            ($table:tt) => {
                concat!(
                    "SELECT held.id
                     FROM json_each(?1) AS asked
                     CROSS JOIN ",
                    $table,
                    " AS held ON held.id IN (
                         SELECT id FROM ",
                    $table,
                    " AS of_class
                         WHERE of_class.class_hash = asked.value AND of_class.id >= ?2 AND of_class.id < ?3
                         ORDER BY of_class.id DESC
                         LIMIT ?4)
                     ORDER BY held.id DESC
                     LIMIT ?4"
                )
            };
        }
        of_table!(self, sql)
    }

    /// The classes that are asked for, of those that occur.
    pub(super) async fn asked_for(self, connection: &mut SqliteConnection, asked: &Asked<'_>) -> Result<Vec<i64>, StoreError> {
        let classes: Vec<ClassRow> = sqlx::query_as(self.classes()).fetch_all(connection).await?;
        Ok(classes.iter().filter(|row| asked.asks_for(&class_of(row))).filter_map(|row| row.0).collect())
    }
}

/// Goes through the rows of the classes that are asked for, newest first.
#[derive(Debug)]
pub(super) struct Walk {
    table: Table,
    classes: String,
    from: i64,
    below: i64,
    at_once: i64,
    is_over: bool,
}

impl Walk {
    pub(super) async fn begin(
        connection: &mut SqliteConnection,
        table: Table,
        asked: &Asked<'_>,
        page: PageRequest,
    ) -> Result<Self, StoreError> {
        let classes = table.asked_for(connection, asked).await?;
        let (from, to) = bounds(asked.since, asked.until);
        let below = page.after.map_or(to, |after| after.0.min(to));
        let is_over = classes.is_empty();
        Ok(Self { table, classes: json(&classes)?, from, below, at_once: i64::from(page.limit) + 1, is_over })
    }

    /// The next rows, as a JSON array of their positions; `None` behind the last.
    pub(super) async fn next(&mut self, connection: &mut SqliteConnection) -> Result<Option<String>, StoreError> {
        if self.is_over {
            return Ok(None);
        }
        let ids: Vec<i64> = sqlx::query_scalar(self.table.newest())
            .bind(&self.classes)
            .bind(self.from)
            .bind(self.below)
            .bind(self.at_once)
            .fetch_all(connection)
            .await?;
        self.is_over = i64::try_from(ids.len()).is_ok_and(|count| count < self.at_once);
        let Some(last) = ids.last() else { return Ok(None) };
        self.below = *last;
        json(&ids).map(Some)
    }
}
