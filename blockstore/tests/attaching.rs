//! Attachments, by compute's own calls, by the attachments API, and by the older actions.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::{AttachStatus, Source, VolumeError, VolumeStatus};
use kit::{ctx, kits, project};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn computes_calls_may_all_be_repeated() {
    for kit in kits().await {
        let v = kit.create(Source::Empty, Some(1)).await;
        let alice = ctx("alice");
        let (server, other) = (state::new_id(), state::new_id());
        let held = kit.volumes.attach_begin(&alice, &v.id, &server, None).await.unwrap();
        assert_eq!(kit.volumes.get(&alice, &v.id).await.unwrap().status, VolumeStatus::Reserved);
        assert_eq!(held.location.image, format!("volume-{}", v.id));
        let refused = kit.volumes.attach_begin(&alice, &v.id, &other, None).await;
        assert!(matches!(refused, Err(VolumeError::InvalidVolume(_))));
        for _ in 0..2 {
            let again = kit.volumes.attach_begin(&alice, &v.id, &server, Some("host1")).await.unwrap();
            assert_eq!(again.attachment.id, held.attachment.id);
            assert_eq!(again.attachment.status, AttachStatus::Attaching);
        }
        let a = held.attachment.id.as_str();
        for _ in 0..2 {
            kit.volumes.attach_complete(&alice, a, Some("/dev/vdb")).await.unwrap();
        }
        let shown = kit.get("alice", &format!("/volumes/{}", v.id)).await["volume"].clone();
        assert_eq!(shown["status"], "in-use");
        assert_eq!(shown["attachments"][0]["server_id"], server);
        assert_eq!(shown["attachments"][0]["device"], "/dev/vdb");
        assert_eq!(shown["attachments"][0]["host_name"], Value::Null, "only administrators see hosts");
        let (status, why) =
            kit.call("alice", Method::DELETE, &format!("/volumes/{}", v.id), Value::Null).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{why}");
        assert_eq!(kit.volumes.attachments_of_server(&server).await.unwrap().len(), 1);
        let force = format!("/volumes/{}?force=true", v.id);
        assert_eq!(kit.call("admin", Method::DELETE, &force, Value::Null).await.0, StatusCode::BAD_REQUEST);
        for _ in 0..2 {
            kit.volumes.detach_begin(&alice, a).await.unwrap();
        }
        assert_eq!(kit.call("admin", Method::DELETE, &force, Value::Null).await.0, StatusCode::BAD_REQUEST);
        assert_eq!(kit.volumes.get(&alice, &v.id).await.unwrap().status, VolumeStatus::Detaching);
        kit.volumes.detach_abort(&alice, a).await.unwrap();
        assert_eq!(kit.volumes.get(&alice, &v.id).await.unwrap().status, VolumeStatus::InUse);
        for _ in 0..2 {
            kit.volumes.detach_complete(&alice, a).await.unwrap();
        }
        assert_eq!(kit.volumes.get(&alice, &v.id).await.unwrap().status, VolumeStatus::Available);
        let bob = kit.volumes.attach_begin(&ctx("bob"), &v.id, &other, None).await;
        assert!(matches!(bob, Err(VolumeError::VolumeNotFound(_))));
        for _ in 0..2 {
            kit.volumes.delete(&alice, &v.id).await.unwrap();
        }
        kit.gone(&v.id).await;
        kit.volumes.delete(&alice, &v.id).await.unwrap();
    }
}

