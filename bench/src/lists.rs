//! Lists of volumes and images beside upstream's Cinder and Glance, on the same machine in the same run: under uwsgi
//! with MariaDB, and keystonemiddleware with memcached before a Keystone, as operators run them. Each is loaded by wrk
//! while the other is idle.
//!
//! Both sides show as many rows, of volumes and images that were never given anything but a name and a size.

use crate::cloud::{Cloud, Session, id};
use crate::jobs::{self, all_done, create, delete};
use crate::report::Report;
use crate::upstream::{self, CINDER, GLANCE, KEYSTONE, Served, Upstream};
use crate::wrk::{self, Load};
use crate::{BenchError, Result};
use futures::future::try_join_all;
use serde_json::{Value, json};

const VOLUMES: usize = 1000;
const IMAGES: usize = 100;
/// As many as have answers under way when the time is over, which do not count: few beside Cinder's few a second.
const CONNECTIONS: usize = 4;
const VERSION: (&str, &str) = ("OpenStack-API-Version", "volume 3.70");

/// A list that both sides have.
struct List {
    what: &'static str,
    path: String,
    /// The name of the rows in the answer, and how many there must be.
    rows: &'static str,
    count: usize,
}

impl List {
    /// Asks for it once: how many rows there are, and the names of a row's members.
    async fn check(&self, side: &Session) -> Result<Vec<String>> {
        let asked = side.request("GET", &self.path)?.header(VERSION.0, VERSION.1);
        let answer: Value = asked.send().await?.error_for_status()?.json().await?;
        let rows = answer[self.rows].as_array().map(Vec::as_slice).unwrap_or_default();
        match rows {
            [first, ..] if rows.len() == self.count => {
                let members = first.as_object().into_iter().flatten();
                let mut members: Vec<String> = members.map(|(name, _)| name.clone()).collect();
                members.sort();
                Ok(members)
            }
            _ => Err(BenchError::Said(format!("{} of {} has {} rows", self.path, side.base(), rows.len()))),
        }
    }

    /// Answers a second.
    fn load(&self, side: &Session, seconds: u64, served: Served) -> Result<f64> {
        let headers = vec![("X-Auth-Token", side.token().to_owned()), (VERSION.0, VERSION.1.to_owned())];
        let load = Load::get(side.base(), &self.path, headers);
        wrk::run(&load, CONNECTIONS, seconds, served == Served::Close)
    }
}

pub(crate) async fn against_upstream(cloud: &mut Cloud, seconds: u64, report: &mut Report) -> Result<()> {
    cloud.configure(jobs::SETTINGS)?;
    let ours = cloud.admin().await?;
    let volumes = make_volumes(&ours).await?;
    let images = make_images(&ours.at(&format!("{}/image", cloud.base()))).await?;
    let mut upstream = Upstream::install()?;
    upstream.set_up_glance()?;
    upstream.set_up_cinder()?;
    upstream.start(&KEYSTONE, Served::KeepAlive)?;
    let keystone = upstream.identity();
    let theirs = Session::login(&keystone, "", "admin", upstream::PASSWORD, "admin").await?;
    upstream.add_volumes(VOLUMES, &theirs.user, &theirs.project)?;
    let of_volumes = List {
        what: "list 1,000 volumes in detail",
        path: format!("/v3/volumes/detail?limit={VOLUMES}"),
        rows: "volumes",
        count: VOLUMES,
    };
    let of_images = List {
        what: "list 100 images",
        path: format!("/v2/images?limit={IMAGES}"),
        rows: "images",
        count: IMAGES,
    };
    for served in Served::BOTH {
        for (list, service, our_root) in [(&of_volumes, &CINDER, "volume"), (&of_images, &GLANCE, "image")] {
            let ours = ours.at(&format!("{}/{our_root}", cloud.base()));
            let theirs = theirs.at(&upstream.start(service, served)?);
            if list.rows == "images" && served == Served::KeepAlive {
                make_images(&theirs).await?;
            }
            let (our_row, their_row) = (list.check(&ours).await?, list.check(&theirs).await?);
            if our_row != their_row {
                let said = format!("{}: rows differ: {our_row:?} beside {their_row:?}", list.what);
                return Err(BenchError::Said(said));
            }
            let own = list.load(&ours, seconds, served)?;
            let other = list.load(&theirs, seconds, served)?;
            report.rates(&format!("{}, {}", list.what, served.suffix()), own, other, "≥ 50×");
            upstream.stop(service)?;
        }
    }
    drop(upstream);
    for image in images {
        ours.call("DELETE", &format!("/image/v2/images/{image}"), None).await?;
    }
    delete(&ours, volumes).await?;
    cloud.configure("")
}

async fn make_volumes(session: &Session) -> Result<Vec<String>> {
    let mut made = Vec::new();
    for _ in 0..VOLUMES / 50 {
        made.extend(try_join_all((0..50).map(|_| create(session, json!({"size": 1})))).await?);
    }
    all_done(session).await?;
    Ok(made)
}

/// As many as are missing, each with a few bytes in it; the ids of those.
async fn make_images(session: &Session) -> Result<Vec<String>> {
    let there = session.call("GET", &format!("/v2/images?limit={IMAGES}"), None).await?;
    let there = there["images"].as_array().map_or(0, Vec::len);
    let mut made = Vec::new();
    for n in there..IMAGES {
        let body = json!({"name": format!("bench-{n}"), "disk_format": "raw", "container_format": "bare"});
        let image = id(&session.call("POST", "/v2/images", Some(body)).await?)?;
        let path = format!("/v2/images/{image}");
        let put = session.request("PUT", &format!("{path}/file"))?;
        let put = put.header("content-type", "application/octet-stream").body(vec![1u8; 4096]);
        put.send().await?.error_for_status()?;
        session.until(&path, "/status", "active").await?;
        made.push(image);
    }
    Ok(made)
}
