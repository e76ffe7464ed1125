//! The background: marked units, everything once in a while, and what OVN reports back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::plan::text;
use super::tables::{CHASSIS, GLOBAL, PORT_GROUP, ROUTER, SWITCH, SWITCH_PORT};
use super::{Ovn, Unit};
use crate::NetError;
use crate::model::{Port, Router};
use crate::ovsdb::{Datum, Op, Row};
use crate::store::{self, Entity, dirty};

const TICK: Duration = Duration::from_secs(5);
/// Everything is compared this often: what no mark told of (an operator's hand in OVN) is closed then.
const FULL_PASS: Duration = Duration::from_secs(600);
/// The controllers are asked for a sign of life this often.
const PING: Duration = Duration::from_secs(30);

impl Ovn {
    /// Runs the background work until it is cancelled.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let marks = stop.run_until_cancelled(self.clone().work_marks());
        let full = stop.run_until_cancelled(self.clone().full_passes());
        let status = stop.run_until_cancelled(self.clone().follow_status());
        let chassis = stop.run_until_cancelled(self.clone().follow_chassis());
        let ping = stop.run_until_cancelled(self.clone().ping());
        let _ = tokio::join!(marks, full, status, chassis, ping);
    }

    async fn work_marks(self: Arc<Self>) {
        let mut signal = self.db.signal(dirty::TOPIC);
        loop {
            if self.nb.is_connected()
                && let Err(error) = self.work_marks_once().await
            {
                tracing::warn!(%error, "marked units wait");
            }
            signal.wait(TICK).await;
        }
    }

    async fn work_marks_once(&self) -> Result<(), NetError> {
        const BATCH: i64 = 500;
        let (mut done, mut first_error) = (Vec::new(), None);
        for mark in dirty::marks(&self.db, BATCH).await? {
            match self.reconcile(&mark.unit).await {
                Ok(()) => done.push(mark),
                Err(error) => {
                    tracing::debug!(unit = ?mark.unit, %error, "stays marked");
                    first_error.get_or_insert(error);
                }
            }
        }
        dirty::clear(&self.db, &done).await?;
        first_error.map_or(Ok(()), Err)
    }

    async fn full_passes(self: Arc<Self>) {
        let mut connected = self.nb.connected();
        loop {
            if connected.wait_for(|up| *up).await.is_err() {
                return;
            }
            match self.all_units().await {
                Ok(units) => {
                    let total = units.len();
                    let failed = self.reconcile_all(units).await;
                    tracing::debug!(total, failed, "compared everything with OVN");
                }
                Err(error) => tracing::warn!(%error, "could not list what OVN should have"),
            }
            tokio::select! {
                () = tokio::time::sleep(FULL_PASS) => {}
                // a reconnect may be to a database that has forgotten
                result = async { connected.wait_for(|up| !*up).await.map(drop) } => {
                    if result.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Every unit that has rows in SQL or in OVN.
    async fn all_units(&self) -> Result<Vec<Unit>, NetError> {
        let ids = |table: &'static str| {
            let db = self.db.clone();
            async move {
                let sql = format!("SELECT id FROM {table}");
                let ids: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(db.read()).await?;
                Ok::<_, NetError>(ids)
            }
        };
        let mut networks: BTreeSet<String> = ids("net_networks").await?.into_iter().collect();
        let mut groups: BTreeSet<String> = ids("net_security_groups").await?.into_iter().collect();
        let mut routers: BTreeSet<String> = ids(Router::TABLE).await?.into_iter().collect();
        let mut ports: BTreeSet<String> = ids(Port::TABLE).await?.into_iter().collect();
        self.nb.read(|nb| {
            let named = |table| {
                nb.rows(table)
                    .filter_map(|(_, row)| text(row, "name").strip_prefix("neutron-").map(str::to_owned))
            };
            networks.extend(named(SWITCH));
            routers.extend(named(ROUTER));
            let external =
                |row: &Row, key: &str| row.get("external_ids").and_then(|e| e.get(key)).map(str::to_owned);
            groups.extend(nb.rows(PORT_GROUP).filter_map(|(_, r)| external(r, "neutron:security_group_id")));
            ports.extend(
                nb.rows(SWITCH_PORT)
                    .filter(|(_, row)| external(row, "neutron:network_name").is_some())
                    .map(|(_, row)| text(row, "name").to_owned()),
            );
        });
        Ok(networks
            .into_iter()
            .map(Unit::Network)
            .chain(groups.into_iter().map(Unit::SecurityGroup))
            .chain(routers.into_iter().map(Unit::Router))
            .chain(ports.into_iter().map(Unit::Port))
            .collect())
    }

    /// Writes a port's `up` into its row when OVN reports a change, and wakes whoever waits for it.
    async fn follow_status(self: Arc<Self>) {
        let mut connected = self.nb.connected();
        loop {
            let mut changes = self.nb.changes();
            if connected.wait_for(|up| *up).await.is_err() {
                return;
            }
            let all =
                self.nb.read(|nb| nb.rows(SWITCH_PORT).map(|(_, row)| observed(row)).collect::<Vec<_>>());
            for (port, up) in all {
                self.note_status(&port, up).await;
            }
            loop {
                tokio::select! {
                    change = changes.recv() => match change {
                        Ok(change) if change.table == SWITCH_PORT => {
                            let row = self.nb.read(|nb| nb.get(SWITCH_PORT, change.uuid).map(observed));
                            if let Some((port, up)) = row {
                                self.note_status(&port, up).await;
                            }
                        }
                        Ok(_) => {}
                        Err(RecvError::Lagged(_)) => break, // look at everything
                        Err(RecvError::Closed) => return,
                    },
                    _ = connected.changed() => break,
                }
            }
        }
    }

    async fn note_status(&self, port: &str, up: bool) {
        if let Err(error) = self.try_note_status(port, up).await {
            tracing::warn!(port, up, %error, "a port's status is not noted yet");
        }
    }

    async fn try_note_status(&self, id: &str, up: bool) -> Result<(), NetError> {
        match store::get::<Port>(self.db.read(), id).await? {
            Some(port) if port.up != up => {}
            _ => return Ok(()),
        }
        let mut tx = self.db.begin().await?;
        let Some(mut port) = store::get_locked::<Port>(&mut tx, id).await? else { return Ok(()) };
        if port.up != up {
            port.up = up;
            store::update_quietly(&mut tx, &port).await?;
            tx.wake(crate::port_topic(id));
            tx.commit().await?;
        }
        Ok(())
    }

    /// Routers' gateways live on chassis: when these come or go, the routers are looked at again. Ports wait
    /// for their chassis to be known, too.
    async fn follow_chassis(self: Arc<Self>) {
        let mut version = self.sb.version();
        let mut seen: Option<Vec<(String, String, bool)>> = None;
        loop {
            let now: Vec<_> = self.sb.read(|sb| {
                let mut all: Vec<_> = sb
                    .rows(CHASSIS)
                    .map(|(_, row)| {
                        let mapped =
                            |c: &str| row.get(c).is_some_and(|m| m.get("ovn-bridge-mappings").is_some());
                        let mapped = mapped("other_config") || mapped("external_ids");
                        (text(row, "name").to_owned(), text(row, "hostname").to_owned(), mapped)
                    })
                    .collect();
                all.sort();
                all
            });
            if self.sb.is_connected() && seen.as_ref() != Some(&now) {
                match self.mark_placed().await {
                    Ok(()) => seen = Some(now),
                    Err(error) => tracing::warn!(%error, "routers wait for a look at the new chassis"),
                }
            }
            // The tick covers a failure above.
            if let Ok(Err(_)) = tokio::time::timeout(TICK, version.changed()).await {
                return;
            }
        }
    }

    async fn mark_placed(&self) -> Result<(), NetError> {
        let mut tx = self.db.begin().await?;
        for router in store::find::<Router>(tx.conn(), "external_network_id IS NOT NULL", &[]).await? {
            dirty::mark(&mut tx, &Unit::Router(router.meta.id)).await?;
        }
        for port in store::find::<Port>(tx.conn(), "host <> ''", &[]).await? {
            dirty::mark(&mut tx, &Unit::Port(port.meta.id)).await?;
        }
        tx.wake(dirty::TOPIC);
        tx.commit().await?;
        Ok(())
    }

    async fn ping(self: Arc<Self>) {
        loop {
            let global = self.nb.read(|nb| nb.rows(GLOBAL).next().map(|(id, _)| id));
            if let Some(id) = global
                && let Err(error) = self.nb.transact(vec![Op::mutate_add(GLOBAL, id, "nb_cfg", 1)]).await
            {
                tracing::debug!(%error, "the controllers were not asked for a sign of life");
            }
            tokio::time::sleep(PING).await;
        }
    }
}

fn observed(row: &Row) -> (String, bool) {
    (text(row, "name").to_owned(), row.get("up").and_then(Datum::as_bool).unwrap_or(false))
}
