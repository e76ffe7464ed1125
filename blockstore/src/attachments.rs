//! Attachments: which server holds which volume, and how far it has come with it.
//!
//! A volume's own state follows from its attachments ([`state_of`]), so that the two never disagree. Compute's
//! calls may be repeated at will: each one gives what the first gave.

use crate::encryption::VolumeEncryption;
use crate::migrate::phase;
use crate::model::{AttachMode, Attachment, RbdLocation, Volume};
use crate::status::{AttachStatus, Step, VolumeStatus};
use crate::store::attachments::Filter;
use crate::volumes::lock_key;
use crate::{VolumeError, Volumes, store};
use api::{Context, Page};
use serde_json::{Map, Value};
use state::{Timestamp, Tx};
use std::collections::BTreeMap;

/// What compute gets when a server may have a volume.
#[derive(Debug, Clone)]
pub struct Held {
    pub attachment: Attachment,
    pub location: RbdLocation,
    pub size_gib: i64,
    pub readonly: bool,
    pub multiattach: bool,
    pub bootable: bool,
    /// How the host opens it; its passphrase is [`Volumes::passphrase`]'s.
    pub encryption: Option<VolumeEncryption>,
    /// What the hypervisor keeps the server to: libvirt's names of limits.
    pub limits: BTreeMap<String, u64>,
}

/// An attachment that is asked for.
pub(crate) struct NewAttachment {
    pub(crate) volume_id: String,
    pub(crate) server_id: Option<String>,
    pub(crate) connector: Option<Map<String, Value>>,
    pub(crate) mode: AttachMode,
}

/// The state that a volume's attachments give it.
fn state_of(attachments: &[Attachment]) -> VolumeStatus {
    let any = |status| attachments.iter().any(|a| a.status == status);
    match () {
        () if any(AttachStatus::Attached) => VolumeStatus::InUse,
        () if any(AttachStatus::Attaching) => VolumeStatus::Attaching,
        () if any(AttachStatus::Reserved) => VolumeStatus::Reserved,
        () if any(AttachStatus::Detaching) => VolumeStatus::Detaching,
        () => VolumeStatus::Available,
    }
}

impl Volumes {
    /// Takes a volume for a server: `reserved` without a host, `attaching` with one. Repeated for the same server it
    /// gives the same attachment, and takes it from reserved to attaching once the host is known. A volume that
    /// another server has is refused (400), unless its type lets several have it.
    pub async fn attach_begin(
        &self,
        ctx: &Context,
        volume_id: &str,
        server_id: &str,
        host: Option<&str>,
    ) -> Result<Held, VolumeError> {
        let (mut tx, mut volume) = self.hold(ctx, volume_id, "volume:attachment_create").await?;
        let there = volume.attachments.iter().find(|a| a.server_id.as_deref() == Some(server_id)).cloned();
        let connector = host.map(|h| Map::from_iter([("host".to_owned(), Value::from(h))]));
        let attachment = match there {
            Some(mut a) => {
                if let (Some(connector), AttachStatus::Reserved | AttachStatus::Detaching) =
                    (connector, a.status)
                {
                    connect(&mut a, connector);
                    self.put(&mut tx, &mut volume, a.clone()).await?;
                }
                a
            }
            None => {
                let mode = if volume.readonly() { AttachMode::Ro } else { AttachMode::Rw };
                let new = NewAttachment {
                    volume_id: volume_id.to_owned(),
                    server_id: Some(server_id.to_owned()),
                    connector,
                    mode,
                };
                self.reserve(&mut tx, &mut volume, new).await?
            }
        };
        let encryption = match &volume.encryption_key_id {
            Some(_) => self.format_of(&volume.type_id).await?.map(VolumeEncryption::from),
            None => None,
        };
        let qos = self.qos_of_type(&volume.type_id).await?;
        let limits = qos.map(|q| q.for_hypervisor(volume.size_gib)).unwrap_or_default();
        let held = Held { encryption, limits, ..self.held(&volume, attachment)? };
        tx.commit().await?;
        Ok(held)
    }

    fn held(&self, volume: &Volume, attachment: Attachment) -> Result<Held, VolumeError> {
        Ok(Held {
            readonly: attachment.mode == AttachMode::Ro || volume.readonly(),
            attachment,
            location: self.location_of(volume)?,
            size_gib: volume.size_gib,
            multiattach: volume.multiattach,
            bootable: volume.bootable,
            encryption: None,
            limits: BTreeMap::new(),
        })
    }

