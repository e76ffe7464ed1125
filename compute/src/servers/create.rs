//! Creating servers: everything that can be refused is refused here, before anything exists; the rest is the
//! task `server.create`.

use crate::model::{
    ConfigDrive, Disk, DiskSource, Flavor, Intent, MakeFrom, MakeVolume, NetworkRequest, Plug, RbdPlace,
    Seen, Server, VmState,
};
use crate::neighbours::images::fits;
use crate::quotas::Spend;
use crate::servers::mapping;
use crate::states::TaskState;
use crate::store::{actions, groups, keypairs, servers as store};
use crate::wire::Power;
use crate::{Compute, ComputeError, tasks};
use api::Context;
use base64::Engine;
use serde_json::Value;
use state::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A request to create servers, as the wire types give it.
#[derive(Debug, Clone)]
pub(crate) struct NewServer {
    pub(crate) name: String,
    pub(crate) hostname: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) image_id: String,
    pub(crate) flavor_id: String,
    pub(crate) key_name: Option<String>,
    pub(crate) user_data: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) networks: NetworkRequest,
    pub(crate) security_groups: Vec<String>,
    pub(crate) disks: Vec<NewDisk>,
    pub(crate) availability_zone: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) hypervisor_hostname: Option<String>,
    pub(crate) scheduler_hints: Value,
    pub(crate) config_drive: bool,
    pub(crate) access_ipv4: String,
    pub(crate) access_ipv6: String,
    pub(crate) trusted_image_certificates: Option<Vec<String>>,
    pub(crate) disk_config: String,
    pub(crate) min_count: i64,
    pub(crate) max_count: i64,
}

/// One entry of `block_device_mapping_v2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewDisk {
    pub(crate) from: DiskFrom,
    /// On a volume, else on the hypervisor's own storage.
    pub(crate) on_volume: bool,
    pub(crate) boot_index: Option<i64>,
    pub(crate) size_gib: Option<i64>,
    pub(crate) delete_on_termination: bool,
    pub(crate) device_name: Option<String>,
    pub(crate) bus: Option<String>,
    pub(crate) device_type: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) volume_type: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DiskFrom {
    Volume(String),
    Image(String),
    Snapshot(String),
    Blank,
}

/// Names are as long as this at most.
const MAX_USER_DATA: usize = 65535;

impl Compute {
    /// Creates `min_count` to `max_count` servers: as many as the quota allows, or none. What comes back is in
    /// `BUILD`; the work goes on by itself.
    pub(crate) async fn create_servers(
        &self,
        ctx: &Context,
        new: NewServer,
    ) -> Result<Vec<Server>, ComputeError> {
        let project = ctx.project_id()?.to_owned();
        self.may(ctx, "os_compute_api:servers:create", &project)?;
        let flavor = match self.flavor(ctx, &new.flavor_id).await {
            Err(ComputeError::NotFound(_)) => return Err(ComputeError::invalid(no_flavor(&new.flavor_id))),
            other => other?,
        };
        if flavor.disabled {
            return Err(ComputeError::invalid("Invalid flavorRef provided."));
        }
        let (zone, host) = self.place_asked(ctx, &new).await?;
        let key = self.key_asked(ctx, &new).await?;
        check_user_data(new.user_data.as_deref())?;
        self.room_for_metadata(&project, new.metadata.len()).await?;
        let disks = self.disks_asked(ctx, &new, &flavor).await?;
        let networks = self.networks_asked(ctx, &new).await?;
        let security_groups = self.groups_asked(ctx, &new).await?;
        let group = self.group_asked(ctx, &new).await?;
        let on_volume = disks.iter().any(|d| d.boot_index == Some(0) && d.volume_id().is_some());
        let image_id = if on_volume { String::new() } else { new.image_id.clone() };
        let config_drive = self.wants_config_drive(ctx, new.config_drive, &image_id).await?;
        let now = Timestamp::now();
        let template = Server {
            id: String::new(),
            project_id: project.clone(),
            user_id: ctx.user.id.clone(),
            hostname: new.hostname.clone().unwrap_or_else(|| hostname(&new.name)),
            name: new.name.clone(),
            description: new.description.clone(),
            image_id,
            flavor: flavor.clone(),
            key_name: new.key_name.clone(),
            public_key: key,
            metadata: new.metadata.clone(),
            tags: new.tags.clone(),
            system_metadata: [("disk_config".to_owned(), new.disk_config.clone())].into(),
            vm_state: VmState::Building,
            task_state: Some(TaskState::Scheduling),
            intent: Intent { power: Power::On, incarnation: 0, graceful: false, generation: 1 },
            seen: Seen::default(),
            host: String::new(),
            availability_zone: zone,
            wanted_host: host,
            locked: None,
            config_drive,
            drive: config_drive.then(|| ConfigDrive { tier: self.config.tier.clone(), place: None }),
            access_ipv4: new.access_ipv4.clone(),
            access_ipv6: new.access_ipv6.clone(),
            reservation_id: format!("r-{}", &state::new_hex_id()[..8]),
            launch_index: 0,
            root_device: "/dev/vda".into(),
            disks,
            nics: Vec::new(),
            networks,
            security_groups,
            group_id: group,
            scheduler_hints: new.scheduler_hints.clone(),
            trusted_image_certificates: new.trusted_image_certificates.clone(),
            fault: None,
            old_flavor: None,
            created_at: now,
            updated_at: now,
            launched_at: None,
            terminated_at: None,
            deleted_at: None,
        };
        self.insert_servers(ctx, &new, template).await
    }

