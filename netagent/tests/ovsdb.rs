//! The OVSDB client against a real ovsdb-server with OVN's northbound schema.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Databases, eventually};
use netagent::NetError;
use netagent::ovsdb::{Client, Datum, Op, Remote, Row, Table};

const TABLES: &[Table] = &[
    Table {
        name: "Logical_Switch",
        columns: &["name", "ports", "external_ids", "no_such_column"],
        keys: &["k"],
    },
    Table { name: "Logical_Switch_Port", columns: &["name", "addresses", "up"], keys: &[] },
];
const SOON: Duration = Duration::from_secs(10);

fn row<const N: usize>(columns: [(&str, Datum); N]) -> Row {
    columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn connect(databases: &Databases) -> Client {
    let remote: Remote = format!("unix:{}/nb.sock", databases.path().display()).parse().unwrap();
    let client = Client::start(vec![remote], "OVN_Northbound", TABLES);
    client.ready(SOON).await.unwrap();
    client
}

#[tokio::test]
async fn transactions_show_in_the_replica_at_once() {
    let databases = Databases::start().await;
    let client = connect(&databases).await;
    let switch = row([
        ("name", Datum::one("s1")),
        ("ports", Datum::set([netagent::ovsdb::Atom::Named("p".into())])),
        ("external_ids", Datum::map([("k", "v")])),
    ]);
    let port = row([("name", Datum::one("p1")), ("addresses", Datum::set(["a", "b"]))]);
    let done = client
        .transact(vec![
            Op::comment("a test"),
            Op::insert("Logical_Switch_Port", &port, Some("p")),
            Op::insert("Logical_Switch", &switch, None),
        ])
        .await
        .unwrap();
    let id = done[2].uuid.unwrap();
    client.read(|nb| {
        let (found, row) = nb.by_name("Logical_Switch", "s1").unwrap();
        assert_eq!(found, id);
        assert_eq!(row["ports"].uuids().count(), 1);
        assert_eq!(nb.by_key("Logical_Switch", "k", "v").len(), 1);
        assert_eq!(nb.by_name("Logical_Switch_Port", "p1").unwrap().1["addresses"], Datum::set(["a", "b"]));
    });
    let port = client.read(|nb| nb.by_name("Logical_Switch_Port", "p1").unwrap().0);
    client
        .transact(vec![
            Op::mutate_delete("Logical_Switch_Port", port, "addresses", &Datum::set(["a"])),
            Op::update("Logical_Switch", id, &row([("external_ids", Datum::map([("k", "w")]))])),
        ])
        .await
        .unwrap();
    client.read(|nb| {
        assert_eq!(nb.get("Logical_Switch_Port", port).unwrap()["addresses"], Datum::set(["b"]));
        assert!(nb.by_key("Logical_Switch", "k", "v").is_empty());
        assert_eq!(nb.by_key("Logical_Switch", "k", "w").len(), 1);
    });
    let selected = client
        .transact(vec![Op::select("Logical_Switch", "name", &Datum::one("s1"), &["name"])])
        .await
        .unwrap();
    assert_eq!(selected[0].rows.len(), 1);
    client.transact(vec![Op::delete("Logical_Switch", id)]).await.unwrap();
    client.read(|nb| {
        assert_eq!(nb.rows("Logical_Switch").count(), 0);
        assert_eq!(nb.rows("Logical_Switch_Port").count(), 0, "children go with their parent");
    });
}

#[tokio::test]
async fn guards_and_constraints_refuse_and_change_nothing() {
    let databases = Databases::start().await;
    let client = connect(&databases).await;
    let group = row([("name", Datum::one("g"))]);
    client.transact(vec![Op::insert("Port_Group", &group, None)]).await.unwrap();
    let twice = client.transact(vec![Op::insert("Port_Group", &group, None)]).await.unwrap_err();
    assert!(twice.is_lost_race(), "{twice}");
    let switch = row([("name", Datum::one("s"))]);
    let insert = || {
        vec![
            Op::assert_absent("Logical_Switch", "name", &Datum::one("s")),
            Op::insert("Logical_Switch", &switch, None),
        ]
    };
    let id = client.transact(insert()).await.unwrap()[1].uuid.unwrap();
    assert!(client.transact(insert()).await.unwrap_err().is_lost_race());
    let stale =
        Op::assert_unchanged("Logical_Switch", id, &row([("external_ids", Datum::map([("k", "x")]))]));
    assert!(client.transact(vec![stale, Op::delete("Logical_Switch", id)]).await.unwrap_err().is_lost_race());
    assert_eq!(client.read(|nb| nb.rows("Logical_Switch").count()), 1);
    let wrong = client.transact(vec![Op::insert("No_Such_Table", &group, None)]).await.unwrap_err();
    assert!(matches!(wrong, NetError::OvsdbRefused { .. }) && !wrong.is_lost_race());
}

#[tokio::test]
async fn others_changes_arrive_and_a_restart_is_survived() {
    let mut databases = Databases::start().await;
    let client = connect(&databases).await;
    let mut changes = client.changes();
    databases.nb(&["ls-add", "theirs"]);
    eventually("their row", SOON, || client.read(|nb| nb.by_name("Logical_Switch", "theirs").map(|_| ())))
        .await;
    assert_eq!(changes.recv().await.unwrap().table, "Logical_Switch");
    databases.kill();
    let mut connected = client.connected();
    tokio::time::timeout(SOON, connected.wait_for(|up| !*up)).await.unwrap().unwrap();
    let down = client.transact(vec![Op::comment("nobody hears")]).await.unwrap_err();
    assert!(matches!(down, NetError::OvsdbDown(_)));
    databases.serve().await;
    client.ready(SOON).await.unwrap();
    databases.nb(&["ls-add", "later"]);
    eventually("both rows", SOON, || {
        client.read(|nb| {
            nb.by_name("Logical_Switch", "later").and(nb.by_name("Logical_Switch", "theirs")).map(|_| ())
        })
    })
    .await;
}

#[tokio::test]
async fn many_transactions_at_once() {
    let databases = Databases::start().await;
    let client = connect(&databases).await;
    let one = |n: usize| {
        let client = client.clone();
        async move {
            let name = format!("s{n}");
            client
                .transact(vec![Op::insert(
                    "Logical_Switch",
                    &row([("name", Datum::one(name.as_str()))]),
                    None,
                )])
                .await
                .unwrap();
            assert!(
                client.read(|nb| nb.by_name("Logical_Switch", &name).is_some()),
                "not in the replica: {name}"
            );
        }
    };
    futures::future::join_all((0..200).map(one)).await;
    assert_eq!(client.read(|nb| nb.rows("Logical_Switch").count()), 200);
}

#[tokio::test]
async fn a_broken_server_costs_a_reconnect() {
    use tokio::io::AsyncWriteExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let client = Client::start(vec![Remote::Unix(path)], "OVN_Northbound", TABLES);
    for garbage in
        [&b"hello"[..], b"]]]", &[b'['; 1000], b"{\"id\":1,\"result\":{\"tables\":7},\"error\":null}"]
    {
        let (mut stream, _) = tokio::time::timeout(SOON, listener.accept()).await.unwrap().unwrap();
        let _ = stream.write_all(garbage).await;
    }
    assert!(!client.is_connected());
}
