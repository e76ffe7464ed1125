//! Services, hosts, pools and capabilities: this cloud in the words of an API that thinks in daemons.
//!
//! There is one scheduler and one volume service a tier, all in this program: `<host>@<tier>#<tier>` is where a
//! volume of the tier says it is.

use crate::model::Volume;
use crate::replication::Backend;
use crate::{VolumeError, Volumes, store};
use api::Context;
use pool::Tier;
use state::Timestamp;

pub(crate) const DRIVER_VERSION: &str = "1.3.0";
pub(crate) const VENDOR: &str = "Open Source";
pub(crate) const PROTOCOL: &str = "ceph";

/// What every tier offers, by the names that types' extra specs ask for; `None` is a capability that no tier has.
pub(crate) fn capability(key: &str) -> Option<&'static str> {
    Some(match key {
        "vendor_name" => VENDOR,
        "storage_protocol" => PROTOCOL,
        "driver_version" => DRIVER_VERSION,
        "thin_provisioning_support" | "multiattach" | "QoS_support" => "True",
        "thick_provisioning_support" => "False",
        _ => return None,
    })
}

/// Whether a capability is what an extra spec asks for: plain, or with one of upstream's operators.
pub(crate) fn meets(has: &str, wanted: &str) -> bool {
    let wanted = wanted.trim();
    if let Some(any) = wanted.strip_prefix("<or>") {
        return any.split("<or>").any(|a| a.trim() == has);
    }
    let (operator, rest) = match wanted.split_once(char::is_whitespace) {
        Some((first, rest)) if OPERATORS.contains(&first) => (first, rest.trim()),
        // Several protocols' names are one: upstream treats rbd's two names alike.
        _ => {
            return wanted.eq_ignore_ascii_case(has)
                || (has == PROTOCOL && wanted.eq_ignore_ascii_case("rbd"));
        }
    };
    let numbers = has.parse::<f64>().ok().zip(rest.parse::<f64>().ok());
    let number = |holds: fn(f64, f64) -> bool| numbers.is_some_and(|(a, b)| holds(a, b));
    match operator {
        "<is>" => truth(has) == truth(rest),
        "<in>" => has.contains(rest),
        "=" | ">=" => number(|a, b| a >= b),
        "==" => number(|a, b| a == b),
        "!=" => number(|a, b| a != b),
        "<=" => number(|a, b| a <= b),
        "s==" => has == rest,
        "s!=" => has != rest,
        "s<" => has < rest,
        "s<=" => has <= rest,
        "s>" => has > rest,
        _ => has >= rest,
    }
}

const OPERATORS: [&str; 13] =
    ["<is>", "<in>", "=", ">=", "==", "!=", "<=", "s==", "s!=", "s<", "s<=", "s>", "s>="];

/// A word as a boolean; what is none is false.
fn truth(word: &str) -> bool {
    matches!(word.trim().to_ascii_lowercase().as_str(), "1" | "t" | "true" | "on" | "y" | "yes")
}

/// A service of this cloud.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) binary: &'static str,
    pub(crate) host: String,
    pub(crate) zone: String,
    pub(crate) disabled: bool,
    pub(crate) disabled_reason: Option<String>,
    pub(crate) updated_at: Timestamp,
    /// Of a volume service.
    pub(crate) replication: Backend,
}

/// A tier with its room, in GiB.
pub(crate) struct PoolStats {
    pub(crate) name: String,
    pub(crate) backend: String,
    pub(crate) total_gib: f64,
    pub(crate) free_gib: f64,
    pub(crate) provisioned_gib: i64,
    pub(crate) volumes: i64,
    /// How many times its size may be promised.
    pub(crate) ratio: f64,
    /// Whether its cluster answers.
    pub(crate) up: bool,
    /// The tiers that it can fail over to.
    pub(crate) replicas: Vec<String>,
}

