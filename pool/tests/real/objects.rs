//! Simple operations on objects.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::TryStreamExt;
use pool::Error;

use crate::space;

#[tokio::test]
async fn data() {
    let p = space("data").await;
    assert!(p.read("none", 0, 10).await.unwrap_err().is_not_found());
    assert!(p.stat("none").await.unwrap_err().is_not_found());
    assert!(p.remove("none").await.unwrap_err().is_not_found());

    p.write_full("o", "hello world".into()).await.unwrap();
    assert_eq!(&p.read("o", 0, 100).await.unwrap()[..], b"hello world");
    assert_eq!(&p.read("o", 6, 3).await.unwrap()[..], b"wor");
    assert!(p.read("o", 100, 3).await.unwrap().is_empty());
    assert!(p.read("o", 0, 0).await.unwrap().len() <= 11);
    p.write("o", 6, "there".into()).await.unwrap();
    p.append("o", "!".into()).await.unwrap();
    assert_eq!(&p.read("o", 0, 100).await.unwrap()[..], b"hello there!");
    p.zero("o", 0, 5).await.unwrap();
    p.truncate("o", 8).await.unwrap();
    assert_eq!(&p.read("o", 0, 100).await.unwrap()[..], b"\0\0\0\0\0 th");
    let stat = p.stat("o").await.unwrap();
    assert_eq!(stat.size, 8);
    let age = SystemTime::now().duration_since(stat.mtime).unwrap_or_default();
    assert!(age < Duration::from_secs(60), "{age:?}");
    p.write("gap", 5, "x".into()).await.unwrap();
    assert_eq!(&p.read("gap", 0, 100).await.unwrap()[..], b"\0\0\0\0\0x");
    p.remove("o").await.unwrap();
    assert!(p.read("o", 0, 1).await.unwrap_err().is_not_found());
    p.write_full("empty", Bytes::new()).await.unwrap();
    assert_eq!(p.stat("empty").await.unwrap().size, 0);
}

#[tokio::test]
async fn names() {
    let p = space("names").await;
    for bad in ["", "a\0b"] {
        assert!(matches!(p.write_full(bad, "x".into()).await, Err(Error::Invalid { .. })), "{bad:?}");
        assert!(matches!(p.read(bad, 0, 1).await, Err(Error::Invalid { .. })));
    }
    let long = "x".repeat(5000); // more than osd_max_object_name_len
    assert!(matches!(p.write_full(&long, "x".into()).await, Err(Error::Invalid { .. })));
    for good in ["a/b", "ü €", " ", "%00", "..", &"y".repeat(1500)] {
        p.write_full(good, good.to_owned().into()).await.unwrap();
        assert_eq!(p.read(good, 0, 5000).await.unwrap(), good.as_bytes());
    }
}

