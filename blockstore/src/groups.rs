//! Groups: volumes that are kept, snapshotted and copied together. A group is rows; what its volumes hold is theirs.

use crate::group_types::GroupType;
use crate::model::{NewVolume, Source, Volume, VolumeType};
use crate::status::{GroupStatus, ReplicationStatus, SnapshotStatus, Step, VolumeStatus};
use crate::store::groups::Filter;
use crate::{VolumeError, Volumes, store, tasks};
use api::{Context, Page};
use state::{Timestamp, Tx};

/// A group, as its row has it.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) project_id: String,
    pub(crate) user_id: String,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) group_type_id: String,
    /// Whether that is the type of consistency groups.
    pub(crate) consistent: bool,
    /// The ids of the types that its volumes may have.
    pub(crate) volume_types: Vec<String>,
    pub(crate) zone: String,
    pub(crate) status: GroupStatus,
    /// What its replication was last made (`replication/groups.rs`).
    pub(crate) replication_status: ReplicationStatus,
    /// The task that changes it.
    pub(crate) replication_task: Option<String>,
    pub(crate) group_snapshot_id: Option<String>,
    pub(crate) source_group_id: Option<String>,
    pub(crate) created_at: Timestamp,
}

/// A group that is asked for.
pub(crate) struct NewGroup {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    /// Ids or names.
    pub(crate) group_type: String,
    pub(crate) volume_types: Vec<String>,
    pub(crate) zone: Option<String>,
}

/// What a group is copied from.
pub(crate) enum GroupSource {
    Group(String),
    Snapshot(String),
}

/// What `PUT /groups/{id}` may change; `None` leaves it.
pub(crate) struct GroupChange {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<Option<String>>,
    pub(crate) add: Vec<String>,
    pub(crate) remove: Vec<String>,
}

/// What a transaction locks to hold a group. Taken after its volumes' locks where both are.
pub(crate) fn lock_key(group_id: &str) -> String {
    format!("volume-group:{group_id}")
}

impl Volumes {
    /// The group, if the caller may see it.
    pub(crate) async fn find_group(&self, ctx: &Context, id: &str, rule: &str) -> Result<Group, VolumeError> {
        let group = store::groups::get(self.db.read(), id).await?;
        self.admit_group(ctx, id, rule, group)
    }

    fn admit_group(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
        group: Option<Group>,
    ) -> Result<Group, VolumeError> {
        let group = group
            .filter(|g| Self::sees(ctx, &g.project_id))
            .ok_or_else(|| VolumeError::GroupNotFound(id.to_owned()))?;
        self.may(ctx, rule, &group.project_id)?;
        Ok(group)
    }

    /// As [`Volumes::find_group`], held against every other change of it; its volumes with it. Volumes are locked
    /// first, in the order of their ids.
    pub(crate) async fn hold_group(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
        more: &[String],
    ) -> Result<(Tx, Group, Vec<Volume>), VolumeError> {
        self.find_group(ctx, id, rule).await?;
        let members = store::volumes::of_group(self.db.read(), id).await?;
        let mut ids: Vec<String> = members.into_iter().map(|v| v.id).chain(more.iter().cloned()).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut tx = self.db.begin().await?;
        for volume in &ids {
            tx.lock(&crate::volumes::lock_key(volume)).await?;
        }
        tx.lock(&lock_key(id)).await?;
        let group = store::groups::get(tx.conn(), id).await?;
        let group = self.admit_group(ctx, id, rule, group)?;
        let members = store::volumes::of_group(tx.conn(), id).await?;
        if members.iter().any(|v| !ids.contains(&v.id)) {
            return Err(VolumeError::Conflict(format!("Group {id} is being changed; please try again.")));
        }
        Ok((tx, group, members))
    }

    /// Makes an empty group: it is `available` at once.
    pub(crate) async fn create_group(&self, ctx: &Context, new: NewGroup) -> Result<Group, VolumeError> {
        let project = ctx.project_id().map_err(VolumeError::Refused)?.to_owned();
        self.may(ctx, "group:create", &project)?;
        let kind = self.find_group_type(ctx, &new.group_type, true).await?;
        let mut volume_types = Vec::new();
        for name in &new.volume_types {
            volume_types.push(self.find_type(ctx, name).await?.id);
        }
        let zone = self.zone(new.zone.as_deref())?;
        let group = Group {
            status: GroupStatus::Available,
            ..blank(ctx, project, new.name, &kind, volume_types, zone)
        };
        let group = Group { description: new.description, ..group };
        let mut tx = self.db.begin().await?;
        self.spend_group(&mut tx, &group.project_id).await?;
        store::groups::insert(&mut tx, &group).await?;
        tx.commit().await?;
        Ok(group)
    }