impl Volumes {
    pub(crate) fn backend(&self, tier: &str) -> String {
        format!("{}@{tier}", self.config.host)
    }

    /// `<host>@<tier>#<tier>`; nothing for a volume that found no tier.
    pub(crate) fn host_of(&self, volume: &Volume) -> Option<String> {
        let tier = volume.home();
        (!tier.is_empty()).then(|| format!("{}#{tier}", self.backend(tier)))
    }

    /// The tier that a host's name means.
    pub(crate) fn tier_of_host(&self, host: &str) -> Option<String> {
        let rest = host.strip_prefix(&self.config.host)?.strip_prefix('@')?;
        let name = rest.split('#').next().unwrap_or(rest);
        self.tiers.get(name).ok().map(|t| t.name)
    }

    /// The tiers whose volume services are off: an operator has said so, or they are frozen or failed over. Nothing new
    /// goes there.
    pub(crate) async fn tiers_off(&self) -> Result<Vec<String>, VolumeError> {
        let off = store::services::disabled(self.db.read()).await?;
        let hosts = off.iter().filter(|(binary, ..)| binary == "cinder-volume");
        Ok(hosts.filter_map(|(_, host, ..)| self.tier_of_host(host)).collect())
    }

    async fn all_services(&self) -> Result<Vec<Service>, VolumeError> {
        let off = store::services::disabled(self.db.read()).await?;
        let backends = self.backends().await?;
        let tiers = self.tiers.iter().map(|t| ("cinder-volume", self.backend(&t.name)));
        let names = ["cinder-scheduler", "cinder-backup"]
            .map(|b| (b, self.config.host.clone()))
            .into_iter()
            .chain(tiers);
        Ok(names
            .map(|(binary, host)| {
                let row = off.iter().find(|(b, h, ..)| b == binary && *h == host);
                let known = backends.iter().find(|b| self.backend(&b.tier) == host).cloned();
                let tier = self.tier_of_host(&host).unwrap_or_default();
                Service {
                    replication: known
                        .unwrap_or_else(|| Backend::untouched(&tier, self.replicas.of(&tier).is_some())),
                    binary,
                    zone: self.config.zone.clone(),
                    disabled: row.is_some(),
                    disabled_reason: row.and_then(|r| r.2.clone()),
                    updated_at: row.map_or_else(Timestamp::now, |r| r.3),
                    host,
                }
            })
            .collect())
    }

    pub(crate) async fn list_services(
        &self,
        ctx: &Context,
        host: Option<&str>,
        binary: Option<&str>,
    ) -> Result<Vec<Service>, VolumeError> {
        self.may(ctx, "volume_extension:services:index", "")?;
        let mut all = self.all_services().await?;
        all.retain(|s| {
            binary.is_none_or(|b| b == s.binary)
                && host.is_none_or(|h| h == s.host || s.host.split('@').next() == Some(h))
        });
        Ok(all)
    }

    /// Switches a service on or off. One that is not there is 404.
    pub(crate) async fn set_service(
        &self,
        ctx: &Context,
        binary: &str,
        host: &str,
        disable: Option<Option<&str>>,
    ) -> Result<Service, VolumeError> {
        self.may(ctx, "volume_extension:services:update", "")?;
        let absent = || VolumeError::NotFound(format!("Service {binary} could not be found on host {host}."));
        let known = self.all_services().await?;
        known.iter().find(|s| s.binary == binary && s.host == host).ok_or_else(absent)?;
        let mut tx = self.db.begin().await?;
        match disable {
            Some(reason) => store::services::disable(&mut tx, binary, host, reason).await?,
            None => store::services::enable(&mut tx, binary, host).await?,
        }
        tx.commit().await?;
        let now = self.all_services().await?;
        now.into_iter().find(|s| s.binary == binary && s.host == host).ok_or_else(absent)
    }

