//! Schedules through the API, on both databases and a real cluster. Time is given, not waited for. Failpoints belong to
//! the whole process, so these tests run one at a time.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod kit;

use blockstore::Source;
use bytes::Bytes;
use kit::{Kit, id, kits, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use state::Timestamp;
use state::failpoint::{self, Action};
use tokio::sync::Mutex;

static ONE: Mutex<()> = Mutex::const_new(());
const HOUR: i64 = 3_600_000_000;

async fn schedule(kit: &Kit, body: Value) -> Value {
    let (status, body) = kit.call("alice", Method::POST, "/schedules", json!({"schedule": body})).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    body["schedule"].clone()
}

/// The full hour after the next: what is made now is due before it.
fn later(hours: i64) -> Timestamp {
    Timestamp((Timestamp::now().0 / HOUR + 1 + hours) * HOUR)
}

/// Has what is due at an instant done.
async fn tick(kit: &Kit, at: Timestamp) -> usize {
    let begun = kit.volumes.run_due_schedules(at).await.unwrap();
    kit.settled().await;
    begun
}

async fn listed(kit: &Kit, path: &str) -> Vec<Value> {
    let body = kit.get("alice", path).await;
    let Value::Object(all) = body else { panic!("{body}") };
    all.into_values().find_map(|v| v.as_array().cloned()).unwrap()
}

async fn write(kit: &Kit, volume_id: &str, off: u64, byte: u8) {
    let image = kit.tier.pool.rbd().open(&format!("volume-{volume_id}")).await.unwrap();
    image.write_at(off, Bytes::from(vec![byte; 4096])).await.unwrap();
    image.close().await.unwrap();
}

async fn shown(kit: &Kit, id: &str) -> Value {
    kit.get("alice", &format!("/schedules/{id}")).await["schedule"].clone()
}

#[tokio::test]
async fn snapshots_are_made_and_kept() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let volume = kit.create(Source::Empty, Some(1)).await;
        let mine = kit.snapshot(&volume.id).await;
        let s = schedule(&kit, json!({"volume_id": volume.id, "name": "often", "hourly": 2})).await;
        assert_eq!(
            (&s["kind"], &s["time_zone"], &s["full_every"]),
            (&json!("snapshot"), &json!("UTC"), &json!(7))
        );
        assert_eq!(s["next_run_at"], later(0).micros_naive());
        assert_eq!(tick(&kit, Timestamp::now()).await, 0);
        assert_eq!(tick(&kit, later(0)).await, 1);
        assert_eq!(tick(&kit, later(0)).await, 0, "twice at one instant");
        let all = listed(&kit, "/snapshots/detail").await;
        assert_eq!(all.len(), 2);
        let made = all.iter().find(|s| s["id"] != json!(mine)).unwrap();
        assert_eq!((&made["status"], &made["user_id"]), (&json!("available"), &json!("alice")));
        assert_eq!(made["metadata"]["schedule_id"], s["id"]);
        assert_eq!(made["metadata"]["schedule_classes"], "hourly");
        assert!(made["name"].as_str().unwrap().starts_with("often 20"));
        // Whatever a client writes on its own snapshot does not make it the schedule's.
        let forged = json!({"metadata": made["metadata"]});
        let (status, _) =
            kit.call("alice", Method::PUT, &format!("/snapshots/{mine}/metadata"), forged).await;
        assert_eq!(status, StatusCode::OK);

        // Ten hours were missed: one run. Two are kept, and what is not the schedule's stays.
        // Whoever looks at the same time, it is begun once.
        let looks = [later(10); 4].map(|at| kit.volumes.run_due_schedules(at));
        let begun: usize = futures::future::join_all(looks).await.into_iter().map(Result::unwrap).sum();
        assert_eq!(begun, 1);
        kit.settled().await;
        assert_eq!(tick(&kit, later(11)).await, 1);
        assert_eq!(tick(&kit, later(12)).await, 1);
        kit.settled().await;
        let all = listed(&kit, "/snapshots/detail").await;
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all.iter().any(|s| s["id"] == json!(mine)) && !all.iter().any(|s| s["id"] == made["id"]));
        let s = shown(&kit, &id(&s)).await;
        assert_eq!((&s["last_error"], &s["next_run_at"]), (&Value::Null, &json!(later(13).micros_naive())));
        assert_eq!(s["last_run_at"], later(12).micros_naive());
        let items = listed(&kit, &format!("/schedules/{}/items", id(&s))).await;
        assert_eq!(items.len(), 2);

        // A schedule that is off does nothing; one that is deleted leaves what it has made.
        let path = format!("/schedules/{}", id(&s));
        let off = json!({"schedule": {"enabled": false}});
        assert_eq!(kit.call("alice", Method::PUT, &path, off).await.0, StatusCode::OK);
        assert_eq!(tick(&kit, later(20)).await, 0);
        assert_eq!(kit.call("alice", Method::DELETE, &path, Value::Null).await.0, StatusCode::NO_CONTENT);
        assert_eq!(kit.call("alice", Method::GET, &path, Value::Null).await.0, StatusCode::NOT_FOUND);
        assert_eq!(listed(&kit, "/snapshots").await.len(), 3);
    }
}

