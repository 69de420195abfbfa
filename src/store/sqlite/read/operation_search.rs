//! A page of operations: how the rows are come by that match.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

use jiff::Timestamp;
use sqlx::{Connection, SqliteConnection};

use super::{
    LedgerReader,
    class::{Table, Walk},
    is_full,
    operation_page::{Which, asked, is_looked_up, page_sql},
    operations::OperationSql,
    paged,
};
use crate::{
    domain::operation::{Deadlines, State},
    store::{
        StoreError,
        rows::{OperationFilter, OperationRow, Page, PageRequest},
        sqlite::lookup::Part,
    },
};

impl LedgerReader {
    /// A page of operations as of `now`, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn operations(
        &self,
        filter: &OperationFilter,
        page: PageRequest,
        now: Timestamp,
    ) -> Result<Page<OperationRow>, StoreError> {
        let mut connection = self.connection().await?;
        let search = Search { deadlines: &self.deadlines, filter, page, now };
        let mut rows = if is_looked_up(filter) {
            let found = search.look_up(&mut connection).await;
            if found.is_err() {
                // its snapshot may have ended, or may not: nobody else is to read as of it
                connection.close_on_drop();
            }
            found?
        } else if asked(filter).is_for_classes() {
            search.walk(&mut connection).await?
        } else {
            search.rows(&mut connection, Which::Written).await?
        };
        if matches!(filter.state, Some(State::Failed | State::Completed)) {
            // some may have ended with their calls by now without anybody having written it down
            rows.extend(search.rows(&mut connection, Which::Lapsed).await?);
            rows.sort_by_key(|row| Reverse(row.id));
        }
        let mut rows = self.read(&mut connection, rows, now).await?;
        rows.retain(|row| filter.state.is_none_or(|state| row.state == state));
        Ok(paged(rows, page, |row| row.id.0))
    }
}

/// What is searched for.
struct Search<'a> {
    deadlines: &'a Deadlines,
    filter: &'a OperationFilter,
    page: PageRequest,
    now: Timestamp,
}

impl Search<'_> {
    async fn rows(&self, connection: &mut SqliteConnection, which: Which<'_>) -> Result<Vec<OperationSql>, StoreError> {
        let mut sql = page_sql(self.deadlines, self.filter, self.page, self.now, which)?;
        Ok(sql.build_query_as().fetch_all(connection).await?)
    }

    /// By their ids or contexts: part by part, until nothing newer can follow. All as of one moment, since entries are moved.
    async fn look_up(&self, connection: &mut SqliteConnection) -> Result<Vec<OperationSql>, StoreError> {
        let mut snapshot = connection.begin().await?;
        let limit = usize::try_from(self.page.limit).unwrap_or(usize::MAX);
        let mut found: BTreeMap<Reverse<i64>, OperationSql> = BTreeMap::new();
        let mut add = |rows: Vec<OperationSql>, next: Option<&Part>| {
            found.extend(rows.into_iter().map(|row| (Reverse(row.id), row)));
            found.keys().nth(limit).is_some_and(|last| next.is_none_or(|next| last.0 > next.newest))
        };
        let unsorted = self.rows(&mut snapshot, Which::In(&Part::lines())).await?;
        let mut parts = VecDeque::from(Part::segments(&mut snapshot).await?);
        let mut is_full = add(unsorted, parts.front());
        while !is_full && let Some(part) = parts.pop_front() {
            is_full = add(self.rows(&mut snapshot, Which::In(&part)).await?, parts.front());
        }
        snapshot.rollback().await?;
        Ok(found.into_values().take(limit.saturating_add(1)).collect())
    }

    /// By their classes.
    async fn walk(&self, connection: &mut SqliteConnection) -> Result<Vec<OperationSql>, StoreError> {
        let mut walk = Walk::begin(connection, Table::Operation, &asked(self.filter), self.page).await?;
        let mut found = Vec::new();
        while !is_full(&found, self.page)
            && let Some(ids) = walk.next(connection).await?
        {
            found.extend(self.rows(connection, Which::Among(&ids)).await?);
        }
        Ok(found)
    }
}