    /// The guest has the disk as `device` (`/dev/vdb`): the volume is `in-use`.
    pub async fn attach_complete(
        &self,
        ctx: &Context,
        attachment_id: &str,
        device: Option<&str>,
    ) -> Result<(), VolumeError> {
        let (mut tx, mut volume, mut a) =
            self.hold_attachment(ctx, attachment_id, "volume:attachment_complete").await?;
        attached(&mut a, device);
        self.put(&mut tx, &mut volume, a).await?;
        Ok(tx.commit().await?)
    }

    /// The server will not have the volume after all. An attachment that is gone is no error.
    pub async fn attach_abort(&self, ctx: &Context, attachment_id: &str) -> Result<(), VolumeError> {
        self.detach_complete(ctx, attachment_id).await
    }

    /// The guest is about to lose the disk: the volume is `detaching`.
    pub async fn detach_begin(&self, ctx: &Context, attachment_id: &str) -> Result<(), VolumeError> {
        let (mut tx, mut volume, mut a) = self
            .hold_attachment(ctx, attachment_id, "volume_extension:volume_actions:begin_detaching")
            .await?;
        if a.status == AttachStatus::Attached {
            a.status = AttachStatus::Detaching;
            self.put(&mut tx, &mut volume, a).await?;
        }
        Ok(tx.commit().await?)
    }

    /// The guest kept the disk: back to `in-use`.
    pub async fn detach_abort(&self, ctx: &Context, attachment_id: &str) -> Result<(), VolumeError> {
        let (mut tx, mut volume, mut a) = self
            .hold_attachment(ctx, attachment_id, "volume_extension:volume_actions:roll_detaching")
            .await?;
        if a.status == AttachStatus::Detaching {
            a.status = AttachStatus::Attached;
            self.put(&mut tx, &mut volume, a).await?;
        }
        Ok(tx.commit().await?)
    }

