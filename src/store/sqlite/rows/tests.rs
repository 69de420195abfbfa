use std::collections::BTreeSet;

use sqlx::Connection;

use super::*;

#[test]
fn a_word_stays_what_it_is_and_those_that_are_remembered_are_few_and_short() {
    let text = |cell: Cell| if let Cell::Text(text) = cell { Some(text) } else { None };
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
    sqlx::raw_sql("CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT, c BLOB) STRICT").execute(&mut connection).await?;
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

/// Whether a column is bound once is told by the text; that each row has its own value by what is found.
#[tokio::test]
async fn what_has_long_been_the_same_in_all_rows_is_bound_once() -> Result<(), Box<dyn std::error::Error>> {
    let mut connection = table().await?;
    let (mut next, mut sum) = (0_usize, 0_usize);
    let alike = (1000, None, false);
    let statements = [
        [(1, None, false), alike, (3, Some(2), false), (1000, Some(999), false)].as_slice(),
        &[alike; 5],
        &[(1000, None, true), (1, None, true), (2, Some(0), false), (1, None, false), (1024, None, false)],
    ]
    .concat();
    for (count, odd, is_once) in statements {
        let row = |n: usize| [(next + n).into(), count.into(), if odd == Some(n) { "odd" } else { "text" }.into(), Cell::Null];
        let rows: Rows<4> = (0..count).map(row).collect();
        (next, sum) = (next + count, sum + count * count);
        let mut step = Step::default();
        step.sql("INSERT INTO t (id, a, b, c) ").select("t", rows)?.end();
        assert_eq!(!step.part.sql.contains("column3"), is_once, "{}", step.part.sql);
        assert_eq!(step.execute(&mut connection).await?, u64::try_from(count)?);
    }
    let found: (i64, i64, i64) =
        sqlx::query_as("SELECT sum(c IS NULL), sum(b = 'odd'), sum(a) FROM t").fetch_one(&mut connection).await?;
    assert_eq!(found, (i64::try_from(next)?, 3, i64::try_from(sum)?));
    Ok(())
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
