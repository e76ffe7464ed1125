//! Rows of `object_topics`, and of `object_notifying`: the containers that have somebody to tell.

use crate::ObjectError;
use crate::notify::Topic;
use crate::notify::topic::TopicInfo;
use state::{Db, StateError, Timestamp, Tx};

/// A topic and what is said of it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) topic: Topic,
    pub(crate) info: TopicInfo,
}

pub(crate) async fn find(db: &Db, topic: &Topic) -> Result<Option<Row>, ObjectError> {
    let info: Option<String> =
        sqlx::query_scalar("SELECT info FROM object_topics WHERE project_id = $1 AND name = $2")
            .bind(topic.project.clone())
            .bind(topic.name.clone())
            .fetch_optional(db.read())
            .await?;
    let read = |text: String| serde_json::from_str(&text).map_err(StateError::from);
    Ok(info.map(read).transpose()?.map(|info| Row { topic: topic.clone(), info }))
}

pub(crate) async fn put(db: &Db, topic: &Topic, info: &TopicInfo, now: Timestamp) -> Result<(), ObjectError> {
    let text = serde_json::to_string(info).map_err(StateError::from)?;
    let mut tx = db.begin().await?;
    sqlx::query(
        "INSERT INTO object_topics (project_id, name, info, created_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (project_id, name) DO UPDATE SET info = excluded.info",
    )
    .bind(topic.project.clone())
    .bind(topic.name.clone())
    .bind(text)
    .bind(now)
    .execute(tx.conn())
    .await?;
    Ok(tx.commit().await?)
}

pub(crate) async fn delete(db: &Db, topic: &Topic) -> Result<(), ObjectError> {
    let mut tx = db.begin().await?;
    sqlx::query("DELETE FROM object_topics WHERE project_id = $1 AND name = $2")
        .bind(topic.project.clone())
        .bind(topic.name.clone())
        .execute(tx.conn())
        .await?;
    Ok(tx.commit().await?)
}

/// The topics of the project of `any`, with names after `after`.
pub(crate) async fn list(db: &Db, any: &Topic, after: &str, most: usize) -> Result<Vec<Topic>, ObjectError> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM object_topics WHERE project_id = $1 AND name > $2 ORDER BY name LIMIT $3",
    )
    .bind(any.project.clone())
    .bind(after.to_owned())
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_all(db.read())
    .await?;
    Ok(names.into_iter().map(|name| Topic { name, ..any.clone() }).collect())
}

/// Notes that a container has somebody to tell.
pub(crate) async fn begin(tx: &mut Tx, container: &str) -> Result<(), ObjectError> {
    sqlx::query(
        "INSERT INTO object_notifying (container_id, teller, until) VALUES ($1, '', 0) \
         ON CONFLICT (container_id) DO NOTHING",
    )
    .bind(container.to_owned())
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Notes that a container has nobody to tell any more, and nothing.
pub(crate) async fn end(db: &Db, container: &str) -> Result<(), ObjectError> {
    let mut tx = db.begin().await?;
    sqlx::query("DELETE FROM object_notifying WHERE container_id = $1")
        .bind(container.to_owned())
        .execute(tx.conn())
        .await?;
    Ok(tx.commit().await?)
}

/// The containers that this process tells of, or may: nobody else does at the moment.
pub(crate) async fn free(db: &Db, me: &str, now: Timestamp) -> Result<Vec<(String, i64)>, ObjectError> {
    Ok(sqlx::query_as(
        "SELECT container_id, CASE WHEN teller = $1 THEN until ELSE 0 END FROM object_notifying \
         WHERE teller = $1 OR until < $2",
    )
    .bind(me.to_owned())
    .bind(now)
    .fetch_all(db.read())
    .await?)
}

/// Takes a container, or keeps it, until `until`; whether nobody else has it.
pub(crate) async fn claim(
    db: &Db,
    container: &str,
    me: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<bool, ObjectError> {
    let mut tx = db.begin().await?;
    let done = sqlx::query(
        "UPDATE object_notifying SET teller = $2, until = $4 \
         WHERE container_id = $1 AND (teller = $2 OR until < $3)",
    )
    .bind(container.to_owned())
    .bind(me.to_owned())
    .bind(now)
    .bind(until)
    .execute(tx.conn())
    .await?;
    tx.commit().await?;
    Ok(done.rows_affected() > 0)
}
