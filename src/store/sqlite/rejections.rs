//! Who was turned away: the newest of them, in rows.

use sqlx::SqliteConnection;

use super::positions::Positions;
use crate::store::{StoreError, rejections::Repeated};

/// How many rejections the ledger keeps.
const KEPT: i64 = 10_000;

/// Writes rejections down and forgets the oldest beyond those that are kept.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    positions: &mut Positions,
    rejections: &[Repeated],
) -> Result<(), StoreError> {
    let rows: Vec<_> = rejections
        .iter()
        .map(|Repeated { first, count, last_at }| {
            let at = first.at.as_millisecond();
            let text = (&first.peer, &first.unverified_key_id, &first.unverified_issuer, &first.user_agent);
            (positions.next(), at, last_at.as_millisecond(), count, &first.receiver, first.reason.as_str(), text)
        })
        .collect();
    let rows = serde_json::to_string(&rows).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    sqlx::query(
        "INSERT INTO rejection (id, at, last_at, count, receiver, reason, peer, key_id, issuer, user_agent)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
                value ->> '$[6][0]', value ->> '$[6][1]', value ->> '$[6][2]', value ->> '$[6][3]'
         FROM json_each(?1)",
    )
    .bind(rows)
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM rejection WHERE id <= (SELECT id FROM rejection ORDER BY id DESC LIMIT 1 OFFSET ?1)")
        .bind(KEPT)
        .execute(connection)
        .await?;
    Ok(())
}