#[tokio::test]
async fn large_objects() {
    let p = space("large").await;
    let data: Bytes = (0..8u32 << 20).map(|i| ((i * 7) >> 3) as u8).collect::<Vec<_>>().into();
    p.write_full("o", data.clone()).await.unwrap();
    assert_eq!(p.read("o", 0, data.len()).await.unwrap(), data);
    assert_eq!(p.read("o", 12345, 1 << 20).await.unwrap(), data.slice(12345..12345 + (1 << 20)));
    // Larger than an OSD takes in one operation (osd_max_write_size, 90 MiB).
    let huge = Bytes::from(vec![1u8; 100 << 20]);
    assert!(matches!(p.write_full("huge", huge).await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn xattrs() {
    let p = space("xattrs").await;
    assert!(p.get_xattrs("o").await.unwrap_err().is_not_found());
    p.set_xattr("o", "a", "1").await.unwrap();
    p.set_xattr("o", "big", vec![7u8; 20_000]).await.unwrap();
    p.set_xattr("o", "empty", "").await.unwrap();
    assert_eq!(p.get_xattr("o", "a").await.unwrap(), "1");
    assert_eq!(p.get_xattr("o", "big").await.unwrap().len(), 20_000);
    assert_eq!(p.get_xattr("o", "empty").await.unwrap(), "");
    assert!(p.get_xattr("o", "b").await.unwrap_err().is_not_found());
    assert!(p.get_xattr("none", "b").await.unwrap_err().is_not_found());
    let all = p.get_xattrs("o").await.unwrap();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "big", "empty"]);
    p.rm_xattr("o", "big").await.unwrap();
    assert_eq!(p.get_xattrs("o").await.unwrap().len(), 2);
}

#[tokio::test]
async fn omap() {
    let p = space("omap").await;
    assert!(p.omap_get("o", "", "", 10).await.unwrap_err().is_not_found());
    let entry = |i: usize| (format!("k{i:05}"), Bytes::from(format!("v{i}")));
    p.omap_set("o", (0..3000).map(entry)).await.unwrap();
    p.omap_set("o", [("other".into(), Bytes::new())]).await.unwrap();

    let (page, more) = p.omap_get("o", "", "", 3).await.unwrap();
    assert_eq!(page, (0..3).map(entry).collect::<Vec<_>>());
    assert!(more);
    let (page, more) = p.omap_get("o", "k02998", "", 100).await.unwrap();
    assert_eq!(page, [entry(2999), ("other".into(), Bytes::new())]);
    assert!(!more);
    let (page, more) = p.omap_get("o", "", "k0100", 100).await.unwrap();
    assert_eq!(page, (1000..1010).map(entry).collect::<Vec<_>>());
    assert!(!more);
    assert_eq!(p.omap_get_all("o", "k").await.unwrap().len(), 3000);

    let keys = ["k00001", "nothing", "other"].map(String::from);
    let got = p.omap_get_keys("o", keys).await.unwrap();
    let want = BTreeMap::from([entry(1), ("other".into(), Bytes::new())]);
    assert_eq!(got, want);
    p.omap_remove("o", ["k00001", "nothing"].map(String::from)).await.unwrap();
    assert_eq!(p.omap_get_all("o", "").await.unwrap().len(), 3000);
}

#[tokio::test]
async fn listing_and_namespaces() {
    let p = space("list").await;
    let q = p.with_namespace(&testbed::unique("list-other"));
    let mut want: Vec<_> = (0..300).map(|i| format!("o-{i}")).collect();
    futures::future::try_join_all(want.iter().map(|n| p.write_full(n, "x".into()))).await.unwrap();
    q.write_full("elsewhere", "x".into()).await.unwrap();

    let mut got: Vec<String> = p.list().try_collect().await.unwrap();
    got.sort();
    want.sort();
    assert_eq!(got, want);
    let (mut n, mut pages, mut cursor) = (0, 0, None);
    loop {
        let (names, next) = p.list_page(cursor, 37).await.unwrap();
        assert!(names.len() <= 37);
        n += names.len();
        pages += 1;
        match next {
            Some(c) => cursor = Some(c),
            None => break,
        }
    }
    assert_eq!(n, 300);
    assert!(pages >= 9);
    assert_eq!(q.list().try_collect::<Vec<_>>().await.unwrap(), ["elsewhere"]);
    assert_eq!(p.remove_all().await.unwrap(), 300);
    assert_eq!(p.list().try_collect::<Vec<_>>().await.unwrap(), Vec::<String>::new());
    assert!(matches!(p.with_namespace("").remove_all().await, Err(Error::Invalid { .. })));
    assert_eq!(q.remove_all().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once() {
    let p = space("many").await;
    let each = (0..2000).map(|i| {
        let p = p.clone();
        tokio::spawn(async move {
            let (oid, data) = (format!("o{}", i % 100), Bytes::from(vec![i as u8; 10_000]));
            p.write_full(&oid, data).await.unwrap();
            let read = p.read(&oid, 0, 20_000).await.unwrap();
            assert!(read.len() == 10_000 && read.iter().all(|b| *b == read[0]));
        })
    });
    futures::future::try_join_all(each).await.unwrap();
}
