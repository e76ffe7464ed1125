//! Snapshots of whole groups: a snapshot of each of its volumes, all of the same instant.

use crate::groups::{may_go, ready};
use crate::model::{Metadata, Snapshot};
use crate::status::{GroupStatus, SnapshotStatus, Step};
use crate::store::groups::Filter;
use crate::{VolumeError, Volumes, quotas, store, tasks};
use api::{Context, Page};
use state::Timestamp;

/// A group's snapshot, as its row has it.
#[derive(Debug, Clone)]
pub(crate) struct GroupSnapshot {
    pub(crate) id: String,
    pub(crate) group_id: String,
    pub(crate) project_id: String,
    pub(crate) user_id: String,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) group_type_id: String,
    /// Whether that is the type of consistency groups.
    pub(crate) consistent: bool,
    pub(crate) status: GroupStatus,
    pub(crate) created_at: Timestamp,
}

/// A snapshot of a group that is asked for.
pub(crate) struct NewGroupSnapshot {
    /// Made before the call, where the caller must know it; else a new one.
    pub(crate) id: Option<String>,
    pub(crate) group_id: String,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    /// Of each part: the whole has none.
    pub(crate) metadata: Metadata,
}

impl Volumes {
    /// The group's snapshot, if the caller may see it.
    pub(crate) async fn find_group_snapshot(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
    ) -> Result<GroupSnapshot, VolumeError> {
        let found = store::groups::get_snapshot(self.db.read(), id).await?;
        let found = found
            .filter(|s| Self::sees(ctx, &s.project_id))
            .ok_or_else(|| VolumeError::GroupSnapshotNotFound(id.to_owned()))?;
        self.may(ctx, rule, &found.project_id)?;
        Ok(found)
    }

    /// Asks for a snapshot of a group: it is `creating` when this returns. With an id of the caller's choice a
    /// repeated call gives the same one.
    pub(crate) async fn create_group_snapshot(
        &self,
        ctx: &Context,
        new: NewGroupSnapshot,
    ) -> Result<GroupSnapshot, VolumeError> {
        if let Some(id) = &new.id
            && store::groups::get_snapshot(self.db.read(), id).await?.is_some()
        {
            return self.find_group_snapshot(ctx, id, "group:get_group_snapshot").await;
        }
        let group_id = new.group_id.as_str();
        let (mut tx, group, members) =
            self.hold_group(ctx, group_id, "group:create_group_snapshot", &[]).await?;
        self.all_thawed(&mut tx, &members).await?;
        if group.status != GroupStatus::Available || members.is_empty() || !members.iter().all(ready) {
            return Err(VolumeError::InvalidGroup(format!(
                "Group {group_id} and all its volumes must be available or in-use, and it must not be empty; it is {} \
                 and has {} volumes.",
                group.status,
                members.len()
            )));
        }
        let whole = GroupSnapshot {
            id: new.id.clone().unwrap_or_else(state::new_id),
            group_id: group.id,
            project_id: group.project_id,
            user_id: ctx.user.id.clone(),
            name: new.name.clone(),
            description: new.description.clone(),
            group_type_id: group.group_type_id,
            consistent: group.consistent,
            status: GroupStatus::Creating,
            created_at: Timestamp::now(),
        };
        store::groups::insert_snapshot(&mut tx, &whole).await?;
        for volume in &members {
            let kind = self.type_of(&mut tx, volume).await?;
            let spend = quotas::Spend::snapshot(volume.size_gib);
            self.spend(&mut tx, &volume.project_id, &kind, spend).await?;
            let part = Snapshot {
                id: state::new_id(),
                volume_id: volume.id.clone(),
                project_id: volume.project_id.clone(),
                user_id: whole.user_id.clone(),
                size_gib: volume.size_gib,
                status: SnapshotStatus::Creating,
                progress: "0%".into(),
                name: Some(whole.name.clone()),
                description: whole.description.clone(),
                type_id: volume.type_id.clone(),
                metadata: new.metadata.clone(),
                group_snapshot_id: Some(whole.id.clone()),
                created_at: whole.created_at,
                updated_at: None,
            };
            store::snapshots::insert(&mut tx, &part).await?;
        }
        tasks::group_snapshot::spawn(&mut tx, ctx, &whole).await?;
        tx.commit().await?;
        Ok(whole)
    }