#[tokio::test]
async fn the_attachments_api() {
    for kit in kits().await {
        let v = kit.create(Source::Empty, Some(1)).await;
        let server = state::new_id();
        let body = json!({"attachment": {"volume_uuid": v.id, "instance_uuid": server, "connector": null}});
        let (status, made) = kit.call("alice", Method::POST, "/attachments", body.clone()).await;
        assert_eq!(status, StatusCode::OK, "{made}");
        let a = made["attachment"]["id"].as_str().unwrap().to_owned();
        assert_eq!(
            (&made["attachment"]["status"], &made["attachment"]["connection_info"]),
            (&json!("reserved"), &json!({}))
        );
        let connector = json!({"attachment": {"connector": {"host": "h1", "initiator": "iqn", "mountpoint": "/dev/vdb"}}});
        let (status, updated) = kit.call("alice", Method::PUT, &format!("/attachments/{a}"), connector).await;
        assert_eq!(status, StatusCode::OK, "{updated}");
        let info = &updated["attachment"]["connection_info"];
        assert_eq!((&info["driver_volume_type"], &info["access_mode"]), (&json!("rbd"), &json!("rw")));
        assert!(info["name"].as_str().unwrap().ends_with(&format!("volume-{}", v.id)));
        assert!(!info["hosts"].as_array().unwrap().is_empty(), "{info}");
        assert_eq!(kit.get("alice", &format!("/volumes/{}", v.id)).await["volume"]["status"], "attaching");
        let complete = json!({"os-complete": {}});
        let (status, _) =
            kit.call("alice", Method::POST, &format!("/attachments/{a}/action"), complete).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        assert_eq!(kit.get("alice", &format!("/volumes/{}", v.id)).await["volume"]["status"], "in-use");
        let listed = kit.get("alice", &format!("/attachments?volume_id={}", v.id)).await;
        assert_eq!(listed["attachments"][0]["instance"], server);
        assert_eq!(kit.get("bob", "/attachments").await["attachments"], json!([]));
        assert_eq!(kit.call("bob", Method::GET, &format!("/attachments/{a}"), Value::Null).await.0, 404);
        // A server that lets go in the middle of an operation leaves nothing behind.
        state::failpoint::set("volume.extend:resize:before", state::failpoint::Action::Pause);
        kit.act("alice", &v.id, json!({"os-extend": {"new_size": 2}})).await;
        kit.volumes.detach_complete(&ctx("alice"), &a).await.unwrap();
        state::failpoint::clear("volume.extend:resize:before");
        kit.becomes(&v.id, VolumeStatus::Available).await;
        let held = kit.volumes.attach_begin(&ctx("alice"), &v.id, &server, Some("h")).await.unwrap();
        let a = held.attachment.id;
        kit.volumes.attach_complete(&ctx("alice"), &a, Some("/dev/vdb")).await.unwrap();
        // An attached volume grows, too, for who asks at 3.42.
        let grow = json!({"os-extend": {"new_size": 3}});
        let path = format!("/volumes/{}/action", v.id);
        assert_eq!(kit.call_at("3.41", "alice", Method::POST, &path, grow.clone()).await.0, 400);
        assert_eq!(kit.call("alice", Method::POST, &path, grow).await.0, 202);
        kit.becomes(&v.id, VolumeStatus::InUse).await;
        let (status, left) =
            kit.call("alice", Method::DELETE, &format!("/attachments/{a}"), Value::Null).await;
        assert_eq!((status, &left["attachments"]), (StatusCode::OK, &json!([])));
        kit.becomes(&v.id, VolumeStatus::Available).await;
    }
}

