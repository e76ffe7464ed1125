//! Glance's tables as this cloud's images.

use super::dump::{Dump, Row, flag, text};
use super::{cinder::Found, time};
use imagestore::{Form, Image, Member, MemberStatus, SNAP, Status, Visibility};
use pool::Tiers;

pub(super) const TABLES: [&str; 5] =
    ["images", "image_properties", "image_tags", "image_members", "image_locations"];

/// Properties that are Glance's own notes of where it keeps what.
const NOTES: [&str; 6] = [
    "stores",
    "os_glance_importing_to_stores",
    "os_glance_failed_import",
    "os_glance_import_task",
    "locations",
    "direct_url",
];

/// The tiers that hold an image, from where Glance says it is.
async fn stores(id: &str, locations: &[&Row], tiers: &Tiers) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for row in locations {
        let url = text(row, "value").unwrap_or_default();
        let [fsid, pool, image, snap] =
            match url.strip_prefix("rbd://").map(|r| r.split('/').collect::<Vec<_>>()) {
                Some(parts) => <[&str; 4]>::try_from(parts)
                    .map_err(|_| format!("its location {url} names no snapshot"))?,
                None => return Err(format!("it is not in RBD but at {url}")),
            };
        if image != id || snap != SNAP {
            return Err(format!("its location is {url} and not {id}@{SNAP}"));
        }
        let mut here: Vec<_> = tiers.iter().filter(|t| t.pool.name() == pool).collect();
        // Glance knows no namespaces: where one pool is several tiers, the plain one is meant.
        here.sort_by_key(|t| !t.pool.namespace().is_empty());
        let tier = here.first().ok_or_else(|| format!("pool {pool} is no tier here"))?;
        let cluster = tier.cluster.fsid().await.map_err(|e| e.to_string())?;
        if cluster != fsid {
            return Err(format!("it is in cluster {fsid}, and tier {} in {cluster}", tier.name));
        }
        found.push(tier.name.clone());
    }
    if found.is_empty() { Err("it has no location".into()) } else { Ok(found) }
}

/// Images with their members.
pub(super) async fn images(dump: &Dump, tiers: &Tiers) -> Vec<Found<(Image, Vec<Member>)>> {
    let mut all = Vec::new();
    for row in dump.live("images") {
        let id = text(row, "id").unwrap_or_default();
        all.push((id.clone(), image(row, &id, dump, tiers).await));
    }
    all
}

async fn image(row: &Row, id: &str, dump: &Dump, tiers: &Tiers) -> Result<(Image, Vec<Member>), String> {
    let of = |table| dump.live(table).filter(move |r| text(r, "image_id").as_deref() == Some(id));
    let status = match text(row, "status").unwrap_or_default().as_str() {
        "active" => Status::Active,
        "deactivated" => Status::Deactivated,
        other => return Err(format!("it is {other}, and has no bytes to take over")),
    };
    let active = |r: &&Row| text(r, "status").is_none_or(|s| s == "active");
    let locations: Vec<&Row> = of("image_locations").filter(active).collect();
    let mut stores = stores(id, &locations, tiers).await?;
    let visibility =
        text(row, "visibility").and_then(|v| Visibility::parse(&v)).ok_or("its visibility is unknown")?;
    let number = |column| text(row, column).and_then(|v| v.parse::<u64>().ok());
    let small = |column| number(column).and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
    let pair = |r: &Row| Some((text(r, "name")?, text(r, "value").unwrap_or_default()));
    let image = Image {
        id: id.to_owned(),
        name: text(row, "name"),
        status,
        visibility,
        owner: text(row, "owner"),
        size: number("size"),
        virtual_size: number("virtual_size").filter(|n| *n > 0),
        disk_format: text(row, "disk_format"),
        container_format: text(row, "container_format"),
        checksum: text(row, "checksum"),
        os_hash_algo: text(row, "os_hash_algo"),
        os_hash_value: text(row, "os_hash_value"),
        min_disk: small("min_disk"),
        min_ram: small("min_ram"),
        protected: flag(row, "protected"),
        os_hidden: flag(row, "os_hidden"),
        properties: of("image_properties")
            .filter_map(pair)
            .filter(|(k, _)| !NOTES.contains(&k.as_str()))
            .collect(),
        tags: of("image_tags").filter_map(|r| text(r, "value")).collect(),
        store: stores.remove(0),
        copies: stores,
        form: Form::Empty,
        created_at: time(row, "created_at"),
        updated_at: time(row, "updated_at"),
    };
    let member = |r: &Row| {
        let status = text(r, "status").and_then(|s| MemberStatus::parse(&s)).unwrap_or(MemberStatus::Pending);
        Some(Member {
            image_id: id.to_owned(),
            member_id: text(r, "member")?,
            status,
            created_at: time(r, "created_at"),
            updated_at: time(r, "updated_at"),
        })
    };
    Ok((image, of("image_members").filter_map(member).collect()))
}
