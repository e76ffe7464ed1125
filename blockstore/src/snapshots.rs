//! Snapshots: who may do what to them, and when.

use crate::model::{Metadata, Snapshot};
use crate::status::{SnapshotStatus, Step};
use crate::store::snapshots::Filter;
use crate::volumes::{Change, lock_key};
use crate::{VolumeError, Volumes, quotas, store, tasks};
use api::{Context, Page};
use state::{Timestamp, Tx};

/// A snapshot that is asked for.
#[derive(Debug, Clone, Default)]
pub struct NewSnapshot {
    /// Made before the call, where the caller must know it; else a new one.
    pub id: Option<String>,
    pub volume_id: String,
    pub name: Option<String>,
    pub description: Option<String>,
    pub metadata: Metadata,
    /// Also of a volume in use.
    pub force: bool,
}

impl Volumes {
    /// The snapshot, if the caller may see it.
    pub async fn get_snapshot(&self, ctx: &Context, id: &str) -> Result<Snapshot, VolumeError> {
        self.find_snapshot(ctx, id, "volume:get_snapshot").await
    }

    /// Looks up and authorises in one step.
    pub(crate) async fn find_snapshot(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
    ) -> Result<Snapshot, VolumeError> {
        let snapshot = store::snapshots::get(self.db.read(), id).await?;
        self.admit_snapshot(ctx, id, rule, snapshot)
    }

    fn admit_snapshot(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
        snapshot: Option<Snapshot>,
    ) -> Result<Snapshot, VolumeError> {
        let snapshot = snapshot
            .filter(|s| Self::sees(ctx, &s.project_id))
            .ok_or_else(|| VolumeError::SnapshotNotFound(id.to_owned()))?;
        self.may(ctx, rule, &snapshot.project_id)?;
        Ok(snapshot)
    }

    /// As [`Volumes::find_snapshot`], held against every other change of it or of its volume.
    pub(crate) async fn hold_snapshot(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
    ) -> Result<(Tx, Snapshot), VolumeError> {
        let seen = self.find_snapshot(ctx, id, rule).await?;
        let mut tx = self.db.begin().await?;
        tx.lock(&lock_key(&seen.volume_id)).await?;
        let snapshot = store::snapshots::get(tx.conn(), id).await?;
        let snapshot = self.admit_snapshot(ctx, id, rule, snapshot)?;
        Ok((tx, snapshot))
    }

    /// Asks for a snapshot: it is `creating` when this returns. With an id of the caller's choice a repeated call
    /// gives the same snapshot.
    pub async fn create_snapshot(&self, ctx: &Context, new: NewSnapshot) -> Result<Snapshot, VolumeError> {
        if let Some(id) = &new.id
            && let Some(there) = store::snapshots::get(self.db.read(), id).await?
        {
            return self.admit_snapshot(ctx, id, "volume:get_snapshot", Some(there));
        }
        let (mut tx, volume) = self.hold(ctx, &new.volume_id, "volume:create_snapshot").await?;
        self.thawed(&mut tx, volume.home()).await?;
        if !volume.status.may_snapshot(new.force) {
            return Err(VolumeError::InvalidVolume(format!(
                "Volume {} status must be available, but current status is: {}.",
                volume.id, volume.status
            )));
        }
        let kind = self.type_of(&mut tx, &volume).await?;
        self.spend(&mut tx, &volume.project_id, &kind, quotas::Spend::snapshot(volume.size_gib)).await?;
        let snapshot = Snapshot {
            id: new.id.unwrap_or_else(state::new_id),
            volume_id: volume.id.clone(),
            project_id: volume.project_id.clone(),
            user_id: ctx.user.id.clone(),
            size_gib: volume.size_gib,
            status: SnapshotStatus::Creating,
            progress: "0%".into(),
            name: new.name,
            description: new.description,
            type_id: volume.type_id.clone(),
            metadata: new.metadata,
            group_snapshot_id: None,
            created_at: Timestamp::now(),
            updated_at: None,
        };
        store::snapshots::insert(&mut tx, &snapshot).await?;
        tasks::snapshot::spawn(&mut tx, ctx, &snapshot).await?;
        tx.commit().await?;
        Ok(snapshot)
    }

    /// A page of the snapshots the caller sees, and whether there are more.
    pub(crate) async fn list_snapshots(
        &self,
        ctx: &Context,
        mut filter: Filter,
        all_projects: bool,
        page: &Page,
    ) -> Result<(Vec<Snapshot>, bool), VolumeError> {
        self.scope_snapshots(ctx, &mut filter, all_projects)?;
        let marker = match &page.marker {
            Some(id) => Some(self.get_snapshot(ctx, id).await?),
            None => None,
        };
        let mut all = store::snapshots::list(self.db.read(), &filter, page, marker.as_ref()).await?;
        let more = page.cut(&mut all);
        Ok((all, more))
    }

