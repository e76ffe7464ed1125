//! Containers and accounts on every database: the same rows, the same order, the same refusals.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use objectstore::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_and_accounts_on_every_database() {
    for db in testbed::databases().await {
        let namespace = testbed::unique("rows");
        let s = store(db.clone(), &namespace, config()).await;
        let other = store(db, &namespace, config()).await;
        let access = Access::of(caller("p", "member"));
        let make = async |access: &Access, project: &str, name: &str, as_bucket: bool| {
            let new = NewContainer { policy: None, as_bucket };
            s.make_container(access, project, name, &new, &|_| Ok(())).await
        };
        let names = ["Zebra", "a", "a-dir", "b", "ü", "日本", "a\u{10ffff}"];
        for name in names {
            assert!(make(&access, "p", name, false).await.unwrap().created, "{name}");
            assert!(!make(&access, "p", name, false).await.unwrap().created, "{name}");
        }
        // In the order of UTF-8's bytes, whatever the database's collation.
        let mut sorted = names.map(str::to_owned).to_vec();
        sorted.sort();
        let list = async |query: AccountQuery| -> Vec<String> {
            let items = s.list_account(&access, "p", &query).await.unwrap();
            items
                .into_iter()
                .map(|i| match i {
                    AccountItem::Container(c, _) => c.name.clone(),
                    AccountItem::Prefix(p) => p,
                })
                .collect()
        };
        let all = AccountQuery { limit: 100, ..AccountQuery::default() };
        assert_eq!(list(all.clone()).await, sorted);
        let reverse = AccountQuery { reverse: true, ..all.clone() };
        assert_eq!(list(reverse).await, sorted.iter().rev().cloned().collect::<Vec<_>>());
        let page = AccountQuery { marker: "a".into(), limit: 2, ..all.clone() };
        assert_eq!(list(page).await, sorted[2..4]);
        let rolled = AccountQuery { delimiter: "-".into(), prefix: "a".into(), ..all };
        assert_eq!(list(rolled).await, ["a", "a-", "a\u{10ffff}"]);

        // Bucket names are one space; Swift's containers are each project's own.
        let stranger = Access::of(caller("q", "member"));
        make(&access, "p", "shared-name", true).await.unwrap();
        let taken = make(&stranger, "q", "shared-name", true).await;
        assert!(matches!(taken, Err(ObjectError::BucketExists { mine: false })));
        let again = make(&access, "p", "shared-name", true).await;
        assert!(matches!(again, Err(ObjectError::BucketExists { mine: true })));
        assert!(make(&stranger, "q", "shared-name", false).await.unwrap().created);
        let found = s.bucket(&stranger, "shared-name", Need::List).await.unwrap();
        assert_eq!(found.project_id, "q");
        let third = Access::of(caller("r", "member"));
        assert!(matches!(s.bucket(&third, "shared-name", Need::List).await, Err(ObjectError::Forbidden)));
        assert!(matches!(make(&stranger, "p", "x", false).await, Err(ObjectError::Forbidden)));

        // Sums catch up; a change that one process makes is known to the other.
        let c = s.bucket(&access, "shared-name", Need::Write).await.unwrap();
        put(&s, &c, "k", "12345").await;
        let usage = s.account_usage("p").await.unwrap();
        assert_eq!((usage.containers, usage.counts), (8, Counts { objects: 1, bytes: 5 }));
        assert!(matches!(s.delete_container(&access, "p", "shared-name").await, Err(ObjectError::NotEmpty)));
        s.delete_object(&c, "k", Condition::Always).await.unwrap();
        s.delete_container(&access, "p", "shared-name").await.unwrap();
        let gone = s.container(&access, "p", "shared-name", Need::Read).await;
        assert!(matches!(gone, Err(ObjectError::NoSuchContainer)));
        other.account_usage("p").await.unwrap();
        let rule = |info: &mut AccountInfo| {
            info.meta.insert("k".into(), "v".into());
            Ok(())
        };
        s.change_account(&access, "p", &rule).await.unwrap();
        assert_eq!(s.account(&access, "p").await.unwrap().info.meta["k"], "v");
        let quota = |info: &mut AccountInfo| {
            info.quota.bytes = Some(1);
            Ok(())
        };
        assert!(matches!(s.change_account(&access, "p", &quota).await, Err(ObjectError::Forbidden)));
        s.sweep_once().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growth_and_scrub_on_every_database() {
    for db in testbed::databases().await {
        let namespace = testbed::unique("obj");
        let full = Config { index_shard_rows: 4, scrub_bytes_per_s: 1 << 40, ..config() };
        let (a, b) = (store(db.clone(), &namespace, full.clone()).await, store(db, &namespace, full).await);
        let access = Access::of(caller("p", "member"));
        let made = a.make_container(&access, "p", "c", &NewContainer::default(), &|_| Ok(())).await.unwrap();
        let c = made.container;
        assert!(!a.grow(c.id).await.unwrap(), "it is not full");
        for i in 0..20 {
            put(&a, &c, &format!("k{i:02}"), "x").await;
        }
        // Both at once: one of them does it.
        let (one, two) = tokio::join!(a.grow(c.id), b.grow(c.id));
        assert!(one.unwrap() || two.unwrap());
        let now = b.container(&access, "p", "c", Need::Read).await.unwrap();
        assert!(now.index_shards() >= 8);
        assert_eq!(names(&b, &now).await.len(), 20);
        assert_eq!(a.counts(&c).await.unwrap(), Counts { objects: 20, bytes: 20 });
        b.scrub_once().await.unwrap();
        assert!(b.damage().await.unwrap().is_empty());
        let pool = tiers(&namespace).await.get("objects").unwrap().pool;
        let head = format!("h.{}.k07", c.id);
        pool.write(&head, 0, "y".into()).await.unwrap();
        a.scrub_once().await.unwrap();
        let damage = b.damage().await.unwrap();
        assert_eq!(damage.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["k07"]);
        pool.write(&head, 0, "x".into()).await.unwrap();
        b.scrub_once().await.unwrap();
        assert!(a.damage().await.unwrap().is_empty());
    }
}
