//! Images that stand for a server's volumes: no bytes of their own, and a property `block_device_mapping` that says
//! which snapshots the disks of a new server are made of. It is Nova's format, so its images and ours are alike.

use super::{DiskFrom, NewDisk};
use crate::ComputeError;
use crate::model::Disk;
use imagestore::Image;
use serde::{Deserialize, Serialize};

/// The property that holds the disks, as a JSON array.
pub(crate) const MAPPING: &str = "block_device_mapping";

/// One disk of the property.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Mapped {
    source_type: String,
    destination_type: String,
    snapshot_id: Option<String>,
    image_id: Option<String>,
    volume_id: Option<String>,
    volume_size: Option<i64>,
    volume_type: Option<String>,
    boot_index: Option<i64>,
    delete_on_termination: Option<bool>,
    device_name: Option<String>,
    device_type: Option<String>,
    disk_bus: Option<String>,
    tag: Option<String>,
    guest_format: Option<String>,
    no_device: Option<bool>,
}

/// The property's entry for a disk of which a snapshot was made.
pub(crate) fn entry(disk: &Disk, snapshot: &str) -> impl Serialize {
    Mapped {
        source_type: "snapshot".into(),
        destination_type: "volume".into(),
        snapshot_id: Some(snapshot.to_owned()),
        volume_size: Some(disk.size_gib),
        boot_index: disk.boot_index,
        delete_on_termination: Some(disk.delete_on_termination),
        device_name: Some(format!("/dev/{}", disk.device)),
        device_type: Some(disk.device_type.clone()),
        disk_bus: Some(disk.bus.clone()),
        tag: disk.tag.clone(),
        ..Mapped::default()
    }
}

/// The disks that an image asks for; none for an image that is a disk itself. What is wrong with them is a 400.
pub(crate) fn disks(image: &Image) -> Result<Vec<NewDisk>, ComputeError> {
    let Some(text) = image.properties.get(MAPPING) else { return Ok(Vec::new()) };
    let bad = |m: &str| ComputeError::invalid(format!("Block Device Mapping is Invalid: {m}"));
    let all: Vec<Mapped> =
        serde_json::from_str(text).map_err(|_| bad("the image's own mapping cannot be read."))?;
    all.into_iter().filter(|m| m.no_device != Some(true)).map(disk).collect()
}

fn disk(m: Mapped) -> Result<NewDisk, ComputeError> {
    let from = match (m.source_type.as_str(), m.snapshot_id, m.image_id, m.volume_id) {
        ("snapshot", Some(id), ..) => DiskFrom::Snapshot(id),
        ("image", _, Some(id), _) => DiskFrom::Image(id),
        ("volume", _, _, Some(id)) => DiskFrom::Volume(id),
        ("blank", ..) => DiskFrom::Blank,
        _ => {
            return Err(ComputeError::invalid(
                "Block Device Mapping is Invalid: the image's own mapping names no source.",
            ));
        }
    };
    Ok(NewDisk {
        from,
        on_volume: m.destination_type == "volume",
        boot_index: m.boot_index,
        size_gib: m.volume_size,
        delete_on_termination: m.delete_on_termination.unwrap_or(false),
        device_name: m.device_name,
        bus: m.disk_bus,
        device_type: m.device_type,
        tag: m.tag,
        volume_type: m.volume_type,
    })
}

/// Adds an image's disks to those of a request, which come first where both name a device.
pub(crate) fn merge(asked: &mut Vec<NewDisk>, of_image: Vec<NewDisk>) {
    let name = |d: &NewDisk| d.device_name.as_deref().map(|n| n.trim_start_matches("/dev/").to_owned());
    let taken: Vec<_> = asked.iter().filter_map(name).collect();
    asked.extend(of_image.into_iter().filter(|d| name(d).is_none_or(|n| !taken.contains(&n))));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<NewDisk>, ComputeError> {
        serde_json::from_str::<Vec<Mapped>>(text).unwrap().into_iter().map(disk).collect()
    }

    #[test]
    fn novas_own_mapping_is_understood() {
        let text = r#"[{"guest_format": null, "boot_index": 0, "no_device": null, "image_id": null, "volume_id": null,
            "disk_bus": "virtio", "volume_size": 1, "source_type": "snapshot", "tag": null, "device_type": "disk",
            "snapshot_id": "3c5d", "destination_type": "volume", "delete_on_termination": false, "volume_type": null,
            "device_name": "/dev/vda", "attachment_id": null, "encrypted": null}]"#;
        let disks = read(text).unwrap();
        assert_eq!(disks.len(), 1);
        assert_eq!(disks[0].from, DiskFrom::Snapshot("3c5d".into()));
        assert!(disks[0].on_volume && !disks[0].delete_on_termination);
        assert_eq!((disks[0].boot_index, disks[0].size_gib), (Some(0), Some(1)));
        assert!(read(r#"[{"source_type": "snapshot"}]"#).is_err());
    }

    #[test]
    fn a_request_comes_before_the_image() {
        let of = |device: &str, size| NewDisk {
            device_name: Some(device.into()),
            size_gib: Some(size),
            ..read(r#"[{"source_type": "blank", "destination_type": "volume"}]"#).unwrap().remove(0)
        };
        let mut asked = vec![of("vdb", 5)];
        merge(&mut asked, vec![of("/dev/vda", 1), of("/dev/vdb", 2)]);
        let seen: Vec<_> =
            asked.iter().map(|d| (d.device_name.clone().unwrap(), d.size_gib.unwrap())).collect();
        assert_eq!(seen, [("vdb".to_owned(), 5), ("/dev/vda".to_owned(), 1)]);
    }
}
