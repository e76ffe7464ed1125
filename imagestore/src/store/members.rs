//! The `image_members` table.

use crate::model::{Member, MemberStatus};
use state::{Db, StateError, Timestamp, Tx};

#[derive(sqlx::FromRow)]
struct Row {
    image_id: String,
    member_id: String,
    status: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl TryFrom<Row> for Member {
    type Error = StateError;

    fn try_from(r: Row) -> Result<Member, StateError> {
        let status = MemberStatus::parse(&r.status)
            .ok_or_else(|| StateError::Corrupt(format!("member status {:?}", r.status)))?;
        let (created_at, updated_at) = (r.created_at, r.updated_at);
        Ok(Member { image_id: r.image_id, member_id: r.member_id, status, created_at, updated_at })
    }
}

/// Adds a member; `Conflict` where it is one.
pub(crate) async fn insert(tx: &mut Tx, m: &Member) -> Result<(), StateError> {
    sqlx::query(
        "INSERT INTO image_members (image_id, member_id, status, created_at, updated_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&m.image_id)
    .bind(&m.member_id)
    .bind(m.status.as_str())
    .bind(m.created_at)
    .bind(m.updated_at)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Every member of an image, by id.
pub(crate) async fn list(db: &Db, image: &str) -> Result<Vec<Member>, StateError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT image_id, member_id, status, created_at, updated_at FROM image_members WHERE image_id = $1 \
         ORDER BY member_id",
    )
    .bind(image)
    .fetch_all(db.read())
    .await?;
    rows.into_iter().map(Member::try_from).collect()
}

pub(crate) async fn get(db: &Db, image: &str, member: &str) -> Result<Option<Member>, StateError> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT image_id, member_id, status, created_at, updated_at FROM image_members \
         WHERE image_id = $1 AND member_id = $2",
    )
    .bind(image)
    .bind(member)
    .fetch_optional(db.read())
    .await?;
    row.map(Member::try_from).transpose()
}

/// Writes what a member says; false where it is none.
pub(crate) async fn set_status(tx: &mut Tx, m: &Member) -> Result<bool, StateError> {
    let done = sqlx::query(
        "UPDATE image_members SET status = $1, updated_at = $2 WHERE image_id = $3 AND member_id = $4",
    )
    .bind(m.status.as_str())
    .bind(m.updated_at)
    .bind(&m.image_id)
    .bind(&m.member_id)
    .execute(tx.conn())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// False where there was none.
pub(crate) async fn remove(tx: &mut Tx, image: &str, member: &str) -> Result<bool, StateError> {
    let done = sqlx::query("DELETE FROM image_members WHERE image_id = $1 AND member_id = $2")
        .bind(image)
        .bind(member)
        .execute(tx.conn())
        .await?;
    Ok(done.rows_affected() == 1)
}
