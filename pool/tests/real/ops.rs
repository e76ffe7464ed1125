//! Compound operations: all steps or none.

use bytes::Bytes;
use pool::{Cmp, Error, ReadOp, ReadResult, WriteOp};

use crate::space;

#[tokio::test]
async fn writes_are_atomic() {
    let p = space("ops").await;
    let first = WriteOp::new()
        .create_exclusive()
        .write_full("data")
        .set_xattr("tag", "one")
        .omap_set([("k".to_owned(), Bytes::from("v"))]);
    let v1 = p.write_op("o", first.clone()).await.unwrap().version;
    assert!(matches!(p.write_op("o", first).await, Err(Error::Exists { .. })));

    // Each of these has an assertion that fails after (or before) a change that must not happen.
    let change = || WriteOp::new().write_full("changed").set_xattr("tag", "two").omap_clear();
    let refused = [
        change().cmp_xattr("tag", Cmp::Eq, "other"),
        change().cmp_ext(0, "other"),
        change().omap_cmp("k", Cmp::Eq, "other"),
        WriteOp::new().assert_version(v1 + 1).write_full("changed"),
        WriteOp::new().assert_version(v1.saturating_sub(1)).write_full("changed"),
        WriteOp::new().cmp_ext(1, "ATA").write_full("changed"),
        WriteOp::new().cmp_xattr("absent", Cmp::Eq, "x").write_full("changed"),
    ];
    for (i, op) in refused.into_iter().enumerate() {
        let e = p.write_op("o", op).await.unwrap_err();
        assert!(e.is_cancelled(), "{i}: {e:?}");
    }
    let mut now = p.read_op("o", ReadOp::new().read(0, 100).get_xattrs().omap_get("", "", 10)).await.unwrap();
    assert_eq!(now.version, v1);
    assert_eq!(now.data().unwrap(), "data");
    assert_eq!(now.xattrs().unwrap()["tag"], "one");
    assert_eq!(now.omap().unwrap().entries, [("k".into(), Bytes::from("v"))]);

    let held = WriteOp::new()
        .assert_exists()
        .assert_version(v1)
        .cmp_xattr("tag", Cmp::Eq, "one")
        .cmp_ext(0, "data")
        .omap_cmp("k", Cmp::Eq, "v")
        .append("+")
        .rm_xattr("tag")
        .omap_remove(["k".to_owned()]);
    let v2 = p.write_op("o", held).await.unwrap().version;
    assert!(v2 > v1);
    let e = p.write_op("none", WriteOp::new().assert_exists().append("x")).await.unwrap_err();
    assert!(e.is_not_found(), "{e:?}");
    assert!(p.stat("none").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn every_write_step() {
    let p = space("steps").await;
    let keys = |ks: &[&str]| ks.iter().map(|k| ((*k).to_owned(), Bytes::from("v"))).collect::<Vec<_>>();
    let op = WriteOp::new()
        .create()
        .alloc_hint(1 << 22, 1 << 16, 0)
        .write(4, "abcd")
        .append("e")
        .zero(0, 5)
        .truncate(8)
        .omap_set(keys(&["a", "b", "c", "d"]));
    p.write_op("o", op).await.unwrap();
    p.write_op("o", WriteOp::new().omap_remove_range("b", "d")).await.unwrap();
    assert_eq!(&p.read("o", 0, 100).await.unwrap()[..], b"\0\0\0\0\0bcd");
    let left: Vec<_> = p.omap_get_all("o", "").await.unwrap().into_iter().map(|(k, _)| k).collect();
    assert_eq!(left, ["a", "d"]);
    // A step that may fail does not end the operation.
    let op = WriteOp::new().create_exclusive().fail_ok().write_full("new");
    p.write_op("o", op).await.unwrap();
    assert_eq!(p.read("o", 0, 100).await.unwrap(), "new");
    p.write_op("o", WriteOp::new().omap_clear().remove()).await.unwrap();
    assert!(p.stat("o").await.unwrap_err().is_not_found());
    // A key with a NUL, and one that a C string would cut.
    p.omap_set("z", [("a\0b".to_owned(), Bytes::from(&b"1\x002"[..]))]).await.unwrap();
    assert_eq!(p.omap_get_all("z", "").await.unwrap(), [("a\0b".into(), Bytes::from(&b"1\x002"[..]))]);
    assert!(matches!(p.omap_get("z", "a\0", "", 1).await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn comparisons() {
    let p = space("cmp").await;
    p.set_xattr("o", "n", "m").await.unwrap();
    p.omap_set("o", [("n".to_owned(), Bytes::from("m"))]).await.unwrap();
    // The stored "m" compared with "l", "m" and "n".
    let table = [
        (Cmp::Eq, [false, true, false]),
        (Cmp::Ne, [true, false, true]),
        (Cmp::Gt, [true, false, false]),
        (Cmp::Gte, [true, true, false]),
        (Cmp::Lt, [false, false, true]),
        (Cmp::Lte, [false, true, true]),
    ];
    for (op, want) in table {
        for (value, want) in ["l", "m", "n"].into_iter().zip(want) {
            let xattr = p.read_op("o", ReadOp::new().cmp_xattr("n", op, value).stat()).await;
            assert_eq!(xattr.is_ok(), want, "xattr {op:?} {value}: {xattr:?}");
            if matches!(op, Cmp::Eq | Cmp::Lt | Cmp::Gt) {
                let omap = p.read_op("o", ReadOp::new().omap_cmp("n", op, value).stat()).await;
                assert_eq!(omap.is_ok(), want, "omap {op:?} {value}: {omap:?}");
            }
        }
    }
}

#[tokio::test]
async fn reads_with_results() {
    let p = space("reads").await;
    let v = p.write_op("o", WriteOp::new().write_full("0123456789").set_xattr("a", "b")).await.unwrap();
    let op = ReadOp::new()
        .assert_exists()
        .assert_version(v.version)
        .read(0, 3)
        .read(8, 10)
        .stat()
        .get_xattrs()
        .omap_get_by_keys(["x".to_owned()]);
    let out = p.read_op("o", op).await.unwrap();
    assert_eq!(out.version, v.version);
    let results: Vec<_> = out.results.into_iter().map(Result::unwrap).collect();
    assert_eq!(results[2], ReadResult::Data("012".into()));
    assert_eq!(results[3], ReadResult::Data("89".into()));
    assert!(matches!(results[4], ReadResult::Stat { size: 10, .. }));
    assert!(
        p.read_op("o", ReadOp::new().assert_version(v.version + 1).stat()).await.unwrap_err().is_cancelled()
    );
    assert!(p.read_op("o", ReadOp::new().cmp_ext(0, "x").stat()).await.unwrap_err().is_cancelled());
    assert!(p.read_op("none", ReadOp::new().stat()).await.unwrap_err().is_not_found());
    // Operations that were built but never sent, and empty ones.
    drop(ReadOp::new().omap_get("", "", 10));
    assert!(matches!(p.read_op("o", ReadOp::new()).await, Err(Error::Invalid { .. })));
}

/// Ceph's encoding of a string: length, bytes.
fn encoded(s: &str) -> Vec<u8> {
    let mut out = u32::try_from(s.len()).unwrap().to_le_bytes().to_vec();
    out.extend_from_slice(s.as_bytes());
    out
}

#[tokio::test]
async fn object_classes() {
    let p = space("exec").await;
    // hello.say_hello reads, hello.record_hello writes, numops.add adds to an omap value.
    let hello = p.exec("o", "hello", "say_hello", "you").await;
    if let Ok(out) = hello {
        assert_eq!(out, "Hello, you!");
    }
    let input = [encoded("n"), encoded("5")].concat();
    p.write_op("o", WriteOp::new().exec("numops", "add", input.clone())).await.unwrap();
    p.exec("o", "numops", "add", input).await.unwrap();
    let got = p.omap_get_keys("o", ["n".to_owned()]).await.unwrap();
    let value: f64 = std::str::from_utf8(&got["n"]).unwrap().parse().unwrap();
    assert_eq!(value, 10.0);
    let bad = [encoded("n"), encoded("not a number")].concat();
    let e = p.write_op("o", WriteOp::new().exec("numops", "add", bad).set_xattr("x", "y")).await.unwrap_err();
    assert!(matches!(e, Error::Invalid { .. } | Error::Other { .. }), "{e:?}");
    assert!(p.get_xattr("o", "x").await.unwrap_err().is_not_found());
    let e = p.exec("o", "no_such_class", "m", "").await.unwrap_err();
    assert!(matches!(e, Error::Other { errno: 95, .. }), "{e:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_serialise_writers() {
    let p = space("cas").await;
    p.write_full("n", "0".into()).await.unwrap();
    let each = (0..8).map(|_| {
        let p = p.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while done < 20 {
                let mut read = p.read_op("n", ReadOp::new().read(0, 10)).await.unwrap();
                let n: u32 = std::str::from_utf8(&read.data().unwrap()).unwrap().parse().unwrap();
                let op = WriteOp::new().assert_version(read.version).write_full((n + 1).to_string());
                match p.write_op("n", op).await {
                    Ok(_) => done += 1,
                    Err(e) if e.is_cancelled() => {}
                    Err(e) => panic!("{e}"),
                }
            }
        })
    });
    futures::future::try_join_all(each).await.unwrap();
    assert_eq!(p.read("n", 0, 10).await.unwrap(), "160");
}
