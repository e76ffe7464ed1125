//! QoS specs: named sets of limits that volume types carry.

use crate::model::{Metadata, VolumeType};
use crate::{VolumeError, Volumes, store};
use api::Context;
use state::Timestamp;
use std::collections::BTreeMap;

/// QoS specs, as their row has them.
#[derive(Debug, Clone)]
pub(crate) struct QosSpecs {
    pub(crate) id: String,
    pub(crate) name: String,
    /// `front-end`, `back-end` or `both`.
    pub(crate) consumer: String,
    pub(crate) specs: Metadata,
    pub(crate) created_at: Timestamp,
}

/// The specs that librbd enforces, by the names that upstream's RBD driver gives them.
const LIMITS: [(&str, &str); 12] = [
    ("total_iops_sec", "conf_rbd_qos_iops_limit"),
    ("read_iops_sec", "conf_rbd_qos_read_iops_limit"),
    ("write_iops_sec", "conf_rbd_qos_write_iops_limit"),
    ("total_bytes_sec", "conf_rbd_qos_bps_limit"),
    ("read_bytes_sec", "conf_rbd_qos_read_bps_limit"),
    ("write_bytes_sec", "conf_rbd_qos_write_bps_limit"),
    ("total_iops_sec_max", "conf_rbd_qos_iops_burst"),
    ("read_iops_sec_max", "conf_rbd_qos_read_iops_burst"),
    ("write_iops_sec_max", "conf_rbd_qos_write_iops_burst"),
    ("total_bytes_sec_max", "conf_rbd_qos_bps_burst"),
    ("read_bytes_sec_max", "conf_rbd_qos_read_bps_burst"),
    ("write_bytes_sec_max", "conf_rbd_qos_write_bps_burst"),
];

impl QosSpecs {
    /// What librbd is told (an image's metadata), where the storage is to keep the limits. A value that is no number
    /// limits nothing.
    pub(crate) fn limits(&self) -> Metadata {
        if self.consumer == "front-end" {
            return Metadata::new();
        }
        let number = |key: &str| self.specs.get(key).filter(|v| v.parse::<u64>().is_ok()).cloned();
        LIMITS.iter().filter_map(|(spec, key)| Some(((*key).to_owned(), number(spec)?))).collect()
    }

    /// What the hypervisor is told, where it is to keep the limits.
    pub(crate) fn of_front_end(self, size_gib: i64) -> Option<Metadata> {
        (self.consumer != "back-end" && !self.specs.is_empty()).then(|| scaled(self.specs, size_gib))
    }

    /// The same as what libvirt knows of it. Limits of reads or writes beside those of both would contradict them.
    pub(crate) fn for_hypervisor(self, size_gib: i64) -> BTreeMap<String, u64> {
        let specs = self.of_front_end(size_gib).unwrap_or_default();
        let number = |name: &str| Some((name.to_owned(), specs.get(name)?.parse::<u64>().ok()?));
        let mut limits: BTreeMap<String, u64> = HYPERVISOR.iter().filter_map(|name| number(name)).collect();
        for what in ["iops_sec", "bytes_sec"] {
            if limits.contains_key(&format!("total_{what}")) {
                limits.retain(|name, _| {
                    !name
                        .strip_prefix("read_")
                        .or(name.strip_prefix("write_"))
                        .is_some_and(|n| n.starts_with(what))
                });
            }
        }
        // A burst is of a limit.
        let all = limits.clone();
        limits.retain(|name, _| name.split_once("_max").is_none_or(|(base, _)| all.contains_key(base)));
        limits
    }
}

/// libvirt's names of limits.
const HYPERVISOR: [&str; 19] = [
    "total_iops_sec",
    "read_iops_sec",
    "write_iops_sec",
    "total_bytes_sec",
    "read_bytes_sec",
    "write_bytes_sec",
    "total_iops_sec_max",
    "read_iops_sec_max",
    "write_iops_sec_max",
    "total_bytes_sec_max",
    "read_bytes_sec_max",
    "write_bytes_sec_max",
    "total_iops_sec_max_length",
    "read_iops_sec_max_length",
    "write_iops_sec_max_length",
    "total_bytes_sec_max_length",
    "read_bytes_sec_max_length",
    "write_bytes_sec_max_length",
    "size_iops_sec",
];