    /// Makes a group whose volumes are copies of another group's, or of those in a group's snapshot. It is `creating`
    /// until they are there.
    pub(crate) async fn copy_group(
        &self,
        ctx: &Context,
        name: String,
        description: Option<String>,
        source: GroupSource,
    ) -> Result<Group, VolumeError> {
        let project = ctx.project_id().map_err(VolumeError::Refused)?.to_owned();
        self.may(ctx, "group:create", &project)?;
        let (of, sources) = match &source {
            GroupSource::Group(id) => {
                let of = self.find_group(ctx, id, "group:get").await?;
                let all = store::volumes::of_group(self.db.read(), id).await?;
                (of, all.into_iter().map(|v| Source::Volume(v.id)).collect::<Vec<_>>())
            }
            GroupSource::Snapshot(id) => {
                let snapshot = self.find_group_snapshot(ctx, id, "group:get_group_snapshot").await?;
                let of = self.find_group(ctx, &snapshot.group_id, "group:get").await?;
                let all = store::snapshots::of_group_snapshot(self.db.read(), id).await?;
                (of, all.into_iter().map(|s| Source::Snapshot(s.id)).collect())
            }
        };
        if sources.is_empty() {
            return Err(VolumeError::InvalidGroup("the source is empty: there is nothing to copy.".into()));
        }
        let kind = self.find_group_type(ctx, &of.group_type_id, false).await?;
        let mut group = blank(ctx, project.clone(), name, &kind, of.volume_types, of.zone);
        group.description = description;
        match source {
            GroupSource::Group(id) => group.source_group_id = Some(id),
            GroupSource::Snapshot(id) => group.group_snapshot_id = Some(id),
        }
        let mut planned = Vec::new();
        for source in sources {
            let new = NewVolume {
                source: source.clone(),
                group_id: Some(group.id.clone()),
                ..NewVolume::default()
            };
            let (mut volume, kind) = self.planned(ctx, project.clone(), new).await?;
            volume.name = self.name_of(&source).await?;
            planned.push((volume, kind, source));
        }
        let mut tx = self.db.begin().await?;
        let origin = store::volumes::of_group(tx.conn(), &of.id).await?;
        self.all_thawed(&mut tx, &origin).await?;
        self.spend_group(&mut tx, &project).await?;
        store::groups::insert(&mut tx, &group).await?;
        for (volume, kind, source) in &planned {
            self.begin_create(&mut tx, ctx, volume, kind, source).await?;
        }
        tasks::group::spawn(&mut tx, &group).await?;
        tx.commit().await?;
        Ok(group)
    }

    async fn name_of(&self, source: &Source) -> Result<Option<String>, VolumeError> {
        Ok(match source {
            Source::Volume(id) => store::volumes::get(self.db.read(), id).await?.and_then(|v| v.name),
            Source::Snapshot(id) => store::snapshots::get(self.db.read(), id).await?.and_then(|s| s.name),
            _ => None,
        })
    }

    /// The group that a new volume of this type is to join, if it may: held until the transaction ends.
    pub(crate) async fn joins(
        &self,
        tx: &mut Tx,
        ctx: &Context,
        group_id: &str,
        kind: &VolumeType,
    ) -> Result<Group, VolumeError> {
        tx.lock(&lock_key(group_id)).await?;
        let group = store::groups::get(tx.conn(), group_id).await?;
        let group = self.admit_group(ctx, group_id, "group:get", group)?;
        if !matches!(group.status, GroupStatus::Available | GroupStatus::Creating | GroupStatus::Updating) {
            return Err(VolumeError::InvalidGroup(format!("its status is {}.", group.status)));
        }
        still(&group)?;
        if !group.volume_types.contains(&kind.id) {
            return Err(VolumeError::InvalidInput(format!(
                "Invalid volume_type provided: {} (requested type must be supported by this group).",
                kind.name
            )));
        }
        Ok(group)
    }

