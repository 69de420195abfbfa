//! When lookups are sorted, and by whom.
//!
//! The writer remembers what the newest lines of the change log are found by. Once there are enough of them it sorts that in memory, as
//! a run, of which every commit then takes a slice along, somewhat larger than what it brings itself: nobody waits for the sorting, and
//! few pages are written for it. When the whole run is written its lines count as sorted; until then searches look through them.
//!
//! After a start, an error, or when others have written, nothing is remembered: then the database reads its own lines and sorts them
//! ([`lookup::step`]), and what comes behind them is remembered anew.

use sqlx::{Connection, SqliteConnection};

use super::{
    lookup,
    rows::{IS_ROW, Rows, Step},
};
use crate::store::StoreError;

/// Of how many lines a run is made: more of them make fewer pages to write, and more lines to look through.
const LINES: usize = 8192;
/// Of how many when there is nothing else to do. As many may come while nothing is remembered, before the database sorts what there is.
const FEWEST_LINES: usize = 4096;
/// How many entries are written at a time where no commit takes them along.
const ENTRIES_AT_ONCE: usize = 1024;

/// What lines of the change log are found by.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Each hash with what it leads to.
    entries: Vec<(i64, i64)>,
    /// The oldest and the newest operation among that.
    operations: Option<(i64, i64)>,
    lines: usize,
    /// The last of the lines.
    last: i64,
}

impl Found {
    /// Adds a line that leads to an operation by these.
    pub(super) fn operation(&mut self, line: i64, operation: i64, found_by: (Option<i64>, Option<i64>)) {
        self.line(line);
        let hashes = [found_by.0, found_by.1];
        self.entries.extend(hashes.into_iter().flatten().map(|hash| (hash, operation)));
        if hashes.iter().any(Option::is_some) {
            self.include((operation, operation));
        }
    }

    /// Adds a line that leads to itself by this, if by anything.
    pub(super) fn other(&mut self, line: i64, found_by: Option<i64>) {
        self.line(line);
        self.entries.extend(found_by.map(|hash| (hash, line)));
    }

    /// How many entries a commit that brings these takes along: more than it brings, so that a run is written before the next is
    /// complete; and as many as there are places in a statement.
    pub(super) fn slice(&self) -> usize {
        (self.entries.len() + 1).next_power_of_two()
    }

    fn line(&mut self, line: i64) {
        self.lines += 1;
        self.last = self.last.max(line);
    }

    fn include(&mut self, (oldest, newest): (i64, i64)) {
        let (known_oldest, known_newest) = self.operations.unwrap_or((oldest, newest));
        self.operations = Some((known_oldest.min(oldest), known_newest.max(newest)));
    }

    fn append(&mut self, more: Self) {
        self.entries.extend(more.entries);
        self.lines += more.lines;
        self.last = self.last.max(more.last);
        if let Some(operations) = more.operations {
            self.include(operations);
        }
    }

    fn speaks_of_older(&self, position: i64) -> bool {
        self.entries.iter().any(|(_, leads_to)| *leads_to < position)
    }
}

/// What is being written, in order.
#[derive(Debug)]
struct Run {
    found: Found,
    written: usize,
}

impl Run {
    /// The next of its entries, so many at the most.
    fn next(&self, count: usize) -> &[(i64, i64)] {
        let rest = self.found.entries.get(self.written..).unwrap_or_default();
        rest.get(..count).unwrap_or(rest)
    }

    const fn is_written(&self) -> bool {
        self.written >= self.found.entries.len()
    }
}

/// What is known of the lines that are not sorted yet.
#[derive(Debug, Default)]
pub(super) struct Sorting {
    run: Option<Run>,
    /// What came behind the run; `None` if there are lines that nothing is known of.
    rest: Option<Found>,
    /// How many lines came while that was so.
    unknown: usize,
    /// Whether the last step found that little is left in the database that is not remembered.
    is_done: bool,
}

