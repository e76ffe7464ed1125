//! Hypervisors and their agents: who may speak for a host, whether it is up, what it has.

use crate::model::Host;
use crate::store::{hosts as store, servers};
use crate::wire::{ConsoleReply, HostFacts};
use crate::{Compute, ComputeError, placement};
use api::Secret;
use rand::Rng;
use sha2::{Digest, Sha256};
use state::{Timestamp, Tx};
use subtle::ConstantTimeEq;

/// The time a host was last heard is written at most this often.
const TOUCH: i64 = 3_000_000;

pub(crate) async fn register(compute: &Compute, name: &str) -> Result<Secret, ComputeError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > 255 || !name.chars().all(legal) {
        return Err(ComputeError::invalid(format!("{name:?} cannot be a host's name")));
    }
    let mut bytes = [0u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    let secret = Secret(hex::encode(bytes));
    let now = Timestamp::now();
    let host = Host {
        id: state::new_id(),
        service_id: state::new_id(),
        name: name.to_owned(),
        zone: compute.config.availability_zone.clone(),
        disabled: false,
        disabled_reason: None,
        forced_down: false,
        facts: None,
        created_at: now,
        updated_at: now,
        seen_at: Timestamp(0),
    };
    let mut tx = compute.db.begin().await?;
    store::register(&mut tx, &host, &hashed(&secret.0)).await?;
    tx.commit().await?;
    Ok(secret)
}

/// The topic that is woken when a host says what it has.
const TOPIC: &str = "hosts";

pub(crate) async fn await_up(compute: &Compute, name: &str) -> Result<(), ComputeError> {
    let mut signal = compute.db.signal(TOPIC);
    let began = Timestamp::now();
    loop {
        let host = compute.host(name).await?;
        // An earlier life's word does not count: the agent must have been heard in this one.
        if host.facts.is_some() && host.seen_at >= began && compute.is_up(&host) {
            return Ok(());
        }
        signal.wait(std::time::Duration::from_secs(1)).await;
    }
}

fn hashed(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

impl Compute {
    /// Whether `secret` is the host's own.
    pub(crate) async fn is_agent(&self, host: &str, secret: &str) -> Result<bool, ComputeError> {
        let kept = store::secret_hash(&self.db, host).await?.unwrap_or_default();
        let given = hashed(secret);
        Ok(kept.len() == given.len() && bool::from(kept.as_bytes().ct_eq(given.as_bytes())))
    }

    /// Whether the host's agent is heard.
    pub(crate) fn is_up(&self, host: &Host) -> bool {
        let patience = i64::try_from(self.config.host_down_secs).unwrap_or(60).saturating_mul(1_000_000);
        !host.forced_down && Timestamp::now().0.saturating_sub(host.seen_at.0) < patience
    }

    pub(crate) async fn hosts(&self) -> Result<Vec<Host>, ComputeError> {
        store::list(&self.db).await
    }

    /// Notes that the agent was heard, and keeps the host's inventory what the host says it has.
    pub(crate) async fn heard(&self, name: &str, facts: Option<&HostFacts>) -> Result<(), ComputeError> {
        let Some(host) = store::get(&self.db, name).await? else { return Ok(()) };
        let now = Timestamp::now();
        let new_facts = facts.filter(|f| host.facts.as_ref() != Some(*f));
        if new_facts.is_none() && now.0 - host.seen_at.0 < TOUCH {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        if let Some(facts) = new_facts
            && let Some(mut host) = store::lock(&mut tx, name).await?
        {
            self.learn(&mut tx, &mut host, facts).await?;
        }
        store::touch(&mut tx, name, now).await?;
        tx.wake(TOPIC);
        Ok(tx.commit().await?)
    }

    async fn learn(&self, tx: &mut Tx, host: &mut Host, facts: &HostFacts) -> Result<(), ComputeError> {
        let old = host.facts.replace(facts.clone());
        store::save(tx, host).await?;
        let size = |f: &HostFacts| (f.vcpus, f.memory_mib, f.reserved_memory_mib, f.disk_gib);
        if old.as_ref().map(size) == Some(size(facts)) {
            return Ok(());
        }
        placement::set_host(tx, host, facts, &self.config).await
    }

    /// A host by name, for the operator.
    pub(crate) async fn host(&self, name: &str) -> Result<Host, ComputeError> {
        let absent = || ComputeError::NotFound(format!("Host '{name}' could not be found."));
        store::get(&self.db, name).await?.ok_or_else(absent)
    }

    /// Changes a host under its lock.
    pub(crate) async fn change_host(
        &self,
        name: &str,
        change: impl FnOnce(&mut Host) + Send,
    ) -> Result<Host, ComputeError> {
        let mut tx = self.db.begin().await?;
        let absent = || ComputeError::NotFound(format!("Host '{name}' could not be found."));
        let mut host = store::lock(&mut tx, name).await?.ok_or_else(absent)?;
        change(&mut host);
        host.updated_at = Timestamp::now();
        store::save(&mut tx, &host).await?;
        tx.commit().await?;
        Ok(host)
    }

    /// Forgets a host that has no servers any more.
    pub(crate) async fn remove_host(&self, host: &Host) -> Result<(), ComputeError> {
        let mut tx = self.db.begin().await?;
        tx.lock(placement::LOCK).await?;
        if !servers::ids_of_host(&mut tx, &host.name).await?.is_empty() {
            return Err(ComputeError::Conflict(
                "Unable to delete compute service that is hosting instances. Migrate or delete the instances first."
                    .into(),
            ));
        }
        store::delete(&mut tx, &host.name).await?;
        if placement::store::allocations_on(&mut tx, &host.id).await?.is_empty() {
            placement::store::delete_provider(&mut tx, &host.id).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Takes in a console's text from the host that was asked for it.
    pub(crate) async fn console_reply(&self, host: &str, reply: &ConsoleReply) -> Result<(), ComputeError> {
        let mut tx = self.db.begin().await?;
        store::answer_console(&mut tx, host, reply).await?;
        Ok(tx.commit().await?)
    }
}