/// Limits by the GiB (`…_per_gb`, at least `…_per_gb_min`) become those of a volume of this size.
fn scaled(mut specs: Metadata, size_gib: i64) -> Metadata {
    for who in ["total", "read", "write"] {
        for what in ["iops_sec", "bytes_sec"] {
            let name = format!("{who}_{what}");
            let mut number = |suffix: &str| specs.remove(&format!("{name}{suffix}"))?.parse::<i64>().ok();
            let (least, each) = (number("_per_gb_min"), number("_per_gb"));
            if let Some(each) = each {
                let limit = each.saturating_mul(size_gib).max(least.unwrap_or(0));
                specs.insert(name, limit.to_string());
            }
        }
    }
    specs
}

const CONSUMERS: [&str; 3] = ["front-end", "back-end", "both"];

impl Volumes {
    pub(crate) async fn qos_of_type(&self, type_id: &str) -> Result<Option<QosSpecs>, VolumeError> {
        match store::types::get(self.db.read(), type_id).await?.and_then(|t| t.qos_specs_id) {
            Some(id) => store::qos::get(self.db.read(), &id).await,
            None => Ok(None),
        }
    }

    /// The limits that librbd keeps for volumes of a type.
    pub(crate) async fn limits_of_type(&self, type_id: &str) -> Result<Metadata, VolumeError> {
        Ok(self.qos_of_type(type_id).await?.map(|q| q.limits()).unwrap_or_default())
    }

    /// Whether there are QoS specs at all; without any, no image has limits.
    pub(crate) async fn any_qos(&self) -> Result<bool, VolumeError> {
        Ok(!store::qos::all(self.db.read()).await?.is_empty())
    }

    pub(crate) async fn list_qos(&self, ctx: &Context) -> Result<Vec<QosSpecs>, VolumeError> {
        self.may(ctx, "volume_extension:qos_specs_manage:get_all", "")?;
        store::qos::all(self.db.read()).await
    }

    pub(crate) async fn get_qos(&self, ctx: &Context, id: &str, rule: &str) -> Result<QosSpecs, VolumeError> {
        self.may(ctx, rule, "")?;
        store::qos::get(self.db.read(), id).await?.ok_or_else(|| VolumeError::QosNotFound(id.to_owned()))
    }

    pub(crate) async fn create_qos(
        &self,
        ctx: &Context,
        name: &str,
        mut specs: Metadata,
    ) -> Result<QosSpecs, VolumeError> {
        self.may(ctx, "volume_extension:qos_specs_manage:create", "")?;
        let consumer = consumer(specs.remove("consumer"))?.unwrap_or_else(|| "back-end".into());
        let created_at = Timestamp::now();
        let qos = QosSpecs { id: state::new_id(), name: name.trim().to_owned(), consumer, specs, created_at };
        let mut tx = self.db.begin().await?;
        tx.lock("volume:types").await?;
        if store::qos::all(tx.conn()).await?.iter().any(|q| q.name == qos.name) {
            return Err(VolumeError::Conflict(format!("QoS Specs {} already exists.", qos.name)));
        }
        store::qos::put(&mut tx, &qos).await?;
        tx.commit().await?;
        Ok(qos)
    }

    /// Sets keys, and the consumer where it is among them.
    pub(crate) async fn set_qos(
        &self,
        ctx: &Context,
        id: &str,
        mut specs: Metadata,
    ) -> Result<QosSpecs, VolumeError> {
        let mut qos = self.get_qos(ctx, id, "volume_extension:qos_specs_manage:update").await?;
        if let Some(consumer) = consumer(specs.remove("consumer"))? {
            qos.consumer = consumer;
        }
        qos.specs.extend(specs);
        let mut tx = self.db.begin().await?;
        store::qos::put(&mut tx, &qos).await?;
        tx.commit().await?;
        Ok(qos)
    }

    pub(crate) async fn unset_qos(
        &self,
        ctx: &Context,
        id: &str,
        keys: &[String],
    ) -> Result<(), VolumeError> {
        let mut qos = self.get_qos(ctx, id, "volume_extension:qos_specs_manage:update").await?;
        for key in keys {
            if qos.specs.remove(key).is_none() {
                return Err(VolumeError::BadRequest(format!("QoS spec {id} has no spec with key {key}.")));
            }
        }
        let mut tx = self.db.begin().await?;
        store::qos::put(&mut tx, &qos).await?;
        Ok(tx.commit().await?)
    }