impl Sorting {
    /// These lines are committed.
    pub(super) fn come(&mut self, found: Found) {
        match &mut self.rest {
            Some(rest) => rest.append(found),
            None => self.unknown += found.lines,
        }
    }

    /// What is remembered may be wrong by now.
    pub(super) fn begin_anew(&mut self) {
        *self = Self { unknown: self.unknown, ..Self::default() };
    }

    /// Nothing is remembered, and nothing is to be done before more lines have come: returns what it was.
    pub(super) fn give_up(&mut self) -> Self {
        std::mem::replace(self, Self { is_done: true, ..Self::default() })
    }

    /// These are going from the database as well, each a hash with what it leads to. If that is rolled back, nothing is to be remembered.
    pub(super) fn forget(&mut self, gone: &[(i64, i64)]) {
        if gone.is_empty() {
            return;
        }
        let leads_on = |entry: &(i64, i64)| !gone.contains(entry);
        if let Some(run) = &mut self.run {
            let mut written = 0..run.written;
            run.found.entries.retain(|entry| written.next().is_some() || leads_on(entry));
        }
        if let Some(rest) = &mut self.rest {
            rest.entries.retain(leads_on);
        }
    }

    /// What had come before this position may have been removed.
    pub(super) fn removed_before(&mut self, position: i64) {
        let remembered = self.run.iter().map(|run| &run.found).chain(&self.rest);
        if remembered.into_iter().any(|found| found.speaks_of_older(position)) {
            self.begin_anew();
        }
    }

    /// Adds the statement that takes a slice of the run along with what a commit brings. Returns of how many entries.
    pub(super) fn add_slice(&self, step: &mut Step, brings: &Found) -> Result<usize, StoreError> {
        self.add(step, brings.slice())
    }

    fn add(&self, step: &mut Step, count: usize) -> Result<usize, StoreError> {
        let slice = self.run.as_ref().map_or(&[][..], |run| run.next(count));
        if slice.is_empty() {
            return Ok(0);
        }
        // the last slice has as many places: each other number would be another statement, to be prepared and kept
        let places = slice.iter().map(Some).chain(std::iter::repeat(None)).take(count);
        let rows: Rows<2> = places.map(|entry| [entry.map(|(hash, _)| *hash).into(), entry.map(|(_, to)| *to).into()]).collect();
        for rows in rows.by_statement() {
            step.sql("INSERT OR IGNORE INTO lookup (segment, hash, operation)");
            step.sql(" SELECT (SELECT max(id) FROM lookup_segment), column1, column2 FROM ");
            step.values(rows)?.sql(IS_ROW).end();
        }
        Ok(slice.len())
    }

    /// So many more entries of the run are committed.
    pub(super) const fn written(&mut self, count: usize) {
        if let Some(run) = &mut self.run {
            run.written += count;
        }
    }

    /// Whether there is something to be done between commits.
    pub(super) fn is_due(&self) -> bool {
        let Some(rest) = &self.rest else { return self.unknown >= FEWEST_LINES };
        match &self.run {
            Some(run) => run.is_written() || rest.lines >= LINES,
            None => rest.lines >= LINES,
        }
    }

    /// Whether a step is worth its while when there is nothing else to do.
    pub(super) fn is_welcome(&self) -> bool {
        match &self.rest {
            Some(rest) => self.run.is_some() || rest.lines >= FEWEST_LINES,
            None => !self.is_done,
        }
    }

