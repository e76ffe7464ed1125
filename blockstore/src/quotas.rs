//! Quotas: limits are rows, usage is counted where it is spent.

use crate::model::{Volume, VolumeType};
use crate::store::quotas::{Limits, Used};
use crate::{VolumeError, Volumes, store};
use api::Context;
use state::Tx;
use std::collections::BTreeMap;

/// No volume is larger, in GiB (8 EiB is librbd's own bound; this keeps sums far from overflow).
pub(crate) const MOST_GIB: i64 = 1 << 32;

/// The largest limit.
pub(crate) const MOST: i64 = 2_147_483_647;

/// What a request adds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spend {
    volumes: i64,
    snapshots: i64,
    gib: i64,
    /// What the volume will have, for the limit on one volume.
    volume_gib: i64,
    /// Counts towards the type's limits only: the project's own do not change.
    type_only: bool,
}

impl Spend {
    pub(crate) fn volume(gib: i64) -> Self {
        Spend { volumes: 1, snapshots: 0, gib, volume_gib: gib, type_only: false }
    }

    pub(crate) fn growth(gib: i64, total: i64) -> Self {
        Spend { volumes: 0, snapshots: 0, gib, volume_gib: total, type_only: false }
    }

    pub(crate) fn snapshot(gib: i64) -> Self {
        Spend { volumes: 0, snapshots: 1, gib, volume_gib: 0, type_only: false }
    }

    pub(crate) fn retype(gib: i64) -> Self {
        Spend { volumes: 1, snapshots: 0, gib, volume_gib: 0, type_only: true }
    }

    /// What a project takes over with a volume and its snapshots.
    pub(crate) fn transfer(volume_gib: i64, snapshots: i64, snapshot_gib: i64) -> Self {
        Spend { volumes: 1, snapshots, gib: volume_gib + snapshot_gib, volume_gib, type_only: false }
    }
}

/// A resource's limit and what is used of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Line {
    pub(crate) limit: i64,
    pub(crate) in_use: i64,
}

impl Volumes {
    /// Takes from a project's quota inside the transaction that will use it, or says in upstream's words what is
    /// exceeded. Holds the project's quota until the transaction ends.
    pub(crate) async fn spend(
        &self,
        tx: &mut Tx,
        project_id: &str,
        kind: &VolumeType,
        want: Spend,
    ) -> Result<(), VolumeError> {
        tx.lock(&format!("quota:{project_id}")).await?;
        let limits = self.limits(tx, project_id).await?;
        let used = store::quotas::used(tx, project_id).await?;
        let total = sum(used.values());
        let of_type = used.get(&kind.id).cloned().unwrap_or_default();
        let limit = |name: &str| limits.get(name).copied().unwrap_or(-1);
        let per_volume = limit("per_volume_gigabytes");
        if per_volume >= 0 && want.volume_gib > per_volume {
            return Err(VolumeError::OverQuota(format!(
                "VolumeSizeExceedsLimit: Requested volume size {}G is larger than maximum allowed limit {per_volume}G.",
                want.volume_gib
            )));
        }
        let per_type = |resource: &str| format!("{resource}_{}", kind.name);
        let scopes = [("", &total), (kind.name.as_str(), &of_type)];
        for (scope, used) in scopes.into_iter().filter(|(s, _)| !(want.type_only && s.is_empty())) {
            let name = |r: &str| if scope.is_empty() { r.to_owned() } else { per_type(r) };
            let (gigabytes, volumes, snapshots) = (name("gigabytes"), name("volumes"), name("snapshots"));
            let consumed = used.volume_gib + used.snapshot_gib;
            let over = |limit: i64, after: i64| limit >= 0 && after > limit;
            if want.gib > 0 && over(limit(&gigabytes), consumed + want.gib) {
                return Err(VolumeError::OverQuota(format!(
                    "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed {gigabytes} quota. Requested \
                     {}G, quota is {}G and {consumed}G has been consumed.",
                    want.gib,
                    limit(&gigabytes)
                )));
            }
            if want.volumes > 0 && over(limit(&volumes), used.volumes + want.volumes) {
                return Err(VolumeError::OverQuota(format!(
                    "VolumeLimitExceeded: Maximum number of volumes allowed ({}) exceeded for quota '{volumes}'.",
                    limit(&volumes)
                )));
            }
            if want.snapshots > 0 && over(limit(&snapshots), used.snapshots + want.snapshots) {
                return Err(VolumeError::OverQuota(format!(
                    "SnapshotLimitExceeded: Maximum number of snapshots allowed ({}) exceeded for quota '{snapshots}'.",
                    limit(&snapshots)
                )));
            }
        }
        Ok(())
    }