    /// A page of the groups' snapshots that the caller sees, and whether there are more.
    pub(crate) async fn list_group_snapshots(
        &self,
        ctx: &Context,
        mut filter: Filter,
        all_projects: bool,
        page: &Page,
    ) -> Result<(Vec<GroupSnapshot>, bool), VolumeError> {
        let home = Self::home(ctx)?;
        self.may(ctx, "group:get_all_group_snapshots", home)?;
        if !(all_projects && ctx.is_admin()) {
            filter.project_id = Some(home.to_owned());
        }
        let marker = match &page.marker {
            Some(id) => Some(self.find_group_snapshot(ctx, id, "group:get_group_snapshot").await?),
            None => None,
        };
        let mut all = store::groups::list_snapshots(self.db.read(), &filter, page, marker.as_ref()).await?;
        let more = page.cut(&mut all);
        Ok((all, more))
    }

    /// Deletes a group's snapshot with all its parts; volumes made from them do not mind.
    pub(crate) async fn delete_group_snapshot(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        let rule = "group:delete_group_snapshot";
        let seen = self.find_group_snapshot(ctx, id, rule).await?;
        let (mut tx, _, members) = self.hold_group(ctx, &seen.group_id, "group:get", &[]).await?;
        self.all_thawed(&mut tx, &members).await?;
        let now = store::groups::get_snapshot(tx.conn(), id).await?;
        let now = now.ok_or_else(|| VolumeError::GroupSnapshotNotFound(id.to_owned()))?;
        let parts = store::snapshots::of_group_snapshot(tx.conn(), id).await?;
        let free = parts.iter().all(|s| may_go(s.status));
        let next = now.status.after(Step::Delete).filter(|_| free).ok_or_else(|| {
            VolumeError::InvalidGroupSnapshot(format!(
                "its status must be available or error, as must be that of its snapshots; it is {}.",
                now.status
            ))
        })?;
        for part in &parts {
            let next = SnapshotStatus::Deleting;
            store::snapshots::set_status(&mut tx, &part.id, next, &part.progress).await?;
        }
        store::groups::set_snapshot_status(&mut tx, id, next).await?;
        tasks::group_snapshot_delete::spawn(&mut tx, ctx, &now).await?;
        Ok(tx.commit().await?)
    }

    /// An administrator's word on the state of a group's snapshot.
    pub(crate) async fn reset_group_snapshot(
        &self,
        ctx: &Context,
        id: &str,
        status: GroupStatus,
    ) -> Result<(), VolumeError> {
        self.find_group_snapshot(ctx, id, "group:reset_group_snapshot_status").await?;
        let mut tx = self.db.begin().await?;
        store::groups::set_snapshot_status(&mut tx, id, status).await?;
        Ok(tx.commit().await?)
    }

    /// Ends the making or the deleting of a group's snapshot: it and its parts take the state that `step` leads to.
    /// Parts that are elsewhere by now (deleted by force) stay as they are.
    pub(crate) async fn settle_group_snapshot(&self, id: &str, step: Step) -> Result<(), VolumeError> {
        let Some(seen) = store::groups::get_snapshot(self.db.read(), id).await? else { return Ok(()) };
        let mut tx = self.db.begin().await?;
        tx.lock(&crate::groups::lock_key(&seen.group_id)).await?;
        for part in store::snapshots::of_group_snapshot(tx.conn(), id).await? {
            if let Some(next) = part.status.after(step) {
                let progress = if step == Step::Created { "100%" } else { part.progress.as_str() };
                store::snapshots::set_status(&mut tx, &part.id, next, progress).await?;
            }
        }
        if let Some(now) = store::groups::get_snapshot(tx.conn(), id).await?
            && let Some(next) = now.status.after(step)
        {
            store::groups::set_snapshot_status(&mut tx, id, next).await?;
        }
        Ok(tx.commit().await?)
    }
}
