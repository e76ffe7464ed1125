//! The object store beside radosgw (beast, tcp_nodelay=1) and `rados bench`: the same requests by the same client to
//! both, in turn, on the same cluster.

mod load;
mod radosgw;
mod s3;
mod table;

use crate::cloud::Cloud;
use crate::{BenchError, Result};
use bytes::Bytes;
use load::{Much, Took, run};
use radosgw::{RadosGw, collect_garbage, rados_bench};
use s3::{Door, Request};
use std::fmt::Write as _;
use std::time::Duration;
pub(crate) use table::Table;

const PREFIXES: u64 = 400;
/// Bytes that one load writes at most: what all of them leave must find room.
const MOST_BYTES: u64 = 4 << 30;
/// Bodies from this size on are removed when they have been read.
const LARGE: usize = 64 << 10;
const PART: usize = 16 << 20;
const PARTS: u64 = 64;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Seconds of each load.
    pub(crate) seconds: u64,
    /// Objects of the bucket that is listed, and through which it is seen that costs stay flat.
    pub(crate) objects: u64,
    pub(crate) buckets: u64,
}

/// What is asked of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Load {
    /// PUT and GET of 4 KiB, 64 KiB, 4 MiB.
    Small,
    Medium,
    Large,
    Listings,
    Bulk,
    Multipart,
    Buckets,
}

/// `loads` alone, if there are any.
pub(crate) async fn against_radosgw(cloud: &Cloud, scale: Scale, loads: &[Load]) -> Result<Table> {
    let wanted = |load| loads.is_empty() || loads.contains(&load);
    let ours = Door {
        name: "aquifer",
        address: cloud.s3_address().to_owned(),
        access_key: cloud.s3_env("AWS_ACCESS_KEY_ID")?,
        secret: cloud.s3_env("AWS_SECRET_ACCESS_KEY")?,
        pid: cloud.pid(),
    };
    let gateway = RadosGw::start(cloud)?;
    let bench = Bench { cloud, ours: &ours, theirs: &gateway.door, scale };
    let mut table = Table::default();
    let bodies = [
        (Load::Small, 4 << 10, "4 KiB"),
        (Load::Medium, 64 << 10, "64 KiB"),
        (Load::Large, 4 << 20, "4 MiB"),
    ];
    for (_, size, text) in bodies.into_iter().filter(|(load, ..)| wanted(*load)) {
        bench.bodies(size, text, &mut table).await?;
    }
    if wanted(Load::Listings) {
        bench.listings(&mut table).await?;
    }
    if wanted(Load::Bulk) {
        bench.bulk(&mut table).await?;
    }
    if wanted(Load::Multipart) {
        bench.multipart(&mut table).await?;
    }
    if wanted(Load::Buckets) {
        bench.buckets(&mut table).await?;
    }
    Ok(table)
}

struct Bench<'a> {
    cloud: &'a Cloud,
    ours: &'a Door,
    theirs: &'a Door,
    scale: Scale,
}

/// A PUT of the object with this number; names are spread as hashes are.
fn put(bucket: &str, n: u64, body: &Bytes) -> Request {
    Request::new("PUT", format!("/{bucket}/{}", name(n))).body(body.clone())
}

