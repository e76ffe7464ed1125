use super::*;

const IMAGE: &str = "70a599e0-31e7-49b7-b260-868f441e862b";
const LATEST: Microversion = Microversion(2, 96);

fn body(more: Value) -> Value {
    let mut server = json!({"name": "s", "imageRef": IMAGE, "flavorRef": "42", "networks": "auto"});
    for (k, v) in more.as_object().into_iter().flatten() {
        server[k] = v.clone();
    }
    json!({"server": server})
}

fn fails(more: Value) -> String {
    let e = read(&body(more.clone()), LATEST).err().unwrap_or_else(|| panic!("accepted: {more}"));
    assert_eq!(e.status(), 400, "{more}");
    e.message().to_owned()
}

#[test]
fn a_plain_request() {
    let asked = read(&body(json!({})), LATEST).unwrap();
    assert_eq!(asked.new.networks, NetworkRequest::Auto);
    assert_eq!((asked.new.min_count, asked.new.max_count), (1, 1));
    assert_eq!(asked.security_groups, ["default"]);
    assert!(asked.new.disks.is_empty());
}

#[test]
fn what_upstreams_schema_refuses() {
    for bad in [
        json!({"name": ""}),
        json!({"name": "   "}),
        json!({"name": "x".repeat(256)}),
        json!({"name": 1}),
        json!({"imageRef": "no-uuid"}),
        json!({"networks": "some"}),
        json!({"networks": [{"uuid": "x"}]}),
        json!({"networks": [{}]}),
        json!({"networks": [{"uuid": IMAGE, "fixed_ip": "999.1.1.1"}]}),
        json!({"min_count": 0}),
        json!({"min_count": 3, "max_count": 2}),
        json!({"max_count": -1}),
        json!({"metadata": {"k": 1}}),
        json!({"metadata": {"": "v"}}),
        json!({"metadata": {"k": "v".repeat(256)}}),
        json!({"accessIPv4": "::1"}),
        json!({"unknown": true}),
        json!({"tags": ["a,b"]}),
        json!({"block_device_mapping_v2": [{"source_type": "volume", "boot_index": 0}]}),
        json!({"block_device_mapping_v2": [{"source_type": "floppy"}]}),
        json!({"block_device_mapping_v2": [{"source_type": "blank", "volume_size": 0}]}),
        json!({"security_groups": ["default"]}),
        json!({"user_data": 1}),
    ] {
        fails(bad);
    }
    assert!(read(&json!({"server": []}), LATEST).is_err());
    assert!(read(&json!({}), LATEST).is_err());
}

#[test]
fn microversions_know_what_they_know() {
    let at = |minor, more: Value| read(&body(more), Microversion(2, minor)).is_ok();
    assert!(!at(36, json!({})), "'auto' is new in 2.37");
    assert!(at(36, json!({"networks": [{"uuid": IMAGE}]})));
    assert!(at(1, json!({"networks": []})));
    assert!(!at(51, json!({"tags": ["a"]})) && at(52, json!({"tags": ["a"]})));
    assert!(!at(73, json!({"host": "h"})) && at(74, json!({"host": "h"})));
    let mut without = body(json!({}));
    without["server"].as_object_mut().unwrap().remove("networks");
    assert!(read(&without, Microversion(2, 36)).is_ok());
    assert!(read(&without, Microversion(2, 37)).is_err());
}

#[test]
fn volumes_as_clients_ask_for_them() {
    let root =
        json!([{"uuid": IMAGE, "boot_index": 0, "source_type": "volume", "destination_type": "volume"}]);
    let asked = read(&body(json!({"imageRef": "", "block_device_mapping_v2": root})), LATEST).unwrap();
    assert_eq!(asked.new.disks.len(), 1);
    assert_eq!(asked.new.disks[0].boot_index, Some(0));
    assert_eq!(asked.new.disks[0].from, DiskFrom::Volume(IMAGE.into()));
    let old = json!([{"volume_id": IMAGE, "device_name": "vdc"}]);
    let asked = read(&body(json!({"block_device_mapping": old})), LATEST).unwrap();
    assert_eq!(asked.new.disks[0].boot_index, None);
}
