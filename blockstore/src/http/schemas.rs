//! What bodies must look like. A body that does not fit is 400 and names the field.

use api::schema::Schema;
use serde_json::{Value, json};
use std::sync::LazyLock;

fn name() -> Value {
    json!({"type": ["string", "null"], "minLength": 0, "maxLength": 255})
}

/// Keys may have slashes, as Kubernetes' have (`cinder.csi.openstack.org/cluster`).
fn metadata() -> Value {
    json!({
        "type": ["object", "null"],
        "patternProperties": {"^[a-zA-Z0-9-_:. /]{1,255}$": {"type": "string", "maxLength": 255}},
        "additionalProperties": false,
    })
}

/// The same without null: the metadata resources themselves.
fn plain_metadata() -> Value {
    let mut schema = metadata();
    schema["type"] = json!("object");
    schema
}

fn id_or_null() -> Value {
    json!({"type": ["string", "null"], "maxLength": 255})
}

fn boolean() -> Value {
    json!({"type": ["boolean", "string", "integer"]})
}

/// A positive number or its digits.
fn size() -> Value {
    json!({"oneOf": [
        {"type": "integer", "minimum": 1, "maximum": 2147483647},
        {"type": "string", "pattern": "^0*[1-9][0-9]{0,9}$"},
        {"type": "null"},
    ]})
}

fn object(key: &str, properties: Value, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": {key: {
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        }},
        "required": [key],
        "additionalProperties": false,
    })
}