    async fn insert_servers(
        &self,
        ctx: &Context,
        new: &NewServer,
        template: Server,
    ) -> Result<Vec<Server>, ComputeError> {
        let mut tx = self.db.begin().await?;
        let f = &template.flavor;
        let spend = |n: i64| Spend { instances: n, cores: n * f.vcpus, ram: n * f.ram_mib };
        let mut count = new.max_count;
        while let Err(e) = self.spend(&mut tx, &template.project_id, spend(count)).await {
            if count <= new.min_count || !matches!(e, ComputeError::Forbidden(_)) {
                return Err(e);
            }
            count -= 1;
        }
        if let Some(group) = &template.group_id {
            let members = groups::members_tx(&mut tx, group).await?.len();
            self.room_in_group(&mut tx, &template.project_id, members, count).await?;
        }
        let user_data = new.user_data.as_deref().unwrap_or_default();
        let mut made = Vec::new();
        for n in 0..count {
            let s = one_of(&template, n, count);
            store::insert(&mut tx, &s, user_data).await?;
            actions::begin(&mut tx, ctx, &s.id, "create").await?;
            tasks::create::spawn(&mut tx, &s.id).await?;
            made.push(s);
        }
        tx.commit().await?;
        Ok(made)
    }

    /// `zone`, or for administrators `zone:host` and the newer fields that name a host.
    async fn place_asked(
        &self,
        ctx: &Context,
        new: &NewServer,
    ) -> Result<(String, Option<String>), ComputeError> {
        let asked = new.availability_zone.as_deref().unwrap_or_default();
        let mut parts = asked.split(':');
        let zone = parts.next().unwrap_or_default().to_owned();
        let forced = parts.next().filter(|h| !h.is_empty()).map(str::to_owned);
        let node = parts.next().filter(|h| !h.is_empty()).map(str::to_owned);
        if parts.next().is_some() {
            return Err(ComputeError::invalid("Unable to parse availability_zone"));
        }
        if forced.is_some() || node.is_some() {
            self.may_at_home(ctx, "os_compute_api:servers:create:forced_host")?;
        }
        let wanted = new.host.clone().or_else(|| new.hypervisor_hostname.clone());
        if wanted.is_some() {
            self.may_at_home(ctx, "compute:servers:create:requested_destination")?;
        }
        let host = forced.or(node).or(wanted);
        let hosts = self.hosts().await?;
        if let Some(h) = &host
            && !hosts.iter().any(|known| known.name == *h)
        {
            return Err(ComputeError::invalid(format!("Compute host {h} could not be found.")));
        }
        let known = zone == self.config.availability_zone || hosts.iter().any(|h| h.zone == zone);
        if !zone.is_empty() && !known {
            return Err(ComputeError::invalid("The requested availability zone is not available"));
        }
        Ok((zone, host))
    }

