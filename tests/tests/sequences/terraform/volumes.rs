//! `blockstorage_*_v3` and `compute_volume_attach_v2`.

use super::{id, nothing_to_do};
use crate::gopher::Gopher;
use serde_json::{Value, json};

pub async fn sequence(admin: &Gopher, server: &str) {
    let kind = volume_type(admin).await;
    let qos = qos(admin, &kind).await;
    quotas(admin, &kind).await;
    let volume = volume(admin, &kind, server).await;
    snapshots_are_found(admin, &volume).await;
    attached_without_a_server(admin, &volume).await;
    let block = admin.block();
    destroy(admin, &volume).await;
    // The provider lets go of what uses the specs first.
    block.call("GET", &format!("qos-specs/{qos}/disassociate_all"), None, 202).await;
    block.call("DELETE", &format!("qos-specs/{qos}"), None, 202).await;
    assert_eq!(block.status(&format!("qos-specs/{qos}")).await, 404);
    block.call("DELETE", &format!("types/{kind}"), None, 202).await;
    assert_eq!(block.status(&format!("types/{kind}")).await, 404);
}

/// `blockstorage_volume_type_v3` and `…_type_access_v3`: the id of a private type.
async fn volume_type(admin: &Gopher) -> String {
    let block = admin.block();
    let specs = json!({"volume_backend_name": "volumes", "multiattach": "<is> True"});
    let body = json!({"name": "tf-type", "description": "d", "os-volume-type-access:is_public": true,
        "extra_specs": specs});
    let made = block.call("POST", "types", Some(json!({"volume_type": body})), 200).await;
    let path = format!("types/{}", id(&made["volume_type"]));
    let read = block.get(&path).await["volume_type"].clone();
    nothing_to_do(&read, &json!({"name": "tf-type", "description": "d", "is_public": true}));
    assert_eq!(block.get(&format!("{path}/extra_specs")).await["extra_specs"], specs);

    let change = json!({"name": "tf-type2", "description": "other", "is_public": false});
    block.call("PUT", &path, Some(json!({"volume_type": change})), 200).await;
    for key in ["volume_backend_name", "multiattach"] {
        block.call("DELETE", &format!("{path}/extra_specs/{key}"), None, 202).await;
    }
    let specs = json!({"extra_specs": {"volume_backend_name": "volumes"}});
    block.call("POST", &format!("{path}/extra_specs"), Some(specs.clone()), 200).await;
    nothing_to_do(&block.get(&path).await["volume_type"], &change);
    assert_eq!(block.get(&format!("{path}/extra_specs")).await, specs);

    let open = json!({"addProjectAccess": {"project": admin.project}});
    block.call("POST", &format!("{path}/action"), Some(open), 202).await;
    let access = block.get(&format!("{path}/os-volume-type-access")).await["volume_type_access"].clone();
    assert_eq!(access[0]["project_id"], json!(admin.project), "{access}");
    assert_eq!(access[0]["volume_type_id"], made["volume_type"]["id"]);
    id(&made["volume_type"])
}

/// `blockstorage_qos_v3` and `…_qos_association_v3`.
async fn qos(admin: &Gopher, kind: &str) -> String {
    let block = admin.block();
    let body = json!({"name": "tf-qos", "consumer": "front-end", "read_iops_sec": "20000"});
    let made = block.call("POST", "qos-specs", Some(json!({"qos_specs": body})), 200).await;
    let path = format!("qos-specs/{}", id(&made["qos_specs"]));
    let want = json!({"name": "tf-qos", "consumer": "front-end", "specs": {"read_iops_sec": "20000"}});
    nothing_to_do(&block.get(&path).await["qos_specs"], &want);
    // An update takes out all that was there, be it nothing, and puts in what is wanted.
    for keys in [json!(["read_iops_sec"]), json!([])] {
        block.call("PUT", &format!("{path}/delete_keys"), Some(json!({"keys": keys})), 202).await;
    }
    let change = json!({"qos_specs": {"consumer": "both", "write_iops_sec": "100"}});
    block.call("PUT", &path, Some(change), 200).await;
    let want = json!({"name": "tf-qos", "consumer": "both", "specs": {"write_iops_sec": "100"}});
    nothing_to_do(&block.get(&path).await["qos_specs"], &want);

    block.call("GET", &format!("{path}/associate?vol_type_id={kind}"), None, 202).await;
    let with = block.get(&format!("{path}/associations")).await["qos_associations"].clone();
    let want = json!([{"association_type": "volume_type", "id": kind, "name": "tf-type2"}]);
    assert_eq!(with, want);
    block.call("GET", &format!("{path}/disassociate?vol_type_id={kind}"), None, 202).await;
    assert_eq!(block.get(&format!("{path}/associations")).await["qos_associations"], json!([]));
    block.call("GET", &format!("{path}/associate?vol_type_id={kind}"), None, 202).await;
    id(&made["qos_specs"])
}