    pub(crate) async fn list_hosts(&self, ctx: &Context) -> Result<Vec<Service>, VolumeError> {
        self.may(ctx, "volume_extension:hosts", "")?;
        self.all_services().await
    }

    /// `(volumes, their GiB, snapshots, their GiB)` on a volume service's host.
    pub(crate) async fn host_usage(
        &self,
        ctx: &Context,
        host: &str,
    ) -> Result<(i64, i64, i64, i64), VolumeError> {
        self.may(ctx, "volume_extension:hosts", "")?;
        let tier = self
            .tier_of_host(host)
            .ok_or_else(|| VolumeError::NotFound(format!("Host {host} could not be found.")))?;
        let filter = store::volumes::Filter { tier: Some(tier.clone()), ..Default::default() };
        let (volumes, gib) = store::volumes::total(self.db.read(), &filter).await?;
        let (snapshots, snapshot_gib) = store::snapshots::total_of_tier(self.db.read(), &tier).await?;
        Ok((volumes, gib, snapshots, snapshot_gib))
    }

    /// Every tier; with its room where `detail` is asked for. A tier whose cluster does not answer has none.
    pub(crate) async fn pool_stats(
        &self,
        ctx: &Context,
        detail: bool,
    ) -> Result<Vec<PoolStats>, VolumeError> {
        self.may(ctx, "scheduler_extension:scheduler_stats:get_pools", "")?;
        let mut all = Vec::new();
        for tier in self.tiers.iter() {
            all.push(self.stats_of(tier, detail).await?);
        }
        Ok(all)
    }

    async fn stats_of(&self, tier: &Tier, detail: bool) -> Result<PoolStats, VolumeError> {
        let name = format!("{}#{}", self.backend(&tier.name), tier.name);
        let mut stats = PoolStats {
            name,
            backend: tier.name.clone(),
            total_gib: 0.0,
            free_gib: 0.0,
            provisioned_gib: 0,
            volumes: 0,
            ratio: self.config.max_over_subscription_ratio,
            up: true,
            replicas: self.replication_targets(&tier.name),
        };
        if detail {
            let rounded = |gib: f64| (gib * 100.0).round() / 100.0;
            match self.room(tier).await {
                Some(room) => (stats.free_gib, stats.total_gib) = (rounded(room.free), rounded(room.total)),
                None => stats.up = false,
            }
            let filter = store::volumes::Filter { tier: Some(tier.name.clone()), ..Default::default() };
            (stats.volumes, stats.provisioned_gib) = store::volumes::total(self.db.read(), &filter).await?;
        }
        Ok(stats)
    }

    /// Whether the caller may see a backend's capabilities, and whether there is such a backend.
    pub(crate) fn capabilities(&self, ctx: &Context, host: &str) -> Result<String, VolumeError> {
        self.may(ctx, "volume_extension:capabilities", "")?;
        self.tier_of_host(host)
            .ok_or_else(|| VolumeError::NotFound(format!("Service {host} could not be found.")))
    }

    pub(crate) fn zone_name(&self) -> &str {
        &self.config.zone
    }
}

#[cfg(test)]
mod tests {
    use super::meets;

    #[test]
    fn operators_of_extra_specs() {
        for yes in [
            "True",
            "<is> True",
            "<is> yes",
            "<or> no <or> True",
            "s== True",
            "<in> Tru",
            "s!= False",
            "s> A",
        ] {
            assert!(meets("True", yes), "{yes}");
        }
        for no in ["False", "<is> False", "<or> a <or> b", "s== x", "<in> x", "= 1", "s< A"] {
            assert!(!meets("True", no), "{no}");
        }
        for (has, wanted, yes) in
            [("2", "= 1", true), ("2", ">= 3", false), ("2", "== 2.0", true), ("2", "<= 1", false)]
        {
            assert_eq!(meets(has, wanted), yes, "{has} {wanted}");
        }
        assert!(meets(super::PROTOCOL, "rbd"));
    }
}