    async fn key_asked(&self, ctx: &Context, new: &NewServer) -> Result<Option<String>, ComputeError> {
        let Some(name) = &new.key_name else { return Ok(None) };
        let key = keypairs::get(&self.db, &ctx.user.id, name).await?;
        let key = key.ok_or_else(|| ComputeError::invalid("Invalid key_name provided."))?;
        Ok(Some(key.public_key))
    }

    async fn networks_asked(&self, ctx: &Context, new: &NewServer) -> Result<NetworkRequest, ComputeError> {
        let names_any = matches!(&new.networks, NetworkRequest::These(_));
        if names_any {
            self.may_at_home(ctx, "os_compute_api:servers:create:attach_network")?;
        }
        if new.max_count > 1
            && let NetworkRequest::These(nics) = &new.networks
            && nics.iter().any(|n| n.port_id.is_some() || n.fixed_ip.is_some())
        {
            return Err(ComputeError::invalid(
                "Unable to launch multiple instances with a single configured port ID. Please launch your \
                 instance one by one with different ports.",
            ));
        }
        self.resolve_networks(ctx, new.networks.clone()).await
    }

    async fn groups_asked(&self, ctx: &Context, new: &NewServer) -> Result<Vec<String>, ComputeError> {
        let named: Vec<_> = new.security_groups.iter().filter(|g| *g != "default").cloned().collect();
        if named.is_empty() {
            return Ok(Vec::new());
        }
        match self.networks.security_group_ids(ctx, &new.security_groups).await {
            Ok(ids) => Ok(ids),
            Err(e) if e.is_not_found() => {
                Err(ComputeError::invalid(format!("Security group {} not found.", named.join(", "))))
            }
            Err(e) => Err(e.into()),
        }
    }

    async fn group_asked(&self, ctx: &Context, new: &NewServer) -> Result<Option<String>, ComputeError> {
        let Some(id) = new.scheduler_hints.get("group").and_then(Value::as_str) else { return Ok(None) };
        let found = groups::get(&self.db, id).await?;
        let home = ctx.project().map(|p| p.id.as_str()).unwrap_or_default();
        match found.filter(|g| g.project_id == home) {
            Some(g) => Ok(Some(g.id)),
            None => Err(ComputeError::invalid(format!("Instance group {id} could not be found."))),
        }
    }

    /// The server's disks, root first: names given, volumes checked, nothing touched yet.
    async fn disks_asked(
        &self,
        ctx: &Context,
        new: &NewServer,
        flavor: &Flavor,
    ) -> Result<Vec<Disk>, ComputeError> {
        let bad = |m: &str| ComputeError::invalid(format!("Block Device Mapping is Invalid: {m}"));
        let image = match new.image_id.as_str() {
            "" => None,
            id => Some(self.image_asked(ctx, id, flavor).await?),
        };
        let mut asked = new.disks.clone();
        let boots = |d: &NewDisk| d.boot_index == Some(0);
        // The image itself may be given once more, as the mapping of the local root disk.
        let root_is_local = |d: &NewDisk| {
            !d.on_volume
                && boots(d)
                && matches!(&d.from, DiskFrom::Image(i) if new.image_id.is_empty() || *i == new.image_id)
        };
        if new.image_id.is_empty() && asked.iter().any(root_is_local) {
            return Err(bad("An image given for a local disk must be the server's imageRef too."));
        }
        if let Some(image) = &image {
            mapping::merge(&mut asked, mapping::disks(image)?);
        }
        let roots = asked.iter().filter(|d| boots(d)).count();
        asked.retain(|d| !root_is_local(d));
        if roots > 1 || (roots == 0 && image.is_none()) {
            return Err(bad(
                "Boot sequence for the instance and image/block device mapping combination is not valid.",
            ));
        }
        if asked.len() + 1 > self.config.max_disks {
            return Err(bad("The number of defined volumes exceeds the limit."));
        }
        let mut disks = Vec::with_capacity(asked.len() + 1);
        asked.sort_by_key(|d| (d.boot_index.filter(|i| *i >= 0).unwrap_or(i64::MAX), 0));
        let booted_from_volume = asked.first().is_some_and(boots);
        if let (Some(image), false) = (&image, booted_from_volume) {
            fits(image, flavor)?;
            disks.push(local_root(&self.config.tier, &new.image_id, flavor));
        }
        if !asked.is_empty() {
            self.may_at_home(ctx, "os_compute_api:servers:create:attach_volume")?;
        }
        for d in &asked {
            if new.max_count > 1 && matches!(d.from, DiskFrom::Volume(_)) {
                return Err(ComputeError::invalid("Cannot attach one or more volumes to multiple instances"));
            }
            let disk = self.disk_asked(ctx, d, flavor, &disks).await?;
            disks.push(disk);
        }
        Ok(disks)
    }