/// `blockstorage_quotaset_v3`, also by type, of a project of its own.
async fn quotas(admin: &Gopher, kind: &str) {
    let (identity, block) = (admin.identity(), admin.block());
    let body = json!({"project": {"name": "tf-quota", "domain_id": "default"}});
    let project = id(&identity.call("POST", "projects", Some(body), 201).await["project"]);
    let path = format!("os-quota-sets/{project}");
    let want = json!({"volumes": 10, "snapshots": 4, "gigabytes": 100, "per_volume_gigabytes": 10, "backups": 4,
        "backup_gigabytes": 10, "groups": 100, "volumes_tf-type2": 3, "gigabytes_tf-type2": 30});
    let made = block.call("PUT", &path, Some(json!({"quota_set": want})), 200).await;
    nothing_to_do(&made["quota_set"], &want);
    let read = block.get(&path).await["quota_set"].clone();
    nothing_to_do(&read, &want);
    assert_eq!(read["id"], json!(project));
    let change = json!({"volumes": 11, "volumes_tf-type2": 4});
    block.call("PUT", &path, Some(json!({"quota_set": change})), 200).await;
    let read = block.get(&path).await["quota_set"].clone();
    nothing_to_do(&read, &change);
    assert_eq!((&read["snapshots"], &read["gigabytes_tf-type2"]), (&json!(4), &json!(30)), "{read}");
    let used = block.get(&format!("{path}?usage=true")).await;
    assert_eq!(used["quota_set"]["volumes"], json!({"in_use": 0, "limit": 11, "reserved": 0}), "{used}");
    assert!(block.get(&format!("types/{kind}")).await["volume_type"]["qos_specs_id"].is_string());
    block.call("DELETE", &path, None, 200).await;
    identity.call("DELETE", &format!("projects/{project}"), None, 204).await;
}

/// `blockstorage_volume_v3` and `compute_volume_attach_v2`: the id of a volume that was changed in every way.
async fn volume(admin: &Gopher, kind: &str, server: &str) -> String {
    let (block, compute) = (admin.block(), admin.compute());
    let want = json!({"name": "tf-volume", "description": "d", "size": 1, "metadata": {"foo": "bar", "k8s.io/x": "y"},
        "availability_zone": "nova"});
    let mut body = json!({"volume": want});
    body["OS-SCH-HNT:scheduler_hints"] = json!({"different_host": []});
    let made = block.call("POST", "volumes", Some(body), 202).await["volume"].clone();
    nothing_to_do(&made, &want);
    let path = format!("volumes/{}", id(&made));
    let read = block.until(&path, "/volume/status", "available").await["volume"].clone();
    nothing_to_do(&read, &want);
    assert_eq!(
        (&read["snapshot_id"], &read["source_volid"], &read["attachments"]),
        (&Value::Null, &Value::Null, &json!([]))
    );
    assert!(read["volume_type"].is_string(), "no type: the attribute is computed and would stay unknown");

    // Grown, retyped, renamed; its metadata is replaced, not merged.
    let grow = json!({"os-extend": {"new_size": 2}});
    block.call("POST", &format!("{path}/action"), Some(grow), 202).await;
    block.until(&path, "/volume/status", "available").await;
    let retype = json!({"os-retype": {"new_type": kind, "migration_policy": "never"}});
    block.call("POST", &format!("{path}/action"), Some(retype), 202).await;
    block.until(&path, "/volume/status", "available").await;
    let change = json!({"name": "tf-volume2", "description": "", "metadata": {"foo": "baz"}});
    block.call("PUT", &path, Some(json!({"volume": change})), 200).await;
    let read = block.get(&path).await["volume"].clone();
    nothing_to_do(
        &read,
        &json!({"name": "tf-volume2", "description": "", "metadata": {"foo": "baz"}, "size": 2,
        "volume_type": "tf-type2", "availability_zone": "nova"}),
    );

    // Attached, found as it is, detached; and grown meanwhile.
    let all = format!("servers/{server}/os-volume_attachments");
    let body = json!({"volumeAttachment": {"volumeId": made["id"]}});
    let attachment = compute.call("POST", &all, Some(body), 200).await["volumeAttachment"].clone();
    let one = format!("{all}/{}", id(&attachment));
    block.until(&path, "/volume/status", "in-use").await;
    let read = compute.get(&one).await["volumeAttachment"].clone();
    nothing_to_do(&read, &json!({"id": made["id"], "volumeId": made["id"], "serverId": server}));
    assert_eq!(read["device"], attachment["device"], "the device is another in every plan");
    let seen = block.get(&path).await["volume"]["attachments"][0].clone();
    assert_eq!((&seen["id"], &seen["server_id"]), (&made["id"], &json!(server)), "{seen}");
    let grow = json!({"os-extend": {"new_size": 3}});
    admin.block_at("3.42").call("POST", &format!("{path}/action"), Some(grow), 202).await;
    block.until(&path, "/volume/status", "in-use").await;
    assert_eq!(block.get(&path).await["volume"]["size"], json!(3));
    compute.call("DELETE", &one, None, 202).await;
    compute.until_gone(&one).await;
    block.until(&path, "/volume/status", "available").await;
    id(&made)
}

