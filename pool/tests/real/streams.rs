//! Whole images: writer, reader, copy.

use bytes::Bytes;
use pool::{CreateOptions, ImageReader, ImageWriter, copy_image, copy_range};

use crate::images::{bytes, image};
use crate::{cluster, place};

const MIB: u64 = 1 << 20;

/// Bytes, zeroes, bytes: 26 MiB.
fn mixed() -> Bytes {
    [&bytes(7 * MIB as usize, 1)[..], &vec![0; 13 * MIB as usize], &bytes(6 * MIB as usize, 2)]
        .concat()
        .into()
}

#[tokio::test]
async fn write_and_read_back() {
    let p = place("writer").await;
    let data = mixed();
    for piece in [1 << 20, 3_000_017, 26 << 20, 70_001] {
        let i = image(&p, &format!("i{piece}"), 32 * MIB).await;
        let mut w = ImageWriter::new(i.clone(), 0);
        for at in (0..data.len()).step_by(piece) {
            w.write(data.slice(at..(at + piece).min(data.len()))).await.unwrap();
        }
        assert_eq!(w.position(), data.len() as u64);
        assert_eq!(w.finish().await.unwrap(), data.len() as u64);
        assert_eq!(i.used_bytes().await.unwrap(), 8 * MIB + 8 * MIB, "zeroes were written");
        let mut r = ImageReader::new(i, 0, data.len() as u64);
        let mut back = Vec::new();
        while let Some(part) = r.next().await.unwrap() {
            back.extend_from_slice(&part);
        }
        assert!(back == data);
    }
}

#[tokio::test]
async fn overwriting_zeroes() {
    let p = place("overwrite").await;
    let i = image(&p, "i", 32 * MIB).await;
    i.write_at(0, bytes(32 * MIB as usize, 5)).await.unwrap();
    let data = mixed();
    let mut w = ImageWriter::new(i.clone(), MIB).overwrite().depth(3);
    w.write(data.clone()).await.unwrap();
    w.skip(MIB).await.unwrap();
    w.finish().await.unwrap();
    assert_eq!(i.read_at(MIB, data.len()).await.unwrap(), data);
    assert_eq!(i.read_at(27 * MIB, 2 * MIB as usize).await.unwrap()[..MIB as usize], vec![0; MIB as usize]);
    assert_eq!(
        i.read_at(28 * MIB, 10).await.unwrap(),
        bytes(32 * MIB as usize, 5).slice(28 * MIB as usize..28 * MIB as usize + 10)
    );
}

#[tokio::test]
async fn errors_are_reported() {
    let p = place("writer-err").await;
    let i = image(&p, "i", 8 * MIB).await;
    let mut w = ImageWriter::new(i.clone(), 0);
    let result = async {
        for _ in 0..10 {
            w.write(bytes(MIB as usize, 1)).await?;
        }
        w.finish().await
    }
    .await;
    assert!(result.is_err(), "10 MiB went into 8");
    let mut r = ImageReader::new(i, 0, 10 * MIB);
    assert_eq!(r.next().await.unwrap().unwrap().len() as u64, 4 * MIB);
    assert!(
        async {
            while r.next().await?.is_some() {}
            Ok::<_, pool::Error>(())
        }
        .await
        .is_err()
    );
}

#[tokio::test]
async fn copies_between_connections() {
    let p = place("copy").await;
    let q = cluster().await.pool("rbd", Some(p.namespace()));
    let a = image(&p, "a", 32 * MIB).await;
    let data = mixed();
    let mut w = ImageWriter::new(a.clone(), 2 * MIB);
    w.write(data.clone()).await.unwrap();
    w.finish().await.unwrap();
    let b = image(&q, "b", 32 * MIB).await;
    let copied = copy_image(&a, &b, |_, _| {}).await.unwrap();
    assert!(copied <= 20 * MIB, "{copied}");
    assert!(b.read_at(2 * MIB, data.len()).await.unwrap() == data);

    // What changed since a snapshot, zeroes too.
    a.snap_create("s").await.unwrap();
    a.write_at(3 * MIB, bytes(100, 7)).await.unwrap();
    a.discard(24 * MIB, 4 * MIB).await.unwrap();
    copy_range(&a, Some("s"), &b, 0, 32 * MIB, |_| {}).await.unwrap();
    assert!(a.read_at(0, 32 * MIB as usize).await.unwrap() == b.read_at(0, 32 * MIB as usize).await.unwrap());

    // From a clone: with what its parent has.
    p.rbd().clone_image("a", "s", &p, "c", CreateOptions::default()).await.unwrap();
    let c = p.rbd().open("c").await.unwrap();
    let d = image(&q, "d", 32 * MIB).await;
    copy_image(&c, &d, |_, _| {}).await.unwrap();
    assert!(d.read_at(2 * MIB, data.len()).await.unwrap() == data);
}