#[tokio::test]
async fn the_older_actions() {
    for kit in kits().await {
        let v = kit.create(Source::Empty, Some(1)).await;
        let path = format!("/volumes/{}/action", v.id);
        kit.act("alice", &v.id, json!({"os-reserve": {}})).await;
        assert_eq!(kit.get("alice", &format!("/volumes/{}", v.id)).await["volume"]["status"], "attaching");
        let (status, _) = kit.call("alice", Method::POST, &path, json!({"os-reserve": {}})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        kit.act("alice", &v.id, json!({"os-unreserve": {}})).await;
        kit.becomes(&v.id, VolumeStatus::Available).await;
        let server = state::new_id();
        let info = kit.act("alice", &v.id, json!({"os-initialize_connection": {"connector": {}}})).await;
        assert_eq!(info["connection_info"]["driver_volume_type"], "rbd");
        kit.act("alice", &v.id, json!({"os-attach": {"instance_uuid": server, "mountpoint": "/dev/vdc"}}))
            .await;
        let shown = kit.get("admin", &format!("/volumes/{}", v.id)).await["volume"].clone();
        assert_eq!(shown["status"], "in-use");
        assert_eq!(
            (&shown["attachments"][0]["id"], &shown["attachments"][0]["server_id"]),
            (&json!(v.id), &json!(server))
        );
        assert_eq!(shown["metadata"]["attached_mode"], "rw");
        kit.act("alice", &v.id, json!({"os-begin_detaching": {}})).await;
        kit.act("alice", &v.id, json!({"os-roll_detaching": {}})).await;
        kit.act("alice", &v.id, json!({"os-begin_detaching": {}})).await;
        kit.act("alice", &v.id, json!({"os-detach": {}})).await;
        kit.becomes(&v.id, VolumeStatus::Available).await;
        kit.act("alice", &v.id, json!({"os-update_readonly_flag": {"readonly": true}})).await;
        let (status, _) = kit
            .call(
                "alice",
                Method::POST,
                &path,
                json!({"os-attach": {"instance_uuid": server, "mountpoint": "/dev/vdc"}}),
            )
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "it is read-only");
        assert_eq!(
            kit.get("alice", &format!("/volumes/{}", v.id)).await["volume"]["metadata"]["readonly"],
            "True"
        );
        for bad in
            [json!({}), json!({"os-nonsense": {}}), json!({"os-attach": {}, "os-detach": {}}), json!([])]
        {
            let (status, _) = kit.call("alice", Method::POST, &path, bad.clone()).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{bad}");
        }
        // Administrators set things right.
        for status in ["error", "maintenance", "creating", "attaching", "available"] {
            let reset = json!({"os-reset_status": {"status": status}});
            assert_eq!(kit.call("alice", Method::POST, &path, reset.clone()).await.0, StatusCode::FORBIDDEN);
            kit.act("admin", &v.id, reset).await;
            let shown = format!("/volumes/{}", v.id);
            assert_eq!(kit.get("alice", &shown).await["volume"]["status"], status);
            let may = if status == "maintenance" { StatusCode::BAD_REQUEST } else { StatusCode::OK };
            for (method, path, body) in [
                (Method::PUT, shown.clone(), json!({"volume": {"name": "renamed"}})),
                (Method::POST, format!("{shown}/metadata"), json!({"metadata": {"key": "value"}})),
            ] {
                assert_eq!(kit.call("alice", method, &path, body).await.0, may, "{path}: {status}");
            }
        }
        kit.act("admin", &v.id, json!({"os-reset_status": {"status": "creating"}})).await;
        kit.act("admin", &v.id, json!({"os-force_delete": {}})).await;
        kit.gone(&v.id).await;
        assert!(kit.images_there().await.is_empty(), "{}", project("p1"));
    }
}

#[tokio::test]
async fn several_servers_where_the_type_allows_it() {
    for kit in kits().await {
        kit.add_type("shared", json!({"multiattach": "<is> True"})).await;
        let body = json!({"volume": {"size": 1, "volume_type": "shared"}});
        let (_, made) = kit.call("alice", Method::POST, "/volumes", body).await;
        let id = made["volume"]["id"].as_str().unwrap();
        kit.becomes(id, VolumeStatus::Available).await;
        let alice = ctx("alice");
        let mut held = Vec::new();
        for i in 0..2 {
            let server = state::new_id();
            let h = kit.volumes.attach_begin(&alice, id, &server, Some("h")).await.unwrap();
            kit.volumes.attach_complete(&alice, &h.attachment.id, Some("/dev/vdb")).await.unwrap();
            held.push(h.attachment.id);
            assert_eq!(kit.volumes.get(&alice, id).await.unwrap().attachments.len(), i + 1);
        }
        kit.volumes.detach_complete(&alice, &held[0]).await.unwrap();
        assert_eq!(kit.volumes.get(&alice, id).await.unwrap().status, VolumeStatus::InUse);
        kit.volumes.detach_complete(&alice, &held[1]).await.unwrap();
        assert_eq!(kit.volumes.get(&alice, id).await.unwrap().status, VolumeStatus::Available);
    }
}