    /// How many snapshots a listing has over all its pages.
    pub(crate) async fn count_snapshots(
        &self,
        ctx: &Context,
        mut filter: Filter,
        all_projects: bool,
    ) -> Result<i64, VolumeError> {
        self.scope_snapshots(ctx, &mut filter, all_projects)?;
        store::snapshots::count(self.db.read(), &filter).await
    }

    fn scope_snapshots(
        &self,
        ctx: &Context,
        filter: &mut Filter,
        all_projects: bool,
    ) -> Result<(), VolumeError> {
        let home = Self::home(ctx)?;
        self.may(ctx, "volume:get_all_snapshots", home)?;
        if !(all_projects && ctx.is_admin()) {
            filter.project_id = Some(home.to_owned());
        }
        Ok(())
    }

    pub(crate) async fn update_snapshot(
        &self,
        ctx: &Context,
        id: &str,
        change: Change,
    ) -> Result<Snapshot, VolumeError> {
        let (mut tx, mut snapshot) = self.hold_snapshot(ctx, id, "volume:update_snapshot").await?;
        if let Some(name) = change.name {
            snapshot.name = name;
        }
        if let Some(description) = change.description {
            snapshot.description = description;
        }
        store::snapshots::save(&mut tx, &snapshot).await?;
        tx.commit().await?;
        snapshot.updated_at = Some(Timestamp::now());
        Ok(snapshot)
    }

    pub(crate) async fn edit_snapshot_metadata(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
        edit: impl FnOnce(&mut Metadata) -> Result<(), VolumeError>,
    ) -> Result<Metadata, VolumeError> {
        let (mut tx, mut snapshot) = self.hold_snapshot(ctx, id, rule).await?;
        edit(&mut snapshot.metadata)?;
        store::snapshots::save(&mut tx, &snapshot).await?;
        tx.commit().await?;
        Ok(snapshot.metadata)
    }

    /// Deletes a snapshot; volumes made from it do not mind. `force`: whatever its state.
    pub async fn delete_snapshot(&self, ctx: &Context, id: &str, force: bool) -> Result<(), VolumeError> {
        let rule = if force {
            "volume_extension:snapshot_admin_actions:force_delete"
        } else {
            "volume:delete_snapshot"
        };
        let (mut tx, snapshot) = self.hold_snapshot(ctx, id, rule).await?;
        if let Some(of) = store::volumes::get(tx.conn(), &snapshot.volume_id).await? {
            self.thawed(&mut tx, of.home()).await?;
        }
        let step = if force { Step::ForceDelete } else { Step::Delete };
        let part = snapshot.group_snapshot_id.is_some() && !force;
        let next = snapshot.status.after(step).filter(|_| !part).ok_or_else(|| {
            VolumeError::InvalidSnapshot(
                "Snapshot status must be one of available, error, error_deleting and must not be part of a group, \
                 or have dependent volumes."
                    .into(),
            )
        })?;
        store::snapshots::set_status(&mut tx, id, next, &snapshot.progress).await?;
        tasks::snapshot_delete::spawn(&mut tx, ctx, &snapshot).await?;
        Ok(tx.commit().await?)
    }

    /// An administrator's word on a snapshot's state.
    pub(crate) async fn reset_snapshot(
        &self,
        ctx: &Context,
        id: &str,
        status: SnapshotStatus,
    ) -> Result<(), VolumeError> {
        let rule = "volume_extension:snapshot_admin_actions:reset_status";
        let (mut tx, snapshot) = self.hold_snapshot(ctx, id, rule).await?;
        store::snapshots::set_status(&mut tx, id, status, &snapshot.progress).await?;
        Ok(tx.commit().await?)
    }

    /// What a driver outside of this cloud reports of a snapshot it makes.
    pub(crate) async fn report_snapshot(
        &self,
        ctx: &Context,
        id: &str,
        status: SnapshotStatus,
        progress: Option<String>,
    ) -> Result<(), VolumeError> {
        use SnapshotStatus as T;
        let rule = "snapshot_extension:snapshot_actions:update_snapshot_status";
        let (mut tx, snapshot) = self.hold_snapshot(ctx, id, rule).await?;
        let legal = match snapshot.status {
            T::Creating => matches!(status, T::Creating | T::Available | T::Error),
            T::Deleting => matches!(status, T::Deleting | T::ErrorDeleting),
            _ => false,
        };
        if !legal {
            return Err(VolumeError::BadRequest(format!(
                "Provided snapshot status {status} not allowed for snapshot with status {}.",
                snapshot.status
            )));
        }
        let progress = progress.unwrap_or(snapshot.progress);
        store::snapshots::set_status(&mut tx, id, status, &progress).await?;
        Ok(tx.commit().await?)
    }
}