    async fn disk_asked(
        &self,
        ctx: &Context,
        d: &NewDisk,
        flavor: &Flavor,
        others: &[Disk],
    ) -> Result<Disk, ComputeError> {
        if !d.on_volume {
            return Err(ComputeError::invalid(
                "Block Device Mapping is Invalid: ephemeral and swap disks are not offered; use a volume.",
            ));
        }
        let make =
            |from: MakeFrom, size_gib: i64| MakeVolume { from, size_gib, volume_type: d.volume_type.clone() };
        let (volume_id, size, make) = match &d.from {
            DiskFrom::Volume(id) => {
                let volume = self.volume_for_disk(ctx, id).await?;
                if others.iter().any(|o| o.volume_id() == Some(id)) {
                    return Err(ComputeError::invalid(format!(
                        "Block Device Mapping is Invalid: volume {id} is given twice."
                    )));
                }
                Self::check_free(&volume)?;
                if d.boot_index == Some(0) && !volume.bootable {
                    return Err(ComputeError::invalid(format!("Block Device {id} is not bootable.")));
                }
                (id.clone(), volume.size_gib, None)
            }
            DiskFrom::Image(id) => {
                let image = self.image_asked(ctx, id, flavor).await?;
                let Some(size) = d.size_gib else {
                    return Err(ComputeError::invalid(
                        "Block Device Mapping is Invalid: Images with destination_type 'volume' need to have a \
                         non-zero size specified",
                    ));
                };
                let least = image.disk_bytes().unwrap_or(0).div_ceil(1 << 30).max(u64::from(image.min_disk));
                if u64::try_from(size).unwrap_or(0) < least {
                    return Err(ComputeError::invalid(format!(
                        "Volume is smaller than the minimum size specified in image metadata. Volume size is {} \
                         bytes, minimum size is {} bytes.",
                        size << 30,
                        least << 30
                    )));
                }
                (state::new_id(), size, Some(make(MakeFrom::Image(id.clone()), size)))
            }
            DiskFrom::Snapshot(id) => {
                let snapshot = self.volumes.get_snapshot(ctx, id).await.map_err(|_| {
                    ComputeError::invalid(format!(
                        "Block Device Mapping is Invalid: failed to get snapshot {id}."
                    ))
                })?;
                let size = d.size_gib.unwrap_or(snapshot.size_gib);
                if size < snapshot.size_gib {
                    return Err(ComputeError::invalid(
                        "Block Device Mapping is Invalid: the volume would be smaller than its snapshot.",
                    ));
                }
                (state::new_id(), size, Some(make(MakeFrom::Snapshot(id.clone()), size)))
            }
            DiskFrom::Blank => {
                let size = d.size_gib.filter(|s| *s > 0).ok_or_else(|| {
                    ComputeError::invalid(
                        "Block Device Mapping is Invalid: Blank volumes (source: 'blank', dest: 'volume') need to \
                         have non-zero size",
                    )
                })?;
                (state::new_id(), size, Some(make(MakeFrom::Blank, size)))
            }
        };
        super::disks::name_disk(
            Disk {
                bdm_id: state::new_id(),
                source: DiskSource::Volume { volume_id },
                boot_index: d.boot_index.filter(|i| *i >= 0),
                device: String::new(),
                bus: d.bus.clone().unwrap_or_else(|| "virtio".into()),
                device_type: d.device_type.clone().unwrap_or_else(|| "disk".into()),
                size_gib: size,
                delete_on_termination: d.delete_on_termination,
                tag: d.tag.clone(),
                plug: Plug::Planned,
                attachment_id: None,
                place: None::<RbdPlace>,
                moving: None,
                grown: None,
                make,
            },
            d.device_name.as_deref(),
            others,
        )
    }
}