    /// As [`Volumes::spend`], for one group more.
    pub(crate) async fn spend_group(&self, tx: &mut Tx, project_id: &str) -> Result<(), VolumeError> {
        tx.lock(&format!("quota:{project_id}")).await?;
        let limit = self.limits(tx, project_id).await?.get("groups").copied().unwrap_or(-1);
        if limit >= 0 && store::groups::used(tx, project_id).await? >= limit {
            return Err(VolumeError::OverQuota(format!(
                "GroupLimitExceeded: Maximum number of groups allowed ({limit}) exceeded for quota 'groups'."
            )));
        }
        Ok(())
    }

    /// As [`Volumes::spend`], for one backup more.
    pub(crate) async fn spend_backup(
        &self,
        tx: &mut Tx,
        project_id: &str,
        gib: i64,
    ) -> Result<(), VolumeError> {
        tx.lock(&format!("quota:{project_id}")).await?;
        let limits = self.limits(tx, project_id).await?;
        let limit = |name: &str| limits.get(name).copied().filter(|l| *l >= 0);
        let (count, used) = crate::backup::store::used(tx, project_id).await?;
        if let Some(most) = limit("backup_gigabytes").filter(|most| used + gib > *most) {
            return Err(VolumeError::OverQuota(format!(
                "VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed Backup gigabytes quota. Requested \
                 {gib}G, quota is {most}G and {used}G has been consumed."
            )));
        }
        if let Some(most) = limit("backups").filter(|most| count >= *most) {
            return Err(VolumeError::OverQuota(format!(
                "BackupLimitExceeded: Maximum number of backups allowed ({most}) exceeded"
            )));
        }
        Ok(())
    }

    fn configured(&self) -> Limits {
        let q = &self.config.quota;
        let pairs = [
            ("volumes", q.volumes),
            ("snapshots", q.snapshots),
            ("gigabytes", q.gigabytes),
            ("backups", q.backups),
            ("backup_gigabytes", q.backup_gigabytes),
            ("per_volume_gigabytes", q.per_volume_gigabytes),
            ("groups", q.groups),
        ];
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }

    /// What is in force for a project: its own rows over the default class over the configuration.
    async fn limits(&self, tx: &mut Tx, project_id: &str) -> Result<Limits, VolumeError> {
        let mut limits = self.configured();
        limits.extend(store::quotas::of_class(tx.conn(), "default").await?);
        limits.extend(store::quotas::of_project(tx.conn(), project_id).await?);
        Ok(limits)
    }

    /// Every resource of a project with its limit and use; per-type ones too.
    pub(crate) async fn quota_lines(&self, project_id: &str) -> Result<BTreeMap<String, Line>, VolumeError> {
        let mut tx = self.db.begin().await?;
        let limits = self.limits(&mut tx, project_id).await?;
        let used = store::quotas::used(&mut tx, project_id).await?;
        let types = store::types::all(tx.conn()).await?;
        let groups = store::groups::used(&mut tx, project_id).await?;
        let backups = crate::backup::store::used(&mut tx, project_id).await?;
        tx.rollback().await?;
        let total = sum(used.values());
        let mut lines = BTreeMap::new();
        let mut add = |name: String, in_use: i64| {
            let limit = limits.get(&name).copied().unwrap_or(-1);
            lines.insert(name, Line { limit, in_use });
        };
        add("volumes".into(), total.volumes);
        add("snapshots".into(), total.snapshots);
        add("gigabytes".into(), total.volume_gib + total.snapshot_gib);
        add("groups".into(), groups);
        add("backups".into(), backups.0);
        add("backup_gigabytes".into(), backups.1);
        add("per_volume_gigabytes".into(), 0);
        for kind in types {
            let of = used.get(&kind.id).cloned().unwrap_or_default();
            add(format!("volumes_{}", kind.name), of.volumes);
            add(format!("snapshots_{}", kind.name), of.snapshots);
            add(format!("gigabytes_{}", kind.name), of.volume_gib + of.snapshot_gib);
        }
        Ok(lines)
    }