    /// A page of the groups the caller sees, and whether there are more.
    pub(crate) async fn list_groups(
        &self,
        ctx: &Context,
        mut filter: Filter,
        all_projects: bool,
        page: &Page,
    ) -> Result<(Vec<Group>, bool), VolumeError> {
        let home = Self::home(ctx)?;
        self.may(ctx, "group:get_all", home)?;
        if !(all_projects && ctx.is_admin()) {
            filter.project_id = Some(home.to_owned());
        }
        let marker = match &page.marker {
            Some(id) => Some(self.find_group(ctx, id, "group:get").await?),
            None => None,
        };
        let mut all = store::groups::list(self.db.read(), &filter, page, marker.as_ref()).await?;
        let more = page.cut(&mut all);
        Ok((all, more))
    }

    /// The ids of a group's volumes.
    pub(crate) async fn members(&self, group_id: &str) -> Result<Vec<String>, VolumeError> {
        Ok(store::volumes::of_group(self.db.read(), group_id).await?.into_iter().map(|v| v.id).collect())
    }

    pub(crate) async fn update_group(
        &self,
        ctx: &Context,
        id: &str,
        change: GroupChange,
    ) -> Result<(), VolumeError> {
        let (mut tx, mut group, members) = self.hold_group(ctx, id, "group:update", &change.add).await?;
        if group.status != GroupStatus::Available {
            return Err(VolumeError::InvalidGroup(format!(
                "Group status must be available, but current status is: {}.",
                group.status
            )));
        }
        if !(change.add.is_empty() && change.remove.is_empty()) {
            still(&group)?;
        }
        for volume_id in &change.remove {
            let volume = members.iter().find(|v| v.id == *volume_id).cloned();
            let mut volume = volume.ok_or_else(|| {
                VolumeError::InvalidVolume(format!(
                    "Cannot remove volume {volume_id} from group {id}: it is not in it."
                ))
            })?;
            volume.group_id = None;
            store::volumes::save(&mut tx, &volume).await?;
        }
        for volume_id in &change.add {
            self.add_to_group(&mut tx, &group, volume_id).await?;
        }
        group.name = change.name.unwrap_or(group.name);
        group.description = change.description.unwrap_or(group.description);
        store::groups::save(&mut tx, &group).await?;
        Ok(tx.commit().await?)
    }

    async fn add_to_group(&self, tx: &mut Tx, group: &Group, volume_id: &str) -> Result<(), VolumeError> {
        let refuse = |why: &str| {
            VolumeError::InvalidVolume(format!("Cannot add volume {volume_id} to group {}: {why}", group.id))
        };
        // Another project's is as good as absent.
        let volume = store::volumes::get(tx.conn(), volume_id).await?;
        let volume = volume.filter(|v| v.project_id == group.project_id);
        let mut volume = volume.ok_or_else(|| refuse("volume could not be found."))?;
        if volume.group_id.is_some() {
            return Err(refuse("it belongs to a group already."));
        }
        if !group.volume_types.contains(&volume.type_id) {
            return Err(refuse("its volume type is not supported by the group."));
        }
        if !matches!(volume.status, VolumeStatus::Available | VolumeStatus::InUse) {
            return Err(refuse(&format!("it is in an invalid state: {}.", volume.status)));
        }
        volume.group_id = Some(group.id.clone());
        store::volumes::save(tx, &volume).await
    }

