//! Marks of what may differ between the rows and OVN.

use sqlx::Row as _;
use state::{Db, Tx};

use crate::NetError;
use crate::ovn::Unit;

/// The topic that wakes the reconcilers.
pub(crate) const TOPIC: &str = "network";

/// One mark, as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub unit: Unit,
    token: String,
}

/// Marks a unit in the transaction that changes it. Nobody is woken: whoever marks reconciles at once, and the
/// worker's tick finds what that left.
pub(crate) async fn mark(tx: &mut Tx, unit: &Unit) -> Result<Mark, NetError> {
    let token = state::new_id();
    sqlx::query(
        "INSERT INTO net_dirty (kind, id, token) VALUES ($1, $2, $3) \
         ON CONFLICT (kind, id) DO UPDATE SET token = excluded.token",
    )
    .bind(unit.kind())
    .bind(unit.id().to_owned())
    .bind(token.clone())
    .execute(tx.conn())
    .await?;
    Ok(Mark { unit: unit.clone(), token })
}

/// At most `limit` marks, in the order in which units depend on each other.
pub(crate) async fn marks(db: &Db, limit: i64) -> Result<Vec<Mark>, NetError> {
    let rows = sqlx::query("SELECT kind, id, token FROM net_dirty ORDER BY kind, id LIMIT $1")
        .bind(limit)
        .fetch_all(db.read())
        .await?;
    rows.iter()
        .filter_map(|row| {
            let mark = (|| {
                let (kind, id, token): (String, String, String) =
                    (row.try_get("kind")?, row.try_get("id")?, row.try_get("token")?);
                Ok::<_, sqlx::Error>(Unit::parse(&kind, id).map(|unit| Mark { unit, token }))
            })();
            mark.map_err(NetError::from).transpose()
        })
        .collect()
}

/// Removes marks, but of units that were marked again since.
pub(crate) async fn clear(db: &Db, marks: &[Mark]) -> Result<(), NetError> {
    if marks.is_empty() {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    for mark in marks {
        sqlx::query("DELETE FROM net_dirty WHERE kind = $1 AND id = $2 AND token = $3")
            .bind(mark.unit.kind())
            .bind(mark.unit.id().to_owned())
            .bind(mark.token.clone())
            .execute(tx.conn())
            .await?;
    }
    tx.commit().await?;
    Ok(())
}
