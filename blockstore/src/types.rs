//! Volume types: names for kinds of storage. `volume_backend_name` in a type's extra specs names its tier.

use crate::model::{Metadata, VolumeType};
use crate::{VolumeError, Volumes, store};
use api::Context;
use state::{Timestamp, Tx};

/// An image's property that names the type of volumes made of it, by upstream's name.
const OF_IMAGE: &str = "cinder_img_volume_type";

/// What a type is made with.
pub(crate) struct NewType {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) is_public: bool,
    pub(crate) extra_specs: Metadata,
}

/// What `PUT /types/{id}` may change; `None` leaves it.
#[derive(Debug, Default)]
pub(crate) struct TypeChange {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<Option<String>>,
    pub(crate) is_public: Option<bool>,
}

/// Which types a listing shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Public {
    /// Public ones and the private ones that the caller's project may use.
    Usable,
    Yes,
    No,
    All,
}

impl Volumes {
    /// Makes the default type where it is missing, so that every volume has one.
    pub(crate) async fn ensure_default_type(&self) -> Result<(), VolumeError> {
        let name = self.config.default_type.clone();
        let mut tx = self.db.begin().await?;
        tx.lock("volume:types").await?;
        if store::types::get(tx.conn(), &name).await?.is_none() {
            let kind = VolumeType {
                id: state::new_id(),
                name,
                description: Some("Default Volume Type".into()),
                is_public: true,
                extra_specs: Metadata::new(),
                qos_specs_id: None,
                created_at: Timestamp::now(),
                updated_at: None,
            };
            store::types::insert(&mut tx, &kind).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Looks up a type by id or name, if the caller may see it.
    pub(crate) async fn find_type(&self, ctx: &Context, id_or_name: &str) -> Result<VolumeType, VolumeError> {
        let absent = || VolumeError::TypeNotFound(id_or_name.to_owned());
        let kind = store::types::get(self.db.read(), id_or_name).await?.ok_or_else(absent)?;
        if kind.is_public || ctx.is_admin() {
            return Ok(kind);
        }
        let granted = store::types::granted(self.db.read(), Self::home(ctx)?).await?;
        if granted.contains(&kind.id) { Ok(kind) } else { Err(absent()) }
    }

    /// The type of a new volume: as asked for, else its source's, else the project's default, else the cloud's.
    pub(crate) async fn type_for(
        &self,
        ctx: &Context,
        project_id: &str,
        asked: Option<&str>,
        of_source: Option<String>,
    ) -> Result<VolumeType, VolumeError> {
        if let Some(asked) = asked {
            return self.find_type(ctx, asked).await.map_err(|e| match e {
                VolumeError::TypeNotFound(name) if uuid::Uuid::parse_str(&name).is_err() => {
                    VolumeError::TypeNameNotFound(name)
                }
                other => other,
            });
        }
        let own = match of_source {
            Some(id) => Some(id),
            None => store::types::default_of(self.db.read(), project_id).await?,
        };
        if let Some(id) = own
            && let Some(kind) = store::types::get(self.db.read(), &id).await?
        {
            return Ok(kind);
        }
        self.default_type().await
    }

    /// The id of the type that an image asks for, where the caller may have it.
    pub(crate) async fn type_of_image(
        &self,
        ctx: &Context,
        image: &Metadata,
    ) -> Result<Option<String>, VolumeError> {
        let Some(name) = image.get(OF_IMAGE) else { return Ok(None) };
        match self.find_type(ctx, name).await {
            Ok(kind) => Ok(Some(kind.id)),
            Err(VolumeError::TypeNotFound(_)) => {
                tracing::info!(name, "the volume type that an image asks for is not there");
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    pub(crate) async fn default_type(&self) -> Result<VolumeType, VolumeError> {
        let name = &self.config.default_type;
        store::types::get(self.db.read(), name)
            .await?
            .ok_or_else(|| VolumeError::TypeNameNotFound(name.clone()))
    }

    /// The type that a caller's volumes have where they name none.
    pub(crate) async fn effective_default(&self, ctx: &Context) -> Result<VolumeType, VolumeError> {
        let home = Self::home(ctx)?.to_owned();
        self.may(ctx, "volume_extension:type_get", &home)?;
        self.type_for(ctx, &home, None, None).await
    }

    pub(crate) async fn show_type(&self, ctx: &Context, id: &str) -> Result<VolumeType, VolumeError> {
        self.may(ctx, "volume_extension:type_get", Self::home(ctx)?)?;
        let kind = self.find_type(ctx, id).await?;
        // By id only: a name is not an address.
        if kind.id == id { Ok(kind) } else { Err(VolumeError::TypeNotFound(id.to_owned())) }
    }

    pub(crate) async fn list_types(
        &self,
        ctx: &Context,
        which: Public,
    ) -> Result<Vec<VolumeType>, VolumeError> {
        let home = Self::home(ctx)?;
        self.may(ctx, "volume_extension:type_get_all", home)?;
        let which = if ctx.is_admin() { which } else { Public::Usable };
        let granted = store::types::granted(self.db.read(), home).await?;
        let mut all = store::types::all(self.db.read()).await?;
        all.retain(|t| match which {
            Public::All => true,
            Public::Yes => t.is_public,
            Public::No => !t.is_public,
            Public::Usable => t.is_public || granted.contains(&t.id),
        });
        Ok(all)
    }

    pub(crate) async fn create_type(&self, ctx: &Context, new: NewType) -> Result<VolumeType, VolumeError> {
        self.may(ctx, "volume_extension:type_create", "")?;
        let name = new.name.trim().to_owned();
        let mut tx = self.db.begin().await?;
        tx.lock("volume:types").await?;
        taken(&mut tx, &name, "").await?;
        let kind = VolumeType {
            id: state::new_id(),
            name,
            description: new.description,
            is_public: new.is_public,
            extra_specs: new.extra_specs,
            qos_specs_id: None,
            created_at: Timestamp::now(),
            updated_at: None,
        };
        store::types::insert(&mut tx, &kind).await?;
        tx.commit().await?;
        Ok(kind)
    }

    /// A type for changing, held against other changes.
    async fn hold_type(&self, ctx: &Context, id: &str, rule: &str) -> Result<(Tx, VolumeType), VolumeError> {
        self.may(ctx, rule, "")?;
        let mut tx = self.db.begin().await?;
        tx.lock("volume:types").await?;
        let kind = store::types::get(tx.conn(), id).await?.filter(|t| t.id == id);
        Ok((tx, kind.ok_or_else(|| VolumeError::TypeNotFound(id.to_owned()))?))
    }

    pub(crate) async fn update_type(
        &self,
        ctx: &Context,
        id: &str,
        change: TypeChange,
    ) -> Result<VolumeType, VolumeError> {
        let (mut tx, mut kind) = self.hold_type(ctx, id, "volume_extension:type_update").await?;
        if let Some(name) = change.name {
            let name = name.trim().to_owned();
            taken(&mut tx, &name, id).await?;
            kind.name = name;
        }
        if let Some(description) = change.description {
            kind.description = description;
        }
        if let Some(is_public) = change.is_public {
            kind.is_public = is_public;
        }
        store::types::save(&mut tx, &kind).await?;
        tx.commit().await?;
        Ok(kind)
    }

    pub(crate) async fn delete_type(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        let (mut tx, kind) = self.hold_type(ctx, id, "volume_extension:type_delete").await?;
        if kind.name == self.config.default_type {
            return Err(VolumeError::BadRequest(format!(
                "The volume type {id} is the default volume type and cannot be deleted."
            )));
        }
        if store::types::in_use(&mut tx, id).await? {
            return Err(VolumeError::BadRequest(format!(
                "Target volume type is still in use. Volume Type {id} deletion is not allowed with volumes present \
                 with the type."
            )));
        }
        store::types::remove(&mut tx, id).await?;
        store::quotas::forget_type(&mut tx, &kind.name).await?;
        Ok(tx.commit().await?)
    }

    pub(crate) async fn edit_extra_specs(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
        edit: impl FnOnce(&mut Metadata) -> Result<(), VolumeError>,
    ) -> Result<Metadata, VolumeError> {
        let (mut tx, mut kind) = self.hold_type(ctx, id, rule).await?;
        edit(&mut kind.extra_specs)?;
        store::types::save(&mut tx, &kind).await?;
        tx.commit().await?;
        Ok(kind.extra_specs)
    }

    /// Carries QoS specs on a type, or takes them off.
    pub(crate) async fn set_type_qos(
        &self,
        ctx: &Context,
        id: &str,
        change: impl FnOnce(Option<String>) -> Result<Option<String>, VolumeError>,
    ) -> Result<(), VolumeError> {
        let rule = "volume_extension:qos_specs_manage:update";
        let (mut tx, mut kind) = self.hold_type(ctx, id, rule).await?;
        kind.qos_specs_id = change(kind.qos_specs_id.take())?;
        store::types::save(&mut tx, &kind).await?;
        Ok(tx.commit().await?)
    }

    pub(crate) async fn type_access(&self, ctx: &Context, id: &str) -> Result<Vec<String>, VolumeError> {
        self.may(ctx, "volume_extension:volume_type_access:get_all_for_type", "")?;
        let kind = self.find_type(ctx, id).await?;
        if kind.is_public {
            return Err(VolumeError::NotFound("Access list not available for public volume types.".into()));
        }
        store::types::access(self.db.read(), &kind.id).await
    }

    pub(crate) async fn grant_type(&self, ctx: &Context, id: &str, project: &str) -> Result<(), VolumeError> {
        let rule = "volume_extension:volume_type_access:addProjectAccess";
        let (mut tx, kind) = self.hold_type(ctx, id, rule).await?;
        if kind.is_public {
            return Err(VolumeError::Conflict(
                "Type access modification is not applicable to public volume type.".into(),
            ));
        }
        if !store::types::grant(&mut tx, id, project).await? {
            return Err(VolumeError::Conflict(format!(
                "Volume type access for {id} / {project} combination already exists."
            )));
        }
        Ok(tx.commit().await?)
    }

    pub(crate) async fn revoke_type(
        &self,
        ctx: &Context,
        id: &str,
        project: &str,
    ) -> Result<(), VolumeError> {
        let rule = "volume_extension:volume_type_access:removeProjectAccess";
        let (mut tx, kind) = self.hold_type(ctx, id, rule).await?;
        if kind.is_public {
            return Err(VolumeError::Conflict(
                "Type access modification is not applicable to public volume type.".into(),
            ));
        }
        if !store::types::revoke(&mut tx, id, project).await? {
            return Err(VolumeError::NotFound(format!(
                "Volume type access not found for {id} / {project} combination."
            )));
        }
        Ok(tx.commit().await?)
    }

    pub(crate) async fn default_types(&self, ctx: &Context) -> Result<Vec<(String, String)>, VolumeError> {
        self.may(ctx, "volume_extension:default_get_all", "")?;
        store::types::defaults(self.db.read()).await
    }

    pub(crate) async fn project_default(&self, ctx: &Context, project: &str) -> Result<String, VolumeError> {
        self.may(ctx, "volume_extension:default_get", project)?;
        store::types::default_of(self.db.read(), project)
            .await?
            .ok_or_else(|| VolumeError::NotFound(format!("Default type for project {project} not found.")))
    }

    pub(crate) async fn set_project_default(
        &self,
        ctx: &Context,
        project: &str,
        id_or_name: &str,
    ) -> Result<VolumeType, VolumeError> {
        self.may(ctx, "volume_extension:default_set_or_update", project)?;
        let kind = self.find_type(ctx, id_or_name).await?;
        let mut tx = self.db.begin().await?;
        store::types::set_default(&mut tx, project, &kind.id).await?;
        tx.commit().await?;
        Ok(kind)
    }

    pub(crate) async fn unset_project_default(
        &self,
        ctx: &Context,
        project: &str,
    ) -> Result<(), VolumeError> {
        self.may(ctx, "volume_extension:default_unset", project)?;
        let mut tx = self.db.begin().await?;
        store::types::unset_default(&mut tx, project).await?;
        Ok(tx.commit().await?)
    }
}

/// Refuses a name that another type has.
async fn taken(tx: &mut Tx, name: &str, own_id: &str) -> Result<(), VolumeError> {
    match store::types::get(tx.conn(), name).await? {
        Some(t) if t.id != own_id && t.name == name => {
            Err(VolumeError::Conflict(format!("Volume Type {name} already exists.")))
        }
        _ => Ok(()),
    }
}