    /// Deletes a group; `with_volumes`: also one that is not empty.
    pub(crate) async fn delete_group(
        &self,
        ctx: &Context,
        id: &str,
        with_volumes: bool,
    ) -> Result<(), VolumeError> {
        let (mut tx, mut group, members) = self.hold_group(ctx, id, "group:delete", &[]).await?;
        still(&group)?;
        self.all_thawed(&mut tx, &members).await?;
        let refuse = |why: String| VolumeError::InvalidGroup(format!("Group {id} cannot be deleted: {why}"));
        if !members.is_empty() && !with_volumes {
            return Err(refuse("it is not empty, and 'delete-volumes' is not true.".into()));
        }
        if store::groups::has_snapshots(&mut tx, id).await? {
            return Err(refuse("it has group snapshots.".into()));
        }
        let next = group.status.after(Step::Delete);
        group.status = next.ok_or_else(|| refuse(format!("its status is {}.", group.status)))?;
        let held = store::attachments::of_volumes(tx.conn(), members.iter().map(|v| v.id.clone())).await?;
        for mut volume in members {
            let snapshots = store::snapshots::of_volume(tx.conn(), &volume.id).await?;
            if !snapshots.is_empty() || held.iter().any(|a| a.volume_id == volume.id) {
                return Err(refuse(format!("its volume {} is attached or has snapshots.", volume.id)));
            }
            let status = volume.status;
            let refusal = |v: &Volume| refuse(format!("its volume {} is {status}.", v.id));
            self.advance(&mut tx, &mut volume, Step::Delete, refusal).await?;
            tasks::delete::spawn(&mut tx, ctx, &volume).await?;
        }
        store::groups::save(&mut tx, &group).await?;
        tasks::group::spawn(&mut tx, &group).await?;
        Ok(tx.commit().await?)
    }

    /// An administrator's word on a group's state.
    pub(crate) async fn reset_group(
        &self,
        ctx: &Context,
        id: &str,
        status: GroupStatus,
    ) -> Result<(), VolumeError> {
        let (mut tx, mut group, _) = self.hold_group(ctx, id, "group:reset_status", &[]).await?;
        group.status = status;
        store::groups::save(&mut tx, &group).await?;
        Ok(tx.commit().await?)
    }

    /// What a group whose volumes are being made or deleted has become; `None`: not yet known. A removed group is
    /// available to nobody.
    pub(crate) async fn settle_group(&self, id: &str) -> Result<bool, VolumeError> {
        let mut tx = self.db.begin().await?;
        tx.lock(&lock_key(id)).await?;
        let Some(mut group) = store::groups::get(tx.conn(), id).await? else { return Ok(true) };
        let members = store::volumes::of_group(tx.conn(), id).await?;
        let any = |status: VolumeStatus| members.iter().any(|v| v.status == status);
        let step = match group.status {
            GroupStatus::Creating if any(VolumeStatus::Creating) => return Ok(false),
            GroupStatus::Creating if any(VolumeStatus::Error) => Step::Failed,
            GroupStatus::Creating => Step::Created,
            GroupStatus::Deleting if any(VolumeStatus::Deleting) => return Ok(false),
            GroupStatus::Deleting if members.is_empty() => {
                store::groups::remove(&mut tx, id).await?;
                tx.commit().await?;
                return Ok(true);
            }
            GroupStatus::Deleting => Step::Failed,
            _ => return Ok(true),
        };
        if let Some(next) = group.status.after(step) {
            group.status = next;
            store::groups::save(&mut tx, &group).await?;
        }
        tx.commit().await?;
        Ok(true)
    }
}

fn blank(
    ctx: &Context,
    project_id: String,
    name: String,
    kind: &GroupType,
    volume_types: Vec<String>,
    zone: String,
) -> Group {
    Group {
        id: state::new_id(),
        project_id,
        user_id: ctx.user.id.clone(),
        name,
        description: None,
        group_type_id: kind.id.clone(),
        consistent: kind.consistent(),
        volume_types,
        zone,
        status: GroupStatus::Creating,
        replication_status: ReplicationStatus::Disabled,
        replication_task: None,
        group_snapshot_id: None,
        source_group_id: None,
        created_at: Timestamp::now(),
    }
}

/// Refuses a group whose replication is being changed: that is done to the volumes it has.
fn still(group: &Group) -> Result<(), VolumeError> {
    use ReplicationStatus as R;
    match group.replication_status {
        R::Enabling | R::Disabling | R::FailingOver => {
            Err(VolumeError::InvalidGroup(format!("its replication is {}.", group.replication_status)))
        }
        _ => Ok(()),
    }
}

/// Whether a volume may be snapshotted with its group.
pub(crate) fn ready(volume: &Volume) -> bool {
    volume.status.may_snapshot(true)
}

/// Whether a part of a group's snapshot may go.
pub(crate) fn may_go(status: SnapshotStatus) -> bool {
    status.after(Step::Delete).is_some()
}