#[tokio::test]
async fn backups_in_chains_that_shrink_at_both_ends() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let volume = kit.create(Source::Empty, Some(1)).await;
        let body = json!({"volume_id": volume.id, "kind": "backup", "hourly": 3, "full_every": 4});
        let s = schedule(&kit, body).await;
        let mut incremental = Vec::new();
        for n in 0..6 {
            write(&kit, &volume.id, 0, 10 + n).await;
            write(&kit, &volume.id, u64::from(n) << 23, 100 + n).await;
            assert_eq!(tick(&kit, later(i64::from(n))).await, 1);
            kit.settled().await;
            let mut all = listed(&kit, "/backups/detail").await;
            all.sort_by_key(|b| b["created_at"].to_string());
            let newest = all.last().unwrap();
            assert_eq!(
                (&newest["status"], &newest["metadata"]["schedule_id"]),
                (&json!("available"), &s["id"])
            );
            incremental.push(newest["is_incremental"].as_bool().unwrap());
            assert_eq!(all.len(), usize::from(n + 1).min(3), "{all:?}");
            if newest["is_incremental"] == true {
                assert!(newest["object_count"].as_i64().unwrap() <= 2, "only what changed: {newest}");
            }
        }
        assert_eq!(incremental, [false, true, true, true, false, true]);
        // The fourth's full backup is long gone, the fourth reads as a whole all the same.
        let mut all = listed(&kit, "/backups/detail").await;
        all.sort_by_key(|b| b["created_at"].to_string());
        assert_eq!(all[0]["is_incremental"], false);
        let path = format!("/backups/{}/restore", id(&all[0]));
        let (status, body) = kit.call("alice", Method::POST, &path, json!({"restore": {}})).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        let new = body["restore"]["volume_id"].as_str().unwrap().to_owned();
        kit.becomes(&new, blockstore::VolumeStatus::Available).await;
        let image = kit.open(&new).await;
        for (off, want) in [(0, 13), (1 << 23, 101), (2 << 23, 102), (3 << 23, 103), (4 << 23, 0)] {
            assert_eq!(image.read_at(off, 1).await.unwrap()[0], want, "at {off}");
        }
    }
}