/// The data sources `blockstorage_snapshot_v3` and `blockstorage_volume_v3`.
async fn snapshots_are_found(admin: &Gopher, volume: &str) {
    let block = admin.block();
    let want =
        json!({"name": "tf-snapshot", "description": "sd", "volume_id": volume, "metadata": {"foo": "bar"}});
    let made = block.call("POST", "snapshots", Some(json!({"snapshot": want})), 202).await;
    let snapshot = id(&made["snapshot"]);
    block.until(&format!("snapshots/{snapshot}"), "/snapshot/status", "available").await;
    let query = format!("snapshots?name=tf-snapshot&status=available&volume_id={volume}");
    let found = block.get(&query).await["snapshots"].clone();
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    nothing_to_do(&found[0], &want);
    assert_eq!(found[0]["size"], json!(3));
    let found = block.get("volumes/detail?name=tf-volume2&status=available").await["volumes"].clone();
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found[0]["bootable"], json!("false"), "a word, as upstream says it");

    let copy = json!({"volume": {"name": "tf-copy", "size": 3, "snapshot_id": snapshot}});
    let copy = id(&block.call("POST", "volumes", Some(copy), 202).await["volume"]);
    let path = format!("volumes/{copy}");
    let read = block.until(&path, "/volume/status", "available").await["volume"].clone();
    nothing_to_do(&read, &json!({"snapshot_id": snapshot, "size": 3, "name": "tf-copy", "metadata": {}}));
    // The snapshot is no resource of the provider; it goes while its copy lives.
    block.call("DELETE", &format!("snapshots/{snapshot}"), None, 202).await;
    block.until_gone(&format!("snapshots/{snapshot}")).await;
    destroy(admin, &copy).await;
}

/// `blockstorage_volume_attach_v3`: attached to a host that is no server of this cloud.
async fn attached_without_a_server(admin: &Gopher, volume: &str) {
    let (block, path) = (admin.block(), format!("volumes/{volume}"));
    let action = format!("{path}/action");
    let connector = json!({"connector": {"host": "devstack", "ip": "192.168.255.10", "multipath": false,
        "initiator": "iqn.1993-08.org.debian:01:e9861fb1859", "os_type": "linux2", "platform": "x86_64"}});
    let body = json!({"os-initialize_connection": connector});
    let info = block.call("POST", &action, Some(body), 200).await["connection_info"].clone();
    assert_eq!(info["driver_volume_type"], json!("rbd"), "{info}");
    let body = json!({"os-attach": {"host_name": "devstack", "mountpoint": "/dev/vdc", "mode": "rw"}});
    block.call("POST", &action, Some(body), 202).await;
    let read = block.until(&path, "/volume/status", "in-use").await["volume"].clone();
    let attachment = read["attachments"][0].clone();
    nothing_to_do(&attachment, &json!({"host_name": "devstack", "device": "/dev/vdc", "volume_id": volume}));
    block.call("POST", &action, Some(json!({"os-terminate_connection": connector})), 202).await;
    let body = json!({"os-detach": {"attachment_id": attachment["attachment_id"]}});
    block.call("POST", &action, Some(body), 202).await;
    let read = block.until(&path, "/volume/status", "available").await["volume"].clone();
    nothing_to_do(&read, &json!({"attachments": [], "metadata": {"foo": "baz"}}));
}

/// A destroy looks, deletes, and waits until it is gone; the second time there is nothing to do.
async fn destroy(admin: &Gopher, volume: &str) {
    let (block, path) = (admin.block(), format!("volumes/{volume}"));
    assert_eq!(block.get(&path).await["volume"]["attachments"], json!([]));
    block.call("DELETE", &path, None, 202).await;
    block.until_gone(&path).await;
}
