//! `aquifer adopt`: takes over what an OpenStack keeps in Ceph, in place. Its images, volumes and snapshots stay where
//! they are, under their names and ids; only rows are made here. Without `--apply` it says what it would do.
//!
//! It may be run again: what is this cloud's already is left alone, and what could not be taken over is tried again.

mod cinder;
mod dump;
mod glance;
#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::error::AquiferError;
use crate::terminal::{say, table};
use api::Links;
use blockstore::{Adoption, Volumes};
use dump::{Dump, Row, text};
use imagestore::Images;
use state::{Db, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The controllers' configuration file: its tiers name the pools of that OpenStack.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A dump of Cinder's database (mysqldump, or pg_dump in its plain format), made while Cinder is stopped.
    #[arg(long, value_name = "FILE", required_unless_present = "glance")]
    cinder: Option<PathBuf>,
    /// A dump of Glance's database.
    #[arg(long, value_name = "FILE")]
    glance: Option<PathBuf>,
    /// The tier of a Cinder backend, by its name (`volume_backend_name`, what stands behind `#` in a volume's host);
    /// repeat for more. A backend that is called as a tier is that tier.
    #[arg(long, value_name = "BACKEND=TIER", value_parser = pair)]
    backend: Vec<(String, String)>,
    /// Do it. Without this nothing is changed.
    #[arg(long)]
    apply: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (backend, tier) = text.split_once('=').ok_or("BACKEND=TIER is expected")?;
    Ok((backend.to_owned(), tier.to_owned()))
}

/// Which tier a backend of Cinder's is.
pub(super) struct Backends {
    given: HashMap<String, String>,
    tiers: Vec<String>,
}

impl Backends {
    fn by_name(&self, name: &str) -> Option<String> {
        let own = || self.tiers.iter().find(|t| *t == name).cloned();
        self.given.get(name).cloned().or_else(own)
    }

    /// `host@backend#pool`: the pool is the backend's name in all drivers that have one pool.
    fn by_host(&self, host: &str) -> Option<String> {
        let (place, pool) = host.split_once('#').unwrap_or((host, ""));
        let backend = place.split_once('@').map_or("", |(_, b)| b);
        self.by_name(pool).or_else(|| self.by_name(backend))
    }
}

/// A time of a row; what has none has been there always.
fn time(row: &Row, column: &str) -> Timestamp {
    text(row, column).and_then(|t| Timestamp::parse(&t)).unwrap_or(Timestamp(0))
}

/// What has become of everything.
#[derive(Default)]
pub(crate) struct Tally {
    /// New, there, conflicts; by kind.
    counts: BTreeMap<&'static str, [usize; 3]>,
    pub(crate) conflicts: Vec<(&'static str, String, String)>,
}

impl Tally {
    fn add(&mut self, kind: &'static str, id: &str, what: &Adoption) {
        let counts = self.counts.entry(kind).or_default();
        match what {
            Adoption::New => counts[0] += 1,
            Adoption::There => counts[1] += 1,
            Adoption::Conflict(why) => {
                counts[2] += 1;
                self.conflicts.push((kind, id.to_owned(), why.clone()));
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn of(&self, kind: &str) -> [usize; 3] {
        self.counts.get(kind).copied().unwrap_or_default()
    }
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, AquiferError> {
    let config = Config::read(&args.config)?;
    let db = Db::open(&config.database).await?;
    for set in [&state::tasks::MIGRATIONS, &imagestore::MIGRATIONS, &blockstore::MIGRATIONS] {
        db.migrate(set).await?;
    }
    let clusters = pool::Clusters::connect(&config.clusters).await?;
    let tiers = pool::Tiers::new(&clusters, &config.tiers)?;
    let links = Links::new(&config.listen.base_url());
    let images = Images::new(db.clone(), tiers.clone(), config.image.clone(), links.clone())
        .map_err(AquiferError::service("images"))?;
    let volumes = Volumes::new(db, tiers.clone(), images.clone(), config.volume.clone(), links)
        .await
        .map_err(AquiferError::service("volumes"))?;
    let mut tally = Tally::default();
    if let Some(file) = &args.glance {
        let dump = Dump::read(file, &glance::TABLES)?;
        adopt_images(&dump, &tiers, &images, args.apply, &mut tally).await?;
    }
    if let Some(file) = &args.cinder {
        let dump = Dump::read(file, &cinder::TABLES)?;
        let names = tiers.iter().map(|t| t.name.clone()).collect();
        let backends = Backends { given: args.backend.iter().cloned().collect(), tiers: names };
        adopt_volumes(&dump, &backends, &volumes, args.apply, &mut tally).await?;
    }
    tell(&tally, args.apply);
    Ok(if tally.conflicts.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn tell(tally: &Tally, applied: bool) {
    let verb = if applied { "taken over" } else { "to take over" };
    let mut rows = vec![["", verb, "here already", "conflicts"].map(str::to_owned).to_vec()];
    for (kind, counts) in &tally.counts {
        let cells = counts.iter().map(usize::to_string);
        rows.push(std::iter::once((*kind).to_owned()).chain(cells).collect());
    }
    table(&rows);
    for (kind, id, why) in &tally.conflicts {
        say(&format!("{kind} {id}: {why}"));
    }
    if !applied {
        say("Nothing was changed. With --apply it is done.");
    }
}

async fn adopt_images(
    dump: &Dump,
    tiers: &pool::Tiers,
    images: &Images,
    apply: bool,
    tally: &mut Tally,
) -> Result<(), AquiferError> {
    for (id, found) in glance::images(dump, tiers).await {
        let done = match found {
            Ok((image, members)) => {
                images.adopt(image, &members, apply).await.map_err(AquiferError::service("images"))?
            }
            Err(why) => Adoption::Conflict(why),
        };
        tally.add("image", &id, &done);
    }
    Ok(())
}

async fn adopt_volumes(
    dump: &Dump,
    backends: &Backends,
    volumes: &Volumes,
    apply: bool,
    tally: &mut Tally,
) -> Result<(), AquiferError> {
    let failed = AquiferError::service::<blockstore::VolumeError>;
    let mut types = HashMap::new();
    for (kind, projects) in cinder::types(dump, backends) {
        let (done, id) = volumes.adopt_type(&kind, &projects, apply).await.map_err(failed("volumes"))?;
        tally.add("volume type", &kind.id, &done);
        if !matches!(done, Adoption::Conflict(_)) {
            types.insert(kind.id, (id, kind.name));
        }
    }
    let mut taken = HashMap::new();
    for (id, found) in cinder::volumes(dump, backends, &types) {
        let done = match found {
            Ok(volume) => {
                let done = volumes.adopt_volume(&volume, apply).await.map_err(failed("volumes"))?;
                if !matches!(done, Adoption::Conflict(_)) {
                    taken.insert(id.clone(), (volume.tier, volume.type_id));
                }
                done
            }
            Err(why) => Adoption::Conflict(why),
        };
        tally.add("volume", &id, &done);
    }
    for (id, found) in cinder::snapshots(dump, &taken) {
        let done = match found {
            Ok((snapshot, tier)) => {
                volumes.adopt_snapshot(&snapshot, &tier, apply).await.map_err(failed("volumes"))?
            }
            Err(why) => Adoption::Conflict(why),
        };
        tally.add("snapshot", &id, &done);
    }
    for (id, why) in cinder::backups(dump) {
        tally.add("backup", &id, &Adoption::Conflict(why));
    }
    Ok(())
}