#[tokio::test]
async fn groups_are_taken_as_one() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let kind = kit.post("admin", "/group_types", json!({"group_type": {"name": "any"}})).await;
        let group =
            json!({"group": {"group_type": kind["group_type"]["id"], "volume_types": ["__DEFAULT__"]}});
        let group = id(&kit.post("alice", "/groups", group).await["group"]);
        let (a, b) = (kit.create(Source::Empty, Some(1)).await, kit.create(Source::Empty, Some(1)).await);
        let add = json!({"group": {"add_volumes": format!("{},{}", a.id, b.id)}});
        let (status, body) = kit.call("alice", Method::PUT, &format!("/groups/{group}"), add).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        kit.settled().await;

        let s = schedule(&kit, json!({"group_id": group, "hourly": 1})).await;
        for n in 0..2 {
            assert_eq!(tick(&kit, later(n)).await, 1);
        }
        kit.settled().await;
        assert_eq!(shown(&kit, &id(&s)).await["last_error"], Value::Null);
        assert_eq!(listed(&kit, "/group_snapshots").await.len(), 1);
        let parts = listed(&kit, "/snapshots/detail").await;
        assert_eq!(parts.len(), 2);
        assert!(parts.iter().all(|p| p["metadata"]["schedule_id"] == s["id"]), "{parts:?}");
        let path = format!("/schedules/{}", id(&s));
        assert_eq!(kit.call("alice", Method::DELETE, &path, Value::Null).await.0, StatusCode::NO_CONTENT);

        // Backups of both, of one instant; the second only of what changed, by the snapshot that stays.
        let s = schedule(&kit, json!({"group_id": group, "kind": "backup", "hourly": 2})).await;
        write(&kit, &a.id, 0, 1).await;
        assert_eq!(tick(&kit, later(0)).await, 1);
        write(&kit, &a.id, 8 << 20, 2).await;
        assert_eq!(tick(&kit, later(1)).await, 1);
        kit.settled().await;
        assert_eq!(shown(&kit, &id(&s)).await["last_error"], Value::Null);
        let all = listed(&kit, "/backups/detail").await;
        assert_eq!(all.len(), 4);
        for volume in [&a.id, &b.id] {
            let of: Vec<_> = all.iter().filter(|x| x["volume_id"] == json!(volume)).collect();
            assert_eq!(of.iter().filter(|x| x["is_incremental"] == true).count(), 1, "{of:?}");
        }
        let second =
            all.iter().find(|x| x["volume_id"] == json!(a.id) && x["is_incremental"] == true).unwrap();
        assert_eq!(second["object_count"], 1);
        // The deleted schedule's one, and the base of the next backup.
        assert_eq!(listed(&kit, "/group_snapshots").await.len(), 2);
    }
}

#[tokio::test]
async fn failures_are_told_and_leave_nothing() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let volume = kit.create(Source::Empty, Some(1)).await;
        let s = schedule(&kit, json!({"volume_id": volume.id, "hourly": 5})).await;
        for (n, step) in ["make", "copy", "settle"].into_iter().enumerate() {
            let n = 2 * i64::try_from(n).unwrap();
            let point = format!("schedule.run:{step}:after");
            failpoint::set(&point, Action::RetryOnce);
            assert_eq!(tick(&kit, later(n)).await, 1);
            failpoint::clear(&point);
            let before = listed(&kit, "/snapshots").await.len();
            failpoint::set(&point, Action::Fail);
            failpoint::set("schedule.run:undo:make:after", Action::RetryOnce);
            assert_eq!(tick(&kit, later(n + 1)).await, 1);
            failpoint::clear(&point);
            failpoint::clear("schedule.run:undo:make:after");
            assert!(shown(&kit, &id(&s)).await["last_error"].is_string());
            assert_eq!(listed(&kit, "/snapshots").await.len(), before, "{step}");
        }
        let messages = listed(&kit, "/messages").await;
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert_eq!(messages[0]["event_id"], "VOLUME_SCHEDULE_010_001");
        assert_eq!(messages[0]["resource_uuid"], s["id"]);
        assert_eq!(listed(&kit, "/snapshots").await.len(), 3);

        // Without its volume it is off.
        let cascade = format!("/volumes/{}?cascade=true", volume.id);
        assert_eq!(kit.call("alice", Method::DELETE, &cascade, Value::Null).await.0, StatusCode::ACCEPTED);
        kit.gone(&volume.id).await;
        assert_eq!(tick(&kit, later(10)).await, 1);
        let s = shown(&kit, &id(&s)).await;
        assert_eq!((&s["enabled"], &s["next_run_at"]), (&json!(false), &Value::Null));
        assert!(s["last_error"].as_str().unwrap().contains("could not be found"), "{s}");
        assert_eq!(tick(&kit, later(20)).await, 0);
    }
}