    /// The server has let go: the attachment is gone. Twice is no error.
    pub async fn detach_complete(&self, ctx: &Context, attachment_id: &str) -> Result<(), VolumeError> {
        match self.delete_attachment(ctx, attachment_id).await {
            Err(VolumeError::AttachmentNotFound(_)) | Ok(_) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The unfinished and finished attachments of a server, for compute to compare with what it knows.
    pub async fn attachments_of_server(&self, server_id: &str) -> Result<Vec<Attachment>, VolumeError> {
        let filter = Filter { server_id: Some(server_id.to_owned()), ..Filter::default() };
        let page = Page { limit: 10_000, ..Page::default() };
        store::attachments::list(self.db.read(), &filter, &page, None).await
    }

    /// Makes an attachment of a held volume, if its state allows one more.
    async fn reserve(
        &self,
        tx: &mut Tx,
        volume: &mut Volume,
        new: NewAttachment,
    ) -> Result<Attachment, VolumeError> {
        // A volume that is about to move has no place that a guest could open; one that serves at its new place has, and
        // stays there.
        match volume.migration_status.as_deref() {
            Some(phase::COMPLETING) => {
                volume.migration_status = Some(phase::SUCCESS.into());
                store::volumes::save(tx, volume).await?;
            }
            _ if volume.is_migrating() => {
                return Err(VolumeError::InvalidVolume(format!(
                    "Volume {} is being migrated: it can be attached once that is done.",
                    volume.id
                )));
            }
            _ => {}
        }
        let free = volume.status.after(Step::Reserve).is_some();
        let shared = volume.multiattach && volume.status == VolumeStatus::InUse;
        // A move from host to host holds the volume twice, for the same server.
        let moving = new.server_id.is_some()
            && matches!(
                volume.status,
                VolumeStatus::InUse | VolumeStatus::Reserved | VolumeStatus::Attaching
            )
            && volume.attachments.iter().all(|a| a.server_id == new.server_id)
            && !volume.attachments.is_empty();
        if !(free || shared || moving) {
            let may = if volume.multiattach {
                "available or in-use or downloading"
            } else {
                "available or downloading"
            };
            return Err(VolumeError::InvalidVolume(format!(
                "Volume {} status must be {may} to reserve, but the current status is {}.",
                volume.id, volume.status
            )));
        }
        let mut attachment = Attachment {
            id: state::new_id(),
            volume_id: volume.id.clone(),
            project_id: volume.project_id.clone(),
            server_id: new.server_id,
            host: None,
            device: None,
            mode: new.mode,
            status: AttachStatus::Reserved,
            connector: Map::new(),
            attached_at: None,
            created_at: Timestamp::now(),
        };
        if let Some(connector) = new.connector {
            connect(&mut attachment, connector);
        }
        self.put(tx, volume, attachment.clone()).await?;
        Ok(attachment)
    }

    /// Writes an attachment of a held volume, and the state that follows from it.
    async fn put(&self, tx: &mut Tx, volume: &mut Volume, a: Attachment) -> Result<(), VolumeError> {
        store::attachments::put(tx, &a).await?;
        match volume.attachments.iter_mut().find(|b| b.id == a.id) {
            Some(b) => *b = a,
            None => volume.attachments.push(a),
        }
        self.settle(tx, volume).await
    }

    /// Gives a held volume the state that follows from its attachments.
    async fn settle(&self, tx: &mut Tx, volume: &mut Volume) -> Result<(), VolumeError> {
        let next = state_of(&volume.attachments);
        // A volume in another operation keeps its state: it goes back to what that operation remembers.
        let engaged = matches!(
            volume.status,
            VolumeStatus::Extending
                | VolumeStatus::Uploading
                | VolumeStatus::Retyping
                | VolumeStatus::Maintenance
                | VolumeStatus::Downloading
                | VolumeStatus::Deleting
        );
        if engaged || next == volume.status {
            return Ok(());
        }
        store::volumes::set_status(tx, &volume.id, next, None).await?;
        volume.status = next;
        let mode = volume.attachments.iter().find(|a| a.status == AttachStatus::Attached).map(|a| a.mode);
        let changed = match mode {
            Some(mode) => {
                volume.admin_metadata.insert("attached_mode".into(), mode.as_str().into()).is_none()
            }
            None => volume.admin_metadata.remove("attached_mode").is_some(),
        };
        if changed {
            store::volumes::save(tx, volume).await?;
        }
        Ok(())
    }

    /// The state that a volume goes back to when an operation on it ends: its attachments may have changed since it
    /// began.
    pub(crate) async fn state_at_rest(
        &self,
        tx: &mut Tx,
        volume_id: &str,
    ) -> Result<VolumeStatus, VolumeError> {
        let attachments = store::attachments::of_volumes(tx.conn(), [volume_id.to_owned()]).await?;
        Ok(state_of(&attachments))
    }

    /// Looks up and authorises in one step.
    pub(crate) async fn find_attachment(&self, ctx: &Context, id: &str) -> Result<Attachment, VolumeError> {
        store::attachments::get(self.db.read(), id)
            .await?
            .filter(|a| Self::sees(ctx, &a.project_id))
            .ok_or_else(|| VolumeError::AttachmentNotFound(id.to_owned()))
    }

    async fn hold_attachment(
        &self,
        ctx: &Context,
        id: &str,
        rule: &str,
    ) -> Result<(Tx, Volume, Attachment), VolumeError> {
        let absent = || VolumeError::AttachmentNotFound(id.to_owned());
        let seen = self.find_attachment(ctx, id).await?;
        self.may(ctx, rule, &seen.project_id)?;
        let mut tx = self.db.begin().await?;
        tx.lock(&lock_key(&seen.volume_id)).await?;
        let mut volume = store::volumes::get(tx.conn(), &seen.volume_id).await?.ok_or_else(absent)?;
        volume.attachments = store::attachments::of_volumes(tx.conn(), [volume.id.clone()]).await?;
        let a = volume.attachments.iter().find(|a| a.id == id).cloned().ok_or_else(absent)?;
        Ok((tx, volume, a))
    }

    // The attachments API (3.27).

    pub(crate) async fn create_attachment(
        &self,
        ctx: &Context,
        new: NewAttachment,
    ) -> Result<(Attachment, Volume), VolumeError> {
        let (mut tx, mut volume) = self.hold(ctx, &new.volume_id, "volume:attachment_create").await?;
        if volume.readonly() && new.mode == AttachMode::Rw && new.connector.is_some() {
            return Err(VolumeError::InvalidVolume(format!(
                "Volume {} is read-only: it can be attached with mode ro only.",
                volume.id
            )));
        }
        let a = self.reserve(&mut tx, &mut volume, new).await?;
        tx.commit().await?;
        Ok((a, volume))
    }

    pub(crate) async fn update_attachment(
        &self,
        ctx: &Context,
        id: &str,
        connector: Map<String, Value>,
        mode: Option<AttachMode>,
    ) -> Result<(Attachment, Volume), VolumeError> {
        let (mut tx, mut volume, mut a) = self.hold_attachment(ctx, id, "volume:attachment_update").await?;
        if let Some(mode) = mode {
            a.mode = mode;
        }
        connect(&mut a, connector);
        self.put(&mut tx, &mut volume, a.clone()).await?;
        tx.commit().await?;
        Ok((a, volume))
    }

    /// Removes an attachment in whatever state; what is left of its volume.
    pub(crate) async fn delete_attachment(
        &self,
        ctx: &Context,
        id: &str,
    ) -> Result<Vec<Attachment>, VolumeError> {
        let (mut tx, mut volume, _) = self.hold_attachment(ctx, id, "volume:attachment_delete").await?;
        self.drop_attachment(&mut tx, &mut volume, id).await?;
        tx.commit().await?;
        Ok(volume.attachments)
    }

    async fn drop_attachment(&self, tx: &mut Tx, volume: &mut Volume, id: &str) -> Result<(), VolumeError> {
        store::attachments::remove(tx, id).await?;
        volume.attachments.retain(|a| a.id != id);
        self.settle(tx, volume).await
    }

    pub(crate) async fn list_attachments(
        &self,
        ctx: &Context,
        mut filter: Filter,
        all_projects: bool,
        page: &Page,
    ) -> Result<(Vec<Attachment>, bool), VolumeError> {
        let home = Self::home(ctx)?;
        self.may(ctx, "volume:get_all", home)?;
        if !(all_projects && ctx.is_admin()) {
            filter.project_id = Some(home.to_owned());
        }
        let marker = match &page.marker {
            Some(id) => Some(self.find_attachment(ctx, id).await?),
            None => None,
        };
        let mut all = store::attachments::list(self.db.read(), &filter, page, marker.as_ref()).await?;
        let more = page.cut(&mut all);
        Ok((all, more))
    }

    /// Moves every attachment of a volume to another one, which is free.
    pub(crate) async fn take_over_attachments(
        &self,
        ctx: &Context,
        from: &str,
        to: &str,
    ) -> Result<(), VolumeError> {
        let of = self.get(ctx, from).await?;
        for a in &of.attachments {
            self.old_detach(ctx, from, Some(&a.id), true).await?;
            let (server, host) = (a.server_id.clone(), a.host.clone());
            self.old_attach(ctx, to, server, host, a.device.clone(), a.mode).await?;
        }
        Ok(())
    }

    // The older actions on volumes, which know no attachment before it is complete.

    /// `os-reserve`: `attaching` without an attachment.
    pub(crate) async fn old_reserve(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        let (mut tx, volume) = self.hold(ctx, id, "volume_extension:volume_actions:reserve").await?;
        let free = volume.status == VolumeStatus::Available
            || (volume.multiattach && volume.status == VolumeStatus::InUse);
        if !free {
            return Err(VolumeError::InvalidVolume(format!(
                "Volume {id} status must be available or in-use, but current status is: {}.",
                volume.status
            )));
        }
        store::volumes::set_status(&mut tx, id, VolumeStatus::Attaching, None).await?;
        Ok(tx.commit().await?)
    }

    /// `os-unreserve`.
    pub(crate) async fn old_unreserve(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        let (mut tx, mut volume) = self.hold(ctx, id, "volume_extension:volume_actions:unreserve").await?;
        if volume.status == VolumeStatus::Attaching {
            self.settle(&mut tx, &mut volume).await?;
        }
        Ok(tx.commit().await?)
    }

    /// `os-attach`: the caller has attached it, to a server or to a host itself.
    pub(crate) async fn old_attach(
        &self,
        ctx: &Context,
        id: &str,
        server_id: Option<String>,
        host: Option<String>,
        device: Option<String>,
        mode: AttachMode,
    ) -> Result<(), VolumeError> {
        let (mut tx, mut volume) = self.hold(ctx, id, "volume_extension:volume_actions:attach").await?;
        if volume.readonly() && mode == AttachMode::Rw {
            return Err(VolumeError::InvalidVolume(format!(
                "Volume {id} is read-only: it can be attached with mode ro only."
            )));
        }
        let same = |a: &Attachment| a.server_id == server_id && (server_id.is_some() || a.host == host);
        let mut a = match volume.attachments.iter().find(|a| same(a)).cloned() {
            Some(a) => a,
            None => {
                let attaching = volume.status == VolumeStatus::Attaching && volume.attachments.is_empty();
                if attaching {
                    volume.status = VolumeStatus::Available;
                }
                let new = NewAttachment {
                    volume_id: id.to_owned(),
                    server_id: server_id.clone(),
                    connector: None,
                    mode,
                };
                self.reserve(&mut tx, &mut volume, new).await?
            }
        };
        a.host = host;
        a.mode = mode;
        attached(&mut a, device.as_deref());
        self.put(&mut tx, &mut volume, a).await?;
        Ok(tx.commit().await?)
    }

    /// `os-begin_detaching` and `os-roll_detaching`: the volume's only attachments follow.
    pub(crate) async fn old_detaching(
        &self,
        ctx: &Context,
        id: &str,
        begin: bool,
    ) -> Result<(), VolumeError> {
        let rule = if begin {
            "volume_extension:volume_actions:begin_detaching"
        } else {
            "volume_extension:volume_actions:roll_detaching"
        };
        let (mut tx, mut volume) = self.hold(ctx, id, rule).await?;
        let (from, to) = if begin {
            (AttachStatus::Attached, AttachStatus::Detaching)
        } else {
            (AttachStatus::Detaching, AttachStatus::Attached)
        };
        if begin && volume.status.after(Step::BeginDetach).is_none() {
            return Err(VolumeError::InvalidVolume(format!(
                "Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to \
                 detach. It is {}.",
                volume.status
            )));
        }
        // With several holders the volume stays in use: it is not known yet which of them lets go.
        if volume.attachments.len() == 1 {
            let turned = volume.attachments.iter().filter(|a| a.status == from).cloned();
            for mut a in turned.collect::<Vec<_>>() {
                a.status = to;
                self.put(&mut tx, &mut volume, a).await?;
            }
        }
        Ok(tx.commit().await?)
    }

    /// `os-detach` and `os-force_detach`: one attachment by its id, or the only one.
    pub(crate) async fn old_detach(
        &self,
        ctx: &Context,
        id: &str,
        attachment_id: Option<&str>,
        force: bool,
    ) -> Result<(), VolumeError> {
        let rule = if force {
            "volume_extension:volume_admin_actions:force_detach"
        } else {
            "volume_extension:volume_actions:detach"
        };
        let (mut tx, mut volume) = self.hold(ctx, id, rule).await?;
        let which = match attachment_id {
            Some(a) => match volume.attachments.iter().find(|b| b.id == a) {
                Some(a) => Some(a.id.clone()),
                None => {
                    return Err(VolumeError::InvalidVolume(format!(
                        "Volume does not have the attachment {a}."
                    )));
                }
            },
            None if volume.attachments.len() > 1 => {
                return Err(VolumeError::InvalidVolume(
                    "Detach volume failed: More than one attachment, but no attachment_id provided.".into(),
                ));
            }
            None => volume.attachments.first().map(|a| a.id.clone()),
        };
        match which {
            Some(a) => self.drop_attachment(&mut tx, &mut volume, &a).await?,
            None => self.settle(&mut tx, &mut volume).await?,
        }
        if force && volume.attachments.is_empty() {
            store::volumes::set_status(&mut tx, id, VolumeStatus::Available, None).await?;
        }
        Ok(tx.commit().await?)
    }
}

/// The host is known: on to `attaching`.
fn connect(a: &mut Attachment, connector: Map<String, Value>) {
    a.host = connector.get("host").and_then(Value::as_str).map(str::to_owned).or(a.host.take());
    a.device = connector.get("mountpoint").and_then(Value::as_str).map(str::to_owned).or(a.device.take());
    a.connector = connector;
    if a.status != AttachStatus::Attached {
        a.status = AttachStatus::Attaching;
    }
}

fn attached(a: &mut Attachment, device: Option<&str>) {
    a.device = device.map(str::to_owned).or(a.device.take());
    a.attached_at.get_or_insert_with(Timestamp::now);
    a.status = AttachStatus::Attached;
}