fn name(n: u64) -> String {
    format!("{:08x}-{n:09}", (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32)
}

/// A request to delete the `n`th thousand.
fn delete(bucket: &str, n: u64) -> Request {
    let mut xml = "<Delete><Quiet>true</Quiet>".to_owned();
    for i in n * 1000..(n + 1) * 1000 {
        let _ = write!(xml, "<Object><Key>{}</Key></Object>", name(i));
    }
    xml.push_str("</Delete>");
    Request::new("POST", format!("/{bucket}")).query("delete=").body(xml).with_md5()
}

impl Bench<'_> {
    fn much(&self, size: usize) -> Much {
        Much::For(Duration::from_secs(self.scale.seconds), MOST_BYTES / size as u64)
    }

    /// The same load on both.
    async fn both<F>(&self, connections: usize, much: Much, make: F) -> Result<[Took; 2]>
    where
        F: Fn(u64) -> Request + Clone + Send + Sync + 'static,
    {
        let ours = run(self.ours, connections, much, make.clone()).await?;
        Ok([ours, run(self.theirs, connections, much, make).await?])
    }

    async fn make_bucket(&self, bucket: &str) -> Result<()> {
        for door in [self.ours, self.theirs] {
            door.call(&Request::new("PUT", format!("/{bucket}"))).await?;
        }
        Ok(())
    }

    async fn bodies(&self, size: usize, text: &str, table: &mut Table) -> Result<()> {
        for connections in [1, 16, 64] {
            let bucket = format!("bodies-{size}-{connections}");
            self.make_bucket(&bucket).await?;
            let body = Bytes::from_iter((0..size).map(|i: usize| (i * 31 / 7) as u8));
            let (seconds, most) = (self.scale.seconds, MOST_BYTES / size as u64);
            let (bare_put, bare_get) = rados_bench(self.cloud, size, connections, seconds, most)?;
            let (b, data) = (bucket.clone(), body);
            let [o, t] = self.both(connections, self.much(size), move |n| put(&b, n, &data)).await?;
            let aim = match size {
                4096 => "2×, 0.6 of rados bench",
                65536 => "2×",
                _ if connections == 64 => "0.9 of rados bench, 150 MiB",
                _ => "0.9 of rados bench",
            };
            table.row(&format!("{text} PUT, {connections} at once"), &o, &t, Some(bare_put), aim);
            let written = [o.requests, t.requests].map(|n| n + connections as u64);
            let there = o.requests.min(t.requests).max(1);
            let b = bucket.clone();
            let get = move |n: u64| Request::new("GET", format!("/{b}/{}", name(n * 7 % there)));
            let much = Much::For(Duration::from_secs(seconds), u64::MAX);
            let [o, t] = self.both(connections, much, get).await?;
            if size >= LARGE {
                self.empty(&bucket, written).await?;
            }
            let aim = match size {
                4096 => "3×, 0.6 of rados bench",
                65536 => "2×",
                _ => "0.9 of rados bench",
            };
            table.row(&format!("{text} GET, {connections} at once"), &o, &t, Some(bare_get), aim);
        }
        Ok(())
    }

    /// Removes so many objects from either side's bucket.
    async fn empty(&self, bucket: &str, written: [u64; 2]) -> Result<()> {
        for (door, written) in [self.ours, self.theirs].into_iter().zip(written) {
            let bucket = bucket.to_owned();
            let make = move |n| delete(&bucket, n);
            run(door, 4, Much::Requests(written.div_ceil(1000)), make).await?;
        }
        collect_garbage(self.cloud)
    }

    async fn listings(&self, table: &mut Table) -> Result<()> {
        self.make_bucket("many").await?;
        let (objects, mut there) = (self.scale.objects, 0);
        // Tenth by tenth: that one costs what the other does is what flat means.
        let tenth = (objects / 10).max(1);
        while there < objects {
            let more = tenth.min(objects - there);
            let make = move |n: u64| put("many", there + n, &Bytes::from_static(b"x"));
            let [o, t] = self.both(64, Much::Requests(more), make).await?;
            there += more;
            table.row(&format!("1 B PUT into a bucket of {there}, 64 at once"), &o, &t, None, "flat");
        }
        let pages = move |n: u64| {
            // 10,000 objects are ten pages, as S3 gives them; they begin anywhere.
            let marker = format!("{:08x}", (n / 10).wrapping_mul(0x9e37_79b9) as u32);
            let marker = format!("{marker}-{:09}", n % 10);
            Request::new("GET", "/many").query(format!("list-type=2&max-keys=1000&start-after={marker}"))
        };
        for connections in [1, 16] {
            let [o, t] = self.both(connections, Much::Requests(200), pages).await?;
            let what = format!("list 1,000 of {objects} objects, {connections} at once");
            table.row(&what, &o, &t, None, "2×");
        }
        let ours = self.ten_pages(self.ours).await?;
        let theirs = self.ten_pages(self.theirs).await?;
        table.row(&format!("list 10,000 of {objects} objects, page after page"), &ours, &theirs, None, "2×");
        self.make_bucket("prefixes").await?;
        let all = (objects / 10).clamp(PREFIXES, 100_000);
        let make = move |n: u64| {
            let path = format!("/prefixes/dir{:03}/{:06}", n % PREFIXES, n / PREFIXES);
            Request::new("PUT", path).body(Bytes::from_static(b"x"))
        };
        self.both(64, Much::Requests(all), make).await?;
        let rolled = |_| Request::new("GET", "/prefixes").query("delimiter=%2F&list-type=2&max-keys=1000");
        let [o, t] = self.both(1, Much::Requests(20), rolled).await?;
        table.row(&format!("delimiter listing over {all} in {PREFIXES} prefixes"), &o, &t, None, "4×");
        Ok(())
    }

    /// 10,000 objects as a client lists them: each page asks for what is behind the last.
    async fn ten_pages(&self, door: &Door) -> Result<Took> {
        let (cpu, began) = (crate::memory::cpu_seconds(door.pid)?, std::time::Instant::now());
        crate::memory::reset_peak(door.pid)?;
        let (mut connection, mut after, rounds) = (door.connect().await?, String::new(), 5);
        let mut slowest = Duration::ZERO;
        for _ in 0..rounds {
            let one = std::time::Instant::now();
            for _ in 0..10 {
                let query = format!("list-type=2&max-keys=1000&start-after={after}");
                let page = connection.call(&Request::new("GET", "/many").query(query)).await?;
                let page = String::from_utf8_lossy(&page);
                let last = page.rfind("<Key>").and_then(|at| page[at + 5..].split('<').next());
                last.unwrap_or_default().clone_into(&mut after);
            }
            slowest = slowest.max(one.elapsed());
        }
        Ok(Took {
            requests: rounds,
            seconds: began.elapsed().as_secs_f64(),
            p99_ms: slowest.as_secs_f64() * 1e3,
            cpu: (crate::memory::cpu_seconds(door.pid)? - cpu) * 1e4 / rounds as f64,
            peak_mib: crate::memory::peak_mib(door.pid)?,
        })
    }

    async fn bulk(&self, table: &mut Table) -> Result<()> {
        self.make_bucket("bulk").await?;
        let make = |n: u64| put("bulk", n, &Bytes::from_static(b"x"));
        self.both(64, Much::Requests(10_000), make).await?;
        let [o, t] = self.both(1, Much::Requests(10), |n| delete("bulk", n)).await?;
        table.row("bulk delete, 1,000 a request", &o, &t, None, "2×");
        Ok(())
    }

    async fn multipart(&self, table: &mut Table) -> Result<()> {
        self.make_bucket("parts").await?;
        let body = Bytes::from_iter((0..PART).map(|i| (i * 31 / 7) as u8));
        let mut took = Vec::new();
        for door in [self.ours, self.theirs] {
            let began = std::time::Instant::now();
            let said = door.call(&Request::new("POST", "/parts/big").query("uploads=")).await?;
            let said = String::from_utf8_lossy(&said).into_owned();
            let id = said.split("<UploadId>").nth(1).and_then(|s| s.split('<').next());
            let id = id.ok_or_else(|| BenchError::Said(format!("no upload in {said}")))?.to_owned();
            let (data, upload) = (body.clone(), id.clone());
            let part = move |n: u64| {
                let query = format!("partNumber={}&uploadId={upload}", n + 1);
                Request::new("PUT", "/parts/big").query(query).body(data.clone())
            };
            let mut all = run(door, 4, Much::Requests(PARTS), part).await?;
            let etag = md5_of(&body);
            let mut xml = "<CompleteMultipartUpload>".to_owned();
            for n in 1..=PARTS {
                let _ = write!(xml, "<Part><PartNumber>{n}</PartNumber><ETag>\"{etag}\"</ETag></Part>");
            }
            xml.push_str("</CompleteMultipartUpload>");
            let query = format!("uploadId={id}");
            door.call(&Request::new("POST", "/parts/big").query(query).body(xml)).await?;
            (all.requests, all.seconds) = (1, began.elapsed().as_secs_f64());
            all.cpu *= PARTS as f64;
            took.push(all);
        }
        if let [o, t] = took.as_slice() {
            table.row("multipart upload of 1 GiB, 4 parts at once", o, t, None, "2×");
        }
        Ok(())
    }

    async fn buckets(&self, table: &mut Table) -> Result<()> {
        let make = |n: u64| Request::new("PUT", format!("/bucket-{n:06}"));
        let [o, t] = self.both(16, Much::Requests(self.scale.buckets), make).await?;
        table.row(&format!("making {} containers, 16 at once", self.scale.buckets), &o, &t, None, "2×");
        let list = |_| Request::new("GET", "/");
        let [o, t] = self.both(1, Much::Requests(10), list).await?;
        table.row(&format!("listing {} containers", self.scale.buckets), &o, &t, None, "2×");
        Ok(())
    }
}

fn md5_of(body: &Bytes) -> String {
    use md5::Digest;
    md5::Md5::digest(body).iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}