    pub(crate) async fn quota_show(
        &self,
        ctx: &Context,
        project_id: &str,
    ) -> Result<BTreeMap<String, Line>, VolumeError> {
        self.may(ctx, "volume_extension:quotas:show", project_id)?;
        self.quota_lines(project_id).await
    }

    /// The limits of a class; `default` is what projects start from.
    pub(crate) async fn class_limits(&self, class: &str) -> Result<Limits, VolumeError> {
        let mut limits = self.configured();
        for kind in store::types::all(self.db.read()).await? {
            for resource in ["volumes", "snapshots", "gigabytes"] {
                limits.insert(format!("{resource}_{}", kind.name), -1);
            }
        }
        limits.extend(store::quotas::of_class(self.db.read(), class).await?);
        Ok(limits)
    }

    pub(crate) async fn quota_defaults(
        &self,
        ctx: &Context,
        project_id: &str,
    ) -> Result<Limits, VolumeError> {
        self.may(ctx, "volume_extension:quotas:show", project_id)?;
        self.class_limits("default").await
    }

    pub(crate) async fn quota_class_show(&self, ctx: &Context, class: &str) -> Result<Limits, VolumeError> {
        self.may(ctx, "volume_extension:quota_classes:get", "")?;
        self.class_limits(class).await
    }

    /// Checks names and values of limits that an administrator sets.
    async fn checked(&self, wanted: &Limits) -> Result<(), VolumeError> {
        let known = self.class_limits("default").await?;
        for (name, limit) in wanted {
            if !known.contains_key(name) {
                return Err(VolumeError::BadRequest(format!("Bad key(s) in quota set: {name}")));
            }
            if !(-1..=MOST).contains(limit) {
                return Err(VolumeError::InvalidInput(format!("{name} must be between -1 and {MOST}.")));
            }
        }
        Ok(())
    }

    pub(crate) async fn quota_set(
        &self,
        ctx: &Context,
        project_id: &str,
        wanted: Limits,
    ) -> Result<BTreeMap<String, Line>, VolumeError> {
        self.may(ctx, "volume_extension:quotas:update", project_id)?;
        self.checked(&wanted).await?;
        let mut tx = self.db.begin().await?;
        for (name, limit) in &wanted {
            store::quotas::set_project(&mut tx, project_id, name, *limit).await?;
        }
        tx.commit().await?;
        self.quota_lines(project_id).await
    }

    pub(crate) async fn quota_class_set(
        &self,
        ctx: &Context,
        class: &str,
        wanted: Limits,
    ) -> Result<Limits, VolumeError> {
        self.may(ctx, "volume_extension:quota_classes:update", "")?;
        self.checked(&wanted).await?;
        let mut tx = self.db.begin().await?;
        for (name, limit) in &wanted {
            store::quotas::set_class(&mut tx, class, name, *limit).await?;
        }
        tx.commit().await?;
        self.class_limits(class).await
    }

    pub(crate) async fn quota_delete(&self, ctx: &Context, project_id: &str) -> Result<(), VolumeError> {
        self.may(ctx, "volume_extension:quotas:delete", project_id)?;
        let mut tx = self.db.begin().await?;
        store::quotas::forget_project(&mut tx, project_id).await?;
        Ok(tx.commit().await?)
    }

    /// A volume's type, inside a transaction.
    pub(crate) async fn type_of(&self, tx: &mut Tx, volume: &Volume) -> Result<VolumeType, VolumeError> {
        store::types::get(tx.conn(), &volume.type_id)
            .await?
            .ok_or_else(|| VolumeError::TypeNotFound(volume.type_id.clone()))
    }
}

fn sum<'a>(all: impl Iterator<Item = &'a Used>) -> Used {
    all.fold(Used::default(), |mut sum, u| {
        sum.volumes += u.volumes;
        sum.volume_gib += u.volume_gib;
        sum.snapshots += u.snapshots;
        sum.snapshot_gib += u.snapshot_gib;
        sum
    })
}
