//! Group types: what a group of volumes promises. `consistent_group_snapshot_enabled` is met by every group here:
//! a group's snapshots are always of one instant.

use crate::model::Metadata;
use crate::{VolumeError, Volumes, store};
use api::Context;
use state::{Timestamp, Tx};

/// A group type, as its row has it.
#[derive(Debug, Clone)]
pub(crate) struct GroupType {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) is_public: bool,
    pub(crate) specs: Metadata,
    pub(crate) created_at: Timestamp,
}

impl GroupType {
    /// Whether its groups are consistency groups.
    pub(crate) fn consistent(&self) -> bool {
        self.name == CONSISTENT
    }
}

/// What the types' write transactions lock.
const LOCK: &str = "volume:group-types";

/// Upstream's type of groups whose snapshots are consistent: old clients' consistency groups have it.
pub(crate) const CONSISTENT: &str = "default_cgsnapshot_type";

impl Volumes {
    /// Makes the type that upstream's databases come with, where it is missing.
    pub(crate) async fn ensure_default_group_type(&self) -> Result<(), VolumeError> {
        let mut tx = self.db.begin().await?;
        tx.lock(LOCK).await?;
        if store::groups::types(tx.conn()).await?.iter().any(|t| t.name == CONSISTENT) {
            return Ok(());
        }
        let kind = GroupType {
            id: state::new_id(),
            name: CONSISTENT.into(),
            description: Some("Default group type for migrating cgsnapshot".into()),
            is_public: true,
            specs: [("consistent_group_snapshot_enabled".to_owned(), "<is> True".to_owned())].into(),
            created_at: Timestamp::now(),
        };
        store::groups::put_type(&mut tx, &kind).await?;
        Ok(tx.commit().await?)
    }

    /// The types that a caller may use: private ones are an administrator's.
    pub(crate) async fn list_group_types(&self, ctx: &Context) -> Result<Vec<GroupType>, VolumeError> {
        let mut all = store::groups::types(self.db.read()).await?;
        all.retain(|t| t.is_public || ctx.is_admin());
        Ok(all)
    }

    /// By id, or by name where `named`.
    pub(crate) async fn find_group_type(
        &self,
        ctx: &Context,
        id: &str,
        named: bool,
    ) -> Result<GroupType, VolumeError> {
        let mut all = self.list_group_types(ctx).await?;
        let by_id = all.iter().position(|t| t.id == id);
        let at = by_id.or_else(|| all.iter().position(|t| named && t.name == id));
        at.map(|i| all.swap_remove(i)).ok_or_else(|| VolumeError::GroupTypeNotFound(id.to_owned()))
    }

    pub(crate) async fn create_group_type(
        &self,
        ctx: &Context,
        name: String,
        description: Option<String>,
        is_public: bool,
        specs: Metadata,
    ) -> Result<GroupType, VolumeError> {
        self.may(ctx, "group:group_types:create", "")?;
        let kind = GroupType {
            id: state::new_id(),
            name,
            description,
            is_public,
            specs,
            created_at: Timestamp::now(),
        };
        let mut tx = self.db.begin().await?;
        tx.lock(LOCK).await?;
        unique(&mut tx, &kind).await?;
        store::groups::put_type(&mut tx, &kind).await?;
        tx.commit().await?;
        Ok(kind)
    }

    /// Changes a type inside one transaction, and gives back what it is then.
    pub(crate) async fn edit_group_type(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
        edit: impl FnOnce(&mut GroupType) -> Result<(), VolumeError>,
    ) -> Result<GroupType, VolumeError> {
        self.may(ctx, rule, "")?;
        let mut tx = self.db.begin().await?;
        tx.lock(LOCK).await?;
        let kind = store::groups::types(tx.conn()).await?.into_iter().find(|t| t.id == id);
        let mut kind = kind.ok_or_else(|| VolumeError::GroupTypeNotFound(id.to_owned()))?;
        edit(&mut kind)?;
        unique(&mut tx, &kind).await?;
        store::groups::put_type(&mut tx, &kind).await?;
        tx.commit().await?;
        Ok(kind)
    }

    pub(crate) async fn delete_group_type(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        self.may(ctx, "group:group_types:delete", "")?;
        self.find_group_type(ctx, id, false).await?;
        let mut tx = self.db.begin().await?;
        tx.lock(LOCK).await?;
        if !store::groups::remove_type(&mut tx, id).await? {
            return Err(VolumeError::BadRequest(
                "Target group type is still in use. Group type deletion is not allowed with groups present with \
                 the type."
                    .into(),
            ));
        }
        Ok(tx.commit().await?)
    }

    /// A type's specs, for those who may see them.
    pub(crate) async fn group_type_specs(&self, ctx: &Context, id: &str) -> Result<Metadata, VolumeError> {
        self.may(ctx, "group:group_types_specs:get", "")?;
        Ok(self.find_group_type(ctx, id, false).await?.specs)
    }
}

/// Refuses a name that another type has.
async fn unique(tx: &mut Tx, kind: &GroupType) -> Result<(), VolumeError> {
    match store::groups::types(tx.conn()).await?.iter().any(|t| t.name == kind.name && t.id != kind.id) {
        true => Err(VolumeError::Conflict(format!("Group Type {} already exists.", kind.name))),
        false => Ok(()),
    }
}
