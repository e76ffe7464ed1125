//! Rows of `object_keys`: the secret that wraps the keys of sealed objects.

use crate::ObjectError;
use state::{Db, Timestamp};

/// The root secret, in base64; `fresh` where there is none yet.
pub(crate) async fn root(db: &Db, fresh: &str) -> Result<String, ObjectError> {
    let mut tx = db.begin().await?;
    sqlx::query(
        "INSERT INTO object_keys (name, secret, created_at) VALUES ('root', $1, $2) ON CONFLICT (name) DO NOTHING",
    )
    .bind(fresh.to_owned())
    .bind(Timestamp::now())
    .execute(tx.conn())
    .await?;
    let secret: String =
        sqlx::query_scalar("SELECT secret FROM object_keys WHERE name = 'root'").fetch_one(tx.conn()).await?;
    tx.commit().await?;
    Ok(secret)
}