    /// Does the next of what is to be done. `is_idle`: because there is nothing else to do. Nothing is remembered if it fails.
    ///
    /// `as_of`: the version of the writing of others as of which things are remembered.
    pub(super) async fn step(
        &mut self,
        connection: &mut SqliteConnection,
        as_of: Option<i64>,
        is_idle: bool,
    ) -> Result<(), StoreError> {
        // should it fail, it waits for more lines
        let before = self.give_up();
        *self = match before {
            Self { rest: Some(rest), run, .. } => write(connection, as_of, run, rest).await?,
            Self { unknown, .. } => {
                let done = lookup::step(connection, !is_idle).await?;
                // where much has piled up it becomes less: the database sorts twice as many lines as come meanwhile
                let unknown = if is_idle { unknown } else { FEWEST_LINES / 2 };
                Self { rest: done.is_all.then(Found::default), is_done: !done.is_any, unknown, ..Self::default() }
            }
        };
        Ok(())
    }
}

/// Ends the run, goes on with it, or begins the next.
async fn write(
    connection: &mut SqliteConnection,
    as_of: Option<i64>,
    run: Option<Run>,
    mut rest: Found,
) -> Result<Sorting, StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let version = sqlx::query_scalar("SELECT data_version FROM pragma_data_version").fetch_one(&mut *transaction).await?;
    if as_of != Some(version) {
        return Ok(Sorting::default());
    }
    let mut sorting = Sorting::default();
    match run {
        Some(run) if run.is_written() => {
            let Found { entries, operations, last, .. } = run.found;
            lookup::end_run(&mut transaction, operations, entries.len(), last).await?;
        }
        Some(run) => {
            sorting.run = Some(run);
            let mut step = Step::default();
            let count = sorting.add(&mut step, ENTRIES_AT_ONCE)?;
            step.execute(&mut transaction).await?;
            sorting.written(count);
        }
        None => {
            lookup::begin_run(&mut transaction, rest.operations).await?;
            let mut found = std::mem::take(&mut rest);
            found.entries.sort_unstable();
            sorting.run = Some(Run { found, written: 0 });
        }
    }
    transaction.commit().await?;
    sorting.rest = Some(rest);
    Ok(sorting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(operations: std::ops::Range<i64>) -> Found {
        let mut found = Found::default();
        for operation in operations {
            found.operation(1000 + operation, operation, (Some(-operation), None));
        }
        found
    }

    #[test]
    fn a_run_is_written_before_the_next_is_complete() {
        for brings in 0..300 {
            let (mut rest, mut written) = (found(0..0), 0);
            while rest.lines < LINES {
                let more = found(0..brings);
                written += more.slice();
                rest.append(more);
                rest.lines += 1; // there are lines that bring nothing
            }
            assert!(written >= rest.entries.len(), "{brings} at a time: {written}");
        }
    }

    #[test]
    fn what_is_gone_is_not_written() {
        let mut sorting = Sorting { rest: Some(found(20..30)), ..Sorting::default() };
        sorting.run = Some(Run { found: found(10..20), written: 3 });
        // as many places of a run have been written as before, and what leads elsewhere by the same hash stays
        sorting.forget(&[(-11, 11), (-13, 13), (-19, 19), (-25, 25), (-14, 16), (-16, 14)]);
        let operations = |entries: &[(i64, i64)]| entries.iter().map(|(_, operation)| *operation).collect::<Vec<_>>();
        assert_eq!(sorting.run.map(|run| operations(run.next(100))), Some(vec![14, 15, 16, 17, 18]));
        assert_eq!(sorting.rest.map(|rest| operations(&rest.entries)), Some(vec![20, 21, 22, 23, 24, 26, 27, 28, 29]));
    }

    #[test]
    fn nothing_is_remembered_that_may_be_gone() {
        let mut sorting = Sorting { rest: Some(found(20..30)), ..Sorting::default() };
        sorting.run = Some(Run { found: found(10..20), written: 3 });
        sorting.removed_before(10);
        assert!(sorting.run.is_some() && sorting.rest.is_some());
        sorting.removed_before(11);
        assert!(sorting.run.is_none() && sorting.rest.is_none());
        sorting.come(found(30..40));
        assert_eq!((sorting.unknown, sorting.rest.is_none()), (10, true), "the database sorts them by itself");
    }
}