#[tokio::test]
async fn refusals_and_who_may() {
    let _one = ONE.lock().await;
    for kit in kits().await {
        let volume = kit.create(Source::Empty, Some(1)).await;
        let v = volume.id.as_str();
        for (body, want) in [
            (json!({"hourly": 1}), 400),
            (json!({"volume_id": v, "group_id": v, "hourly": 1}), 400),
            (json!({"volume_id": v}), 400),
            (json!({"volume_id": v, "hourly": -1}), 400),
            (json!({"volume_id": v, "daily": 1, "hour": 24}), 400),
            (json!({"volume_id": v, "daily": 1, "day": 29}), 400),
            (json!({"volume_id": v, "daily": 1, "weekday": "someday"}), 400),
            (json!({"volume_id": v, "daily": 1, "time_zone": "Mars/Olympus"}), 400),
            (json!({"volume_id": v, "daily": 1, "colour": "red"}), 400),
            (json!({"volume_id": v, "daily": 1, "container": "c"}), 400),
            (json!({"volume_id": state::new_id(), "daily": 1}), 404),
            (json!({"group_id": state::new_id(), "daily": 1}), 404),
        ] {
            let (status, answer) =
                kit.call("alice", Method::POST, "/schedules", json!({"schedule": body})).await;
            assert_eq!(status.as_u16(), want, "{body}: {answer}");
        }
        let body = json!({"volume_id": v, "daily": 3, "weekly": 2, "hour": 3, "weekday": "sunday", "time_zone": "Europe/Berlin"});
        let s = schedule(&kit, body.clone()).await;
        assert_eq!(s["weekday"], "sunday");
        let path = format!("/schedules/{}", id(&s));
        let change = json!({"schedule": {"name": "mine"}});
        for (who, read, write) in [("rita", 200, 403), ("bob", 404, 404), ("admin", 200, 200)] {
            assert_eq!(kit.call(who, Method::GET, &path, Value::Null).await.0.as_u16(), read, "{who}");
            let (status, _) = kit.call(who, Method::PUT, &path, change.clone()).await;
            assert_eq!(status.as_u16(), write, "{who}");
            let (status, _) =
                kit.call(who, Method::POST, &format!("{path}/action"), json!({"run": {}})).await;
            assert_eq!(status.as_u16(), if write == 200 { 202 } else { write }, "{who}");
        }
        for who in ["rita", "bob"] {
            let (status, _) = kit.call(who, Method::POST, "/schedules", json!({"schedule": body})).await;
            assert_eq!(status.as_u16(), if who == "rita" { 403 } else { 404 });
            let (status, _) = kit.call(who, Method::DELETE, &path, Value::Null).await;
            assert_eq!(status.as_u16(), if who == "rita" { 403 } else { 404 });
        }
        assert_eq!(kit.get("bob", "/schedules").await["schedules"], json!([]));
        assert_eq!(
            kit.get("admin", "/schedules?all_tenants=1").await["schedules"].as_array().unwrap().len(),
            1
        );
        assert_eq!(kit.call("alice", Method::GET, "/schedules?colour=red", Value::Null).await.0, 400);
        // The admin's run stands as one of alice's daily snapshots.
        until("the run by hand", || async {
            let all = listed(&kit, "/snapshots/detail").await;
            all.first()
                .filter(|s| s["status"] == "available" && s["metadata"]["schedule_classes"] == "daily")
                .map(drop)
        })
        .await;
        let (_, found) = kit.call("alice", Method::GET, "/extensions/aquifer-schedules", Value::Null).await;
        assert_eq!(found["extension"]["name"], "Schedules");
        kit.settled().await;
    }
}
