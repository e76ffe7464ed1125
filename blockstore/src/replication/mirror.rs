//! What is done to images that are mirrored. Everything here can be done twice.

use crate::disk::with;
use pool::{Error, MirrorBy, MirrorMode, MirrorState, OptionalExt, Tier, features};

/// The key of an image's metadata that says which failover demoted it last.
const MARK: &str = "aquifer.turned_by";
/// Two that say who has last asked whether a copy follows ([`is_live`]).
pub(super) const LEVEL: &str = "aquifer.level_for";
pub(super) const WHOLE: &str = "aquifer.whole_for";
/// One that is set and taken away again, to see whether the image can be written to.
const SERVES: &str = "aquifer.serves";

/// What becomes of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// There is none.
    Absent,
    /// It is not whole yet, or follows nobody at the moment.
    Coming,
    /// It has everything but the last moments, and gets these.
    Follows,
    /// It is what is written to.
    Primary,
    /// It has gone its own way, and cannot follow any more.
    Astray,
}

/// Makes two pools mirror what is enabled one by one to each other. What an operator has set up stays.
pub(super) async fn ensure_peers(a: &Tier, b: &Tier) -> Result<(), Error> {
    let namespace = a.pool.namespace();
    let roots = [a, b].map(|t| t.pool.with_namespace("").rbd());
    for root in &roots {
        if root.mirror_mode().await? == MirrorMode::Disabled {
            root.set_mirror_mode(MirrorMode::Image).await?;
        }
    }
    for tier in [a, b].into_iter().filter(|_| !namespace.is_empty()) {
        if tier.pool.rbd().mirror_mode().await? == MirrorMode::Disabled {
            tier.pool.rbd().set_mirror_mode(MirrorMode::Image).await?;
        }
    }
    let [here, there] = &roots;
    if here.mirror_peers().await?.is_empty() || there.mirror_peers().await?.is_empty() {
        match there.import_mirror_token(&here.mirror_token().await?).await {
            // Another process was quicker.
            Err(Error::Exists { .. }) | Ok(()) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Mirrors an image: it stands alone, has a journal, and is enabled. Whether it was not before.
pub(super) async fn on(tier: &Tier, name: &str) -> Result<bool, Error> {
    let image = tier.pool.rbd().open(name).await?;
    with(image, |image| async move {
        if image.mirror_info().await?.enabled {
            return Ok(false);
        }
        // The parent would have to be mirrored too, and could not go before its clones.
        if image.parent().await?.is_some() {
            image.flatten(Box::new(|_, _| {})).await?;
        }
        let has = image.info().await?.features;
        for bit in [features::EXCLUSIVE_LOCK, features::JOURNALING] {
            if has & bit == 0 {
                image.update_features(bit, true).await?;
            }
        }
        image.mirror_enable(MirrorBy::Journal).await?;
        Ok(true)
    })
    .await
}

/// Mirrors an image no longer; it is as others are, without a journal. One that is not there is no error.
pub(super) async fn off(tier: &Tier, name: &str) -> Result<(), Error> {
    let Some(image) = tier.pool.rbd().open(name).await.optional()? else { return Ok(()) };
    with(image, |image| async move {
        let info = image.mirror_info().await?;
        if info.enabled {
            image.mirror_disable(!info.primary).await?;
        }
        if image.info().await?.features & features::JOURNALING != 0 {
            image.update_features(features::JOURNALING, false).await?;
        }
        Ok(())
    })
    .await
}

/// What this cluster's copy of an image is doing.
pub(super) async fn copy(tier: &Tier, name: &str) -> Result<Doing, Error> {
    let Some(image) = tier.pool.rbd().open_read_only(name).await.optional()? else {
        return Ok(Doing::Absent);
    };
    with(image, |image| async move {
        let info = image.mirror_info().await?;
        if !info.enabled {
            return Ok(Doing::Coming);
        }
        if info.primary {
            return Ok(Doing::Primary);
        }
        let all = image.mirror_status().await.optional()?.unwrap_or_default();
        // What the rbd-mirror of the image's own cluster says.
        Ok(match all.into_iter().find(|s| s.mirror_uuid.is_empty()) {
            Some(s) if s.description.contains("split-brain") => Doing::Astray,
            Some(s) if s.up && s.state == MirrorState::Replaying => Doing::Follows,
            _ => Doing::Coming,
        })
    })
    .await
}

/// Whether the image is what is written to; false also where there is none.
pub(super) async fn is_primary(tier: &Tier, name: &str) -> Result<bool, Error> {
    Ok(copy(tier, name).await? == Doing::Primary)
}

/// Whether an image is the copy of the one of that name in another cluster, as it is mirrored now.
pub(super) async fn is_copy(tier: &Tier, of: &Tier, name: &str) -> Result<bool, Error> {
    let here = mirrored_as(tier, name).await?;
    Ok(here.is_some() && here == mirrored_as(of, name).await?)
}

/// What both clusters know an image by that is mirrored.
async fn mirrored_as(tier: &Tier, name: &str) -> Result<Option<String>, Error> {
    let Some(image) = tier.pool.rbd().open_read_only(name).await.optional()? else { return Ok(None) };
    with(image, |image| async move {
        let info = image.mirror_info().await?;
        Ok(info.enabled.then_some(info.global_id))
    })
    .await
}

/// Has a copy thrown away, and the primary's brought anew. Nothing happens where there is none.
pub(super) async fn anew(tier: &Tier, name: &str) -> Result<(), Error> {
    let Some(image) = tier.pool.rbd().open(name).await.optional()? else { return Ok(()) };
    with(image, |image| async move {
        let info = image.mirror_info().await?;
        if info.primary {
            image.mirror_demote().await?;
        }
        if info.enabled { image.mirror_resync().await } else { Ok(()) }
    })
    .await
}

/// Whether what is written to the primary now comes over to its copy; false at first, to be asked again. `key` and `word`
/// are the asker's own. (rbd-mirror says what a copy does twice a minute. A word may have come with a first copy of all;
/// the next one can only be replayed.)
pub(super) async fn is_live(
    from: &Tier,
    to: &Tier,
    name: &str,
    key: &'static str,
    word: &str,
) -> Result<bool, Error> {
    let (first, second) = (format!("{word} 1"), format!("{word} 2"));
    let heard = metadata(to, name, key).await?;
    if heard.as_ref() == Some(&second) {
        return Ok(true);
    }
    let next = if heard.as_ref() == Some(&first) { second } else { first };
    if metadata(from, name, key).await?.as_ref() != Some(&next) {
        let image = from.pool.rbd().open(name).await?;
        with(image, |image| async move {
            image.metadata_set(key, &next).await?;
            // Its journal closes with it: nothing is to be on its way there then.
            image.flush().await
        })
        .await?;
    }
    Ok(false)
}

async fn metadata(tier: &Tier, name: &str, key: &'static str) -> Result<Option<String>, Error> {
    let Some(image) = tier.pool.rbd().open_read_only(name).await.optional()? else { return Ok(None) };
    with(image, |image| async move { image.metadata_get(key).await.optional() }).await
}

/// Nobody writes to the image any more; what was written comes over. The mark that its copy has once it has everything: a
/// journal is replayed in order, so that `mark`, written last, says so. (A promotion alone does not: a copy that still
/// looks back on an earlier demotion may be promoted.) Where it was demoted before, that demotion's mark.
pub(super) async fn demote(tier: &Tier, name: &str, mark: &str) -> Result<Option<String>, Error> {
    let image = tier.pool.rbd().open(name).await?;
    with(image, |image| async move {
        if image.mirror_info().await?.primary {
            image.metadata_set(MARK, mark).await?;
            image.mirror_demote().await?;
        }
        image.metadata_get(MARK).await.optional()
    })
    .await
}

/// Whether a copy has come to this mark, or has been promoted since.
pub(super) async fn has_come(tier: &Tier, name: &str, mark: &str) -> Result<bool, Error> {
    Ok(metadata(tier, name, MARK).await?.as_deref() == Some(mark) || is_primary(tier, name).await?)
}

/// The image is what is written to from now on; false where that is not possible yet: it is primary elsewhere, or its
/// primary's demotion has not come over. `force`: also then.
pub(super) async fn promote(tier: &Tier, name: &str, force: bool) -> Result<bool, Error> {
    let image = tier.pool.rbd().open(name).await?;
    let done = with(image, |image| async move {
        if image.mirror_info().await?.primary {
            return Ok(true);
        }
        match image.mirror_promote(force).await {
            Ok(()) => Ok(true),
            Err(Error::Busy { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    })
    .await?;
    Ok(done && serves(tier, name).await?)
}

/// Whether a client that opens the image now may write to it. (rbd-mirror may be letting go of it still.)
async fn serves(tier: &Tier, name: &str) -> Result<bool, Error> {
    let image = tier.pool.rbd().open(name).await?;
    with(image, |image| async move {
        match image.metadata_set(SERVES, "1").await {
            Ok(()) => image.metadata_remove(SERVES).await.map(|()| true),
            Err(Error::Busy { .. } | Error::ReadOnly { .. } | Error::Permission { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    })
    .await
}
