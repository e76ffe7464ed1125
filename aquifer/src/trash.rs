//! The sweep of RBD's trash. A removal goes through it, so a process that dies in the middle of one leaves something there
//! that nobody knows of; and parents whose clones are another service's go with the last of these.

use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Removes from the trash of all tiers what this cloud has made and nothing needs any more: at once, and again after every
/// `round`, until `stop`. Any number of processes may.
pub(crate) async fn sweep(tiers: pool::Tiers, round: Duration, stop: CancellationToken) {
    let sweeping = async {
        loop {
            for tier in tiers.iter() {
                match tier.pool.rbd().purge_trash_where(|e| is_ours(&e.name)).await {
                    Ok(gone) if gone.is_empty() => {}
                    Ok(gone) => tracing::info!(tier = tier.name, ?gone, "left in the trash, and removed"),
                    Err(e) => tracing::warn!(tier = tier.name, error = %e, "the trash cannot be swept"),
                }
            }
            tokio::time::sleep(round).await;
        }
    };
    stop.run_until_cancelled(sweeping).await;
}

/// Whether a name is one that this cloud makes up: `volume-<uuid>`, `<uuid>` of an image, `<uuid>_disk` of a server, and what
/// these crates put behind them. Others may use the trash of the same pools.
fn is_ours(name: &str) -> bool {
    let id = name.strip_prefix("volume-").unwrap_or(name);
    id.get(..36).is_some_and(|id| uuid::Uuid::try_parse(id).is_ok())
        && id[36..].chars().next().is_none_or(|c| matches!(c, '.' | '_'))
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn names() {
        let id = "28fcbd90-fdfd-4cfb-8098-4ad025d4fe04";
        for ours in ["volume-ID", "ID", "ID.orig", "ID_disk", "ID_disk.config", "volume-ID.recrypted"] {
            assert!(is_ours(&ours.replace("ID", id)), "{ours}");
        }
        for others in ["", "volume-", "vm-ID", "IDs", "ID-1", "28fcbd90", "volume-vm-100"] {
            assert!(!is_ours(&others.replace("ID", id)), "{others}");
        }
    }
}