macro_rules! schemas {
    ($($(#[$doc:meta])* $name:ident = $schema:expr;)*) => {$(
        $(#[$doc])*
        pub(super) static $name: LazyLock<Schema> = LazyLock::new(|| Schema::new(&$schema));
    )*};
}

schemas! {
    CREATE_VOLUME = create_volume();
    /// Before 3.53 what is not known in a volume is not read.
    CREATE_VOLUME_LOOSE = {
        let mut schema = create_volume();
        schema["properties"]["volume"]["additionalProperties"] = json!(true);
        schema
    };
    FAILOVER = json!({
        "type": "object", "additionalProperties": false,
        "properties": {"host": name(), "cluster": name(), "backend_id": name()},
    });
    FREEZE = json!({
        "type": "object", "additionalProperties": false, "properties": {"host": name(), "cluster": name()},
    });
    UPDATE_VOLUME = object("volume", json!({
        "name": name(), "description": name(), "display_name": name(), "display_description": name(),
        "metadata": metadata(),
    }), &[]);
    CREATE_SNAPSHOT = object("snapshot", json!({
        "name": name(), "description": name(), "display_name": name(), "display_description": name(),
        "volume_id": {"type": ["string", "null"], "maxLength": 255}, "force": boolean(), "metadata": metadata(),
    }), &["volume_id"]);
    UPDATE_SNAPSHOT = object("snapshot", json!({
        "name": name(), "description": name(), "display_name": name(), "display_description": name(),
    }), &[]);
    METADATA = json!({
        "type": "object", "properties": {"metadata": plain_metadata()}, "required": ["metadata"],
        "additionalProperties": false,
    });
    META = {
        let mut meta = plain_metadata();
        meta["minProperties"] = json!(1);
        meta["maxProperties"] = json!(1);
        json!({"type": "object", "properties": {"meta": meta}, "required": ["meta"], "additionalProperties": false})
    };
    EXTRA_SPECS = json!({
        "type": "object", "properties": {"extra_specs": extra_specs()}, "required": ["extra_specs"],
        "additionalProperties": false,
    });
    EXTRA_SPEC = {
        let mut one = extra_specs();
        one["minProperties"] = json!(1);
        one["maxProperties"] = json!(1);
        one
    };
    CREATE_TYPE = object("volume_type", json!({
        "name": {"type": "string", "minLength": 1, "maxLength": 255},
        "description": name(), "extra_specs": nullable(extra_specs()),
        "os-volume-type-access:is_public": boolean(),
    }), &["name"]);
    ENCRYPTION = object("encryption", encryption(), &["provider", "control_location"]);
    ENCRYPTION_UPDATE = object("encryption", encryption(), &[]);
    MANAGE_VOLUME = object("volume", json!({
        "name": name(), "description": name(), "host": name(), "cluster": name(), "ref": {"type": "object"},
        "volume_type": name(), "availability_zone": name(), "metadata": metadata(), "bootable": boolean(),
    }), &["ref"]);
    MANAGE_SNAPSHOT = object("snapshot", json!({
        "name": name(), "description": name(), "volume_id": {"type": "string", "maxLength": 255},
        "ref": {"type": "object"}, "metadata": metadata(),
    }), &["ref", "volume_id"]);
    CREATE_GROUP_TYPE = object("group_type", json!({
        "name": {"type": "string", "minLength": 1, "maxLength": 255}, "description": name(),
        "group_specs": nullable(extra_specs()), "is_public": boolean(),
    }), &["name"]);
    GROUP_SPECS = json!({
        "type": "object", "properties": {"group_specs": extra_specs()}, "required": ["group_specs"],
        "additionalProperties": false,
    });
    CREATE_GROUP = object("group", json!({
        "name": name(), "description": name(), "availability_zone": name(),
        "group_type": {"type": "string", "minLength": 1, "maxLength": 255},
        "volume_types": {
            "type": "array", "minItems": 1, "uniqueItems": true, "items": {"type": "string", "maxLength": 255},
        },
    }), &["group_type", "volume_types"]);
    COPY_GROUP = object("create-from-src", json!({
        "name": name(), "description": name(), "source_group_id": id_or_null(), "group_snapshot_id": id_or_null(),
    }), &[]);
    UPDATE_GROUP = object("group", group_change(), &[]);
    FAILOVER_GROUP = object("failover_replication", json!({
        "allow_attached_volume": boolean(), "secondary_backend_id": {"type": ["string", "null"]},
    }), &[]);
    CREATE_GROUP_SNAPSHOT = object("group_snapshot", json!({
        "name": name(), "description": name(), "group_id": {"type": "string", "maxLength": 255},
    }), &["group_id"]);
    /// Types' ids in one text, with commas in between.
    CREATE_CONSISTENCY = object("consistencygroup", json!({
        "name": name(), "description": name(), "availability_zone": name(), "volume_types": {"type": "string"},
    }), &["volume_types"]);
    COPY_CONSISTENCY = object("consistencygroup-from-src", json!({
        "name": name(), "description": name(), "source_cgid": id_or_null(), "cgsnapshot_id": id_or_null(),
    }), &[]);
    UPDATE_CONSISTENCY = object("consistencygroup", group_change(), &[]);
    DELETE_CONSISTENCY = object("consistencygroup", json!({"force": boolean()}), &[]);
    CREATE_CGSNAPSHOT = object("cgsnapshot", json!({
        "name": name(), "description": name(), "consistencygroup_id": {"type": "string", "maxLength": 255},
    }), &["consistencygroup_id"]);
    CREATE_BACKUP = object("backup", json!({
        "volume_id": {"type": "string", "minLength": 1, "maxLength": 255}, "container": name(), "name": name(),
        "description": name(), "incremental": boolean(), "force": boolean(), "snapshot_id": id_or_null(),
        "metadata": metadata(), "availability_zone": name(),
    }), &["volume_id"]);
    UPDATE_BACKUP = object("backup", json!({"name": name(), "description": name(), "metadata": metadata()}), &[]);
    RESET_BACKUP = object("os-reset_status", json!({"status": {"type": "string", "enum": ["available", "error"]}}),
        &["status"]);
    IMPORT_BACKUP = object("backup-record", json!({
        "backup_service": {"type": "string", "minLength": 1, "maxLength": 255},
        "backup_url": {"type": "string", "minLength": 1, "maxLength": 1048576},
    }), &["backup_service", "backup_url"]);
    RESTORE_BACKUP = object("restore", json!({"name": name(), "volume_id": id_or_null()}), &[]);
    CREATE_SCHEDULE = {
        let mut all = schedule();
        all["volume_id"] = json!({"type": "string", "minLength": 1, "maxLength": 255});
        all["group_id"] = all["volume_id"].clone();
        all["kind"] = json!({"type": "string", "enum": ["snapshot", "backup"]});
        object("schedule", all, &[])
    };
    UPDATE_SCHEDULE = object("schedule", schedule(), &[]);
    UPDATE_TYPE = object("volume_type", json!({
        "name": {"type": ["string", "null"], "maxLength": 255},
        "description": name(), "is_public": boolean(),
    }), &[]);
    ATTACHMENT = object("attachment", json!({
        "volume_uuid": {"type": "string", "maxLength": 255},
        "instance_uuid": id_or_null(),
        "connector": {"type": ["object", "null"]},
        "mode": {"type": "string", "enum": ["rw", "ro"]},
    }), &["volume_uuid"]);
    ATTACHMENT_UPDATE = object("attachment", json!({
        "connector": {"type": "object", "minProperties": 1},
        "mode": {"type": "string", "enum": ["rw", "ro"]},
    }), &["connector"]);
    TRANSFER = object("transfer", json!({
        "volume_id": {"type": "string", "maxLength": 255}, "name": name(), "no_snapshots": boolean(),
    }), &["volume_id"]);
    ACCEPT = object("accept", json!({"auth_key": {"type": "string", "minLength": 1, "maxLength": 255}}), &["auth_key"]);
    QOS = json!({
        "type": "object", "required": ["qos_specs"], "additionalProperties": false,
        "properties": {"qos_specs": {
            "type": "object", "required": ["name"],
            "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "\\S"}},
            "patternProperties": {"^[a-zA-Z0-9-_:. /]{1,255}$": {"type": "string", "maxLength": 255}},
            "additionalProperties": false,
        }},
    });
    QOS_SET = json!({
        "type": "object", "required": ["qos_specs"], "additionalProperties": false,
        "properties": {"qos_specs": {
            "type": "object", "minProperties": 1,
            "patternProperties": {"^[a-zA-Z0-9-_:. /]{1,255}$": {"type": "string", "maxLength": 255}},
            "additionalProperties": false,
        }},
    });
    QOS_KEYS = json!({
        "type": "object", "required": ["keys"], "additionalProperties": false,
        "properties": {"keys": {
            "type": "array", "uniqueItems": true, "items": {"type": "string", "minLength": 1, "maxLength": 255},
        }},
    });
    UPLOAD = object("os-volume_upload_image", json!({
        "image_name": {"type": "string", "minLength": 1, "maxLength": 255},
        "force": boolean(),
        "disk_format": {"type": "string", "enum": ["raw", "vmdk", "vdi", "qcow2", "vhd", "vhdx", "ploop"]},
        "container_format": {"type": "string", "minLength": 0, "maxLength": 255},
        "visibility": {"type": "string", "enum": ["community", "public", "private", "shared"]},
        "protected": boolean(),
    }), &["image_name"]);
    ATTACH = object("os-attach", json!({
        "instance_uuid": id_or_null(), "mountpoint": {"type": "string", "minLength": 1, "maxLength": 255},
        "host_name": {"type": ["string", "null"], "maxLength": 255}, "mode": {"type": "string", "enum": ["rw", "ro"]},
    }), &["mountpoint"]);
    RETYPE = object("os-retype", json!({
        "new_type": {"type": "string", "minLength": 1, "maxLength": 255},
        "migration_policy": {"type": ["string", "null"], "enum": ["on-demand", "never", null]},
    }), &["new_type"]);
    REIMAGE = object("os-reimage", json!({
        "image_id": {"type": "string", "format": "uuid"}, "reimage_reserved": boolean(),
    }), &["image_id"]);
    EXTEND = object("os-extend", json!({
        "new_size": {"type": ["integer", "string"], "minimum": 1, "pattern": "^[0-9]+$"},
    }), &["new_size"]);
    EXTEND_COMPLETION = object("os-extend_volume_completion", json!({"error": {"type": "boolean"}}), &["error"]);
    MIGRATE = object("os-migrate_volume", json!({
        "host": {"type": ["string", "null"], "maxLength": 255}, "cluster": name(),
        "force_host_copy": boolean(), "lock_volume": boolean(),
    }), &[]);
    MIGRATE_COMPLETION = object("os-migrate_volume_completion", json!({
        "new_volume": {"type": "string", "format": "uuid"}, "error": boolean(),
    }), &["new_volume"]);
    RESET = object("os-reset_status", json!({
        "status": {"type": ["string", "null"]}, "attach_status": {"type": ["string", "null"], "enum": ["attached", "detached", null]},
        "migration_status": {"type": ["string", "null"]},
    }), &[]);
}

fn schedule() -> Value {
    let number = |least: i64, most: i64| json!({"type": "integer", "minimum": least, "maximum": most});
    json!({
        // With the time it is the name of what is made.
        "name": {"type": "string", "minLength": 1, "maxLength": 200}, "description": name(),
        "hourly": number(0, 1000), "daily": number(0, 1000), "weekly": number(0, 1000), "monthly": number(0, 1000),
        "minute": number(0, 59), "hour": number(0, 23), "day": number(1, 28),
        "weekday": {"type": "string", "enum": crate::schedules::WEEKDAYS},
        "time_zone": {"type": "string", "minLength": 1, "maxLength": 64},
        "full_every": number(1, 1000), "container": name(), "enabled": boolean(),
    })
}

fn create_volume() -> Value {
    let mut schema = object(
        "volume",
        json!({
            "name": name(), "description": name(), "display_name": name(), "display_description": name(),
            "volume_type": name(), "metadata": metadata(), "snapshot_id": id_or_null(), "source_volid": id_or_null(),
            "consistencygroup_id": id_or_null(), "group_id": id_or_null(), "backup_id": id_or_null(),
            "size": size(), "availability_zone": name(), "multiattach": boolean(),
            "image_id": id_or_null(), "imageRef": id_or_null(),
            "OS-SCH-HNT:scheduler_hints": {"type": ["object", "null"]},
        }),
        &[],
    );
    schema["properties"]["OS-SCH-HNT:scheduler_hints"] = json!({"type": ["object", "null"]});
    schema
}

fn encryption() -> Value {
    json!({
        "provider": {"type": "string", "minLength": 1, "maxLength": 255},
        "control_location": {"type": "string", "enum": ["front-end", "back-end"]},
        "cipher": {"type": ["string", "null"], "maxLength": 255},
        "key_size": {"type": ["integer", "null"], "minimum": 0, "maximum": 2147483647},
    })
}

fn group_change() -> Value {
    let ids = json!({"type": ["string", "null"]});
    json!({"name": name(), "description": name(), "add_volumes": ids, "remove_volumes": ids})
}

fn extra_specs() -> Value {
    json!({
        "type": "object",
        "patternProperties": {"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": "string", "maxLength": 255}},
        "additionalProperties": false,
    })
}

fn nullable(mut schema: Value) -> Value {
    schema["type"] = json!(["object", "null"]);
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_sends_fits() {
        let sent = json!({"volume": {"size": 1, "name": "v", "imageRef": null, "backup_id": null, "metadata": null,
            "consistencygroup_id": null, "OS-SCH-HNT:scheduler_hints": null}});
        assert!(CREATE_VOLUME.check(&sent).is_ok());
        for bad in
            [json!("#$%"), json!(""), json!("0"), json!("-1"), json!(0), json!(-1), json!(1.5), json!([1])]
        {
            let e = CREATE_VOLUME.check(&json!({"volume": {"size": bad}})).unwrap_err();
            assert_eq!(e.status(), 400, "{bad}");
        }
        assert!(CREATE_VOLUME.check(&json!({"volume": {"name": "x".repeat(256)}})).is_err());
        assert!(CREATE_VOLUME.check(&json!({"volume": {"colour": 1}})).is_err());
        assert!(CREATE_VOLUME_LOOSE.check(&json!({"volume": {"colour": 1}})).is_ok());
        assert!(CREATE_VOLUME_LOOSE.check(&json!({"volume": {"size": 0}})).is_err());
        let tags = json!({"cinder.csi.openstack.org/cluster": "k", "csi.storage.k8s.io/pvc/name": "n"});
        assert!(CREATE_VOLUME.check(&json!({"volume": {"metadata": tags}})).is_ok());
        assert!(CREATE_VOLUME.check(&json!({"volume": {"metadata": {"a,b": "c"}}})).is_err());
        assert!(META.check(&json!({"meta": {}})).is_err());
        assert!(CREATE_TYPE.check(&json!({"volume_type": {"name": ""}})).is_err());
    }
}
