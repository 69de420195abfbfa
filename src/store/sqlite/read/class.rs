//! Lists by source, kind, state and subcode: those of each class that occurs are in order already; the newest of all are wanted.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::bounds;
use crate::store::{StoreError, rows::PageRequest, sqlite::batch::json};

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
}

/// A table whose rows have classes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Table {
    Operation,
    Notification,
    Call,
}

impl Table {
    /// Every class that occurs: one look into the index for each.
    const fn classes(self) -> &'static str {
        match self {
            Self::Operation => classes_sql!("operation"),
            Self::Notification => classes_sql!("notification"),
            Self::Call => classes_sql!("call"),
        }
    }

    /// The newest rows of some classes, of those between two positions: as many of each as are wanted, and then of them all.
    const fn newest(self) -> &'static str {
        match self {
            Self::Operation => newest_sql!("operation"),
            Self::Notification => newest_sql!("notification"),
            Self::Call => newest_sql!("call"),
        }
    }

    /// The classes that are asked for, of those that occur.
    pub(super) async fn asked_for(self, connection: &mut SqliteConnection, asked: &Asked<'_>) -> Result<Vec<String>, StoreError> {
        let mut classes: Vec<String> = sqlx::query_scalar(self.classes()).fetch_all(connection).await?;
        classes.retain(|class| self.is_asked_for(class, asked));
        Ok(classes)
    }

    fn is_asked_for(self, class: &str, asked: &Asked<'_>) -> bool {
        // as the migration puts it together: a kind may hold spaces, the others cannot
        let mut parts = class.splitn(if matches!(self, Self::Operation) { 4 } else { 2 }, ' ');
        let source = parts.next().unwrap_or_default();
        let state = if matches!(self, Self::Notification) { None } else { parts.next() };
        let (subcode, kind) = match self {
            Self::Operation => (parts.next(), parts.next()),
            Self::Notification => (None, parts.next()),
            Self::Call => (None, None),
        };
        asked.source.is_none_or(|asked| asked == source)
            && asked.kind.is_none_or(|asked| kind == Some(asked))
            && asked.states.as_ref().is_none_or(|asked| state.is_some_and(|state| asked.contains(&state)))
            && asked.subcode.is_none_or(|asked| subcode.and_then(|code| code.parse().ok()) == Some(asked))
    }
}

macro_rules! classes_sql {
    ($table:literal) => {
        concat!(
            "WITH RECURSIVE found (class) AS (
                 SELECT min(class) FROM ",
            $table,
            " UNION ALL
                 SELECT (SELECT min(class) FROM ",
            $table,
            " WHERE class > found.class) FROM found WHERE found.class IS NOT NULL
             )
             SELECT class FROM found WHERE class IS NOT NULL"
        )
    };
}
use classes_sql;

macro_rules! newest_sql {
    ($table:literal) => {
        concat!(
            "SELECT held.id
             FROM json_each(?1) AS asked
             CROSS JOIN ",
            $table,
            " AS held ON held.id IN (
                 SELECT id FROM ",
            $table,
            " AS of_class
                 WHERE of_class.class = asked.value AND of_class.id >= ?2 AND of_class.id < ?3
                 ORDER BY of_class.id DESC
                 LIMIT ?4)
             ORDER BY held.id DESC
             LIMIT ?4"
        )
    };
}
use newest_sql;

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