fn no_flavor(id: &str) -> String {
    // Upstream's word for a reference that is no id at all is the same.
    let _ = id;
    "Invalid flavorRef provided.".into()
}

fn local_root(tier: &str, image: &str, flavor: &Flavor) -> Disk {
    Disk {
        bdm_id: state::new_id(),
        source: DiskSource::Local { tier: tier.to_owned(), image: image.to_owned() },
        boot_index: Some(0),
        device: "vda".into(),
        bus: "virtio".into(),
        device_type: "disk".into(),
        size_gib: flavor.disk_gib,
        delete_on_termination: true,
        tag: None,
        plug: Plug::Planned,
        attachment_id: None,
        place: None,
        moving: None,
        grown: None,
        make: None,
    }
}

/// The `n`th of several servers of one request, with ids of its own.
fn one_of(template: &Server, n: i64, count: i64) -> Server {
    let mut s = template.clone();
    s.id = state::new_id();
    s.launch_index = n;
    if count > 1 {
        s.name = format!("{}-{}", template.name, n + 1);
        s.hostname = format!("{}-{}", template.hostname, n + 1);
    }
    for disk in &mut s.disks {
        disk.bdm_id = state::new_id();
        if disk.make.is_some() {
            disk.source = DiskSource::Volume { volume_id: state::new_id() };
        }
    }
    s
}

fn check_user_data(user_data: Option<&str>) -> Result<(), ComputeError> {
    let Some(text) = user_data else { return Ok(()) };
    if text.len() > MAX_USER_DATA {
        return Err(ComputeError::invalid(format!(
            "User data too large. User data must be no larger than {MAX_USER_DATA} bytes once base64 encoded. Your \
             data is {} bytes",
            text.len()
        )));
    }
    match base64::engine::general_purpose::STANDARD.decode(text.replace(['\n', '\r'], "")) {
        Ok(_) => Ok(()),
        Err(_) => Err(ComputeError::invalid("User data needs to be valid base 64.")),
    }
}

/// A name as a host can have it: letters, digits and hyphens, 63 at most, as upstream sanitises it.
pub(crate) fn hostname(name: &str) -> String {
    let mut out = String::new();
    for c in name.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' | '.' | '-' => out.push(c),
            ' ' | '_' => out.push('-'),
            _ => {}
        }
    }
    let trimmed: String = out.trim_matches(['.', '-']).chars().take(63).collect();
    let trimmed = trimmed.trim_end_matches(['.', '-']).replace('.', "-");
    if trimmed.is_empty() { "server".into() } else { trimmed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_are_what_a_host_can_have() {
        assert_eq!(hostname("Web Server_1"), "web-server-1");
        assert_eq!(hostname("mj123-a"), "mj123-a");
        assert_eq!(hostname("例え"), "server");
        assert_eq!(hostname("a.b."), "a-b");
        assert_eq!(hostname(&"x".repeat(200)).len(), 63);
    }

    #[test]
    fn user_data_is_base64_and_bounded() {
        assert!(check_user_data(None).is_ok());
        assert!(check_user_data(Some("IyEvYmluL3No\nCg==")).is_ok());
        assert!(check_user_data(Some("not base64!")).is_err());
        assert!(check_user_data(Some(&"A".repeat(65536))).is_err());
    }
}