    pub(crate) async fn delete_qos(&self, ctx: &Context, id: &str, force: bool) -> Result<(), VolumeError> {
        let qos = self.get_qos(ctx, id, "volume_extension:qos_specs_manage:delete").await?;
        if !force && !self.carriers(&qos.id).await?.is_empty() {
            return Err(VolumeError::BadRequest(format!(
                "QoS Specs {id} is still associated with entities."
            )));
        }
        let mut tx = self.db.begin().await?;
        store::qos::remove(&mut tx, id).await?;
        Ok(tx.commit().await?)
    }

    async fn carriers(&self, id: &str) -> Result<Vec<VolumeType>, VolumeError> {
        let mut types = store::types::all(self.db.read()).await?;
        types.retain(|t| t.qos_specs_id.as_deref() == Some(id));
        Ok(types)
    }

    /// The types that carry the specs.
    pub(crate) async fn qos_associations(
        &self,
        ctx: &Context,
        id: &str,
    ) -> Result<Vec<VolumeType>, VolumeError> {
        self.get_qos(ctx, id, "volume_extension:qos_specs_manage:get").await?;
        self.carriers(id).await
    }

    pub(crate) async fn associate_qos(
        &self,
        ctx: &Context,
        id: &str,
        type_id: &str,
    ) -> Result<(), VolumeError> {
        let qos = self.get_qos(ctx, id, "volume_extension:qos_specs_manage:update").await?;
        self.set_type_qos(ctx, type_id, |has| match has {
            Some(other) if other != qos.id => Err(VolumeError::BadRequest(format!(
                "Type {type_id} is already associated with another qos specs: {other}"
            ))),
            _ => Ok(Some(qos.id)),
        })
        .await
    }

    pub(crate) async fn disassociate_qos(
        &self,
        ctx: &Context,
        id: &str,
        type_id: &str,
    ) -> Result<(), VolumeError> {
        self.get_qos(ctx, id, "volume_extension:qos_specs_manage:update").await?;
        self.set_type_qos(ctx, type_id, |_| Ok(None)).await
    }

    pub(crate) async fn disassociate_all_qos(&self, ctx: &Context, id: &str) -> Result<(), VolumeError> {
        self.get_qos(ctx, id, "volume_extension:qos_specs_manage:update").await?;
        let mut tx = self.db.begin().await?;
        store::qos::disassociate_all(&mut tx, id).await?;
        Ok(tx.commit().await?)
    }
}

fn consumer(given: Option<String>) -> Result<Option<String>, VolumeError> {
    match given {
        Some(c) if !CONSUMERS.contains(&c.as_str()) => Err(VolumeError::BadRequest(format!(
            "Invalid qos specs: Valid consumer of QoS specs are: {}",
            CONSUMERS.join(", ")
        ))),
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(consumer: &str, specs: &[(&str, &str)]) -> BTreeMap<String, u64> {
        let specs = specs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (id, name, consumer) = ("q".into(), "q".into(), consumer.into());
        QosSpecs { id, name, consumer, specs, created_at: Timestamp(0) }.for_hypervisor(10)
    }

    #[test]
    fn what_the_hypervisor_keeps() {
        let of = |pairs: &[(&str, u64)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        assert_eq!(limits("back-end", &[("total_iops_sec", "5")]), of(&[]));
        let some =
            [("total_iops_sec", "5"), ("read_iops_sec", "3"), ("write_bytes_sec", "7"), ("other", "1")];
        assert_eq!(limits("front-end", &some), of(&[("total_iops_sec", 5), ("write_bytes_sec", 7)]));
        let by_size = [("read_iops_sec_per_gb", "30"), ("read_iops_sec_per_gb_min", "100")];
        assert_eq!(limits("both", &by_size), of(&[("read_iops_sec", 300)]));
        let least = [("read_iops_sec_per_gb", "3"), ("read_iops_sec_per_gb_min", "100")];
        assert_eq!(limits("both", &least), of(&[("read_iops_sec", 100)]));
        assert_eq!(limits("both", &[("read_iops_sec_max", "9"), ("total_iops_sec", "many")]), of(&[]));
    }
}
