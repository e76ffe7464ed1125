//! The addresses in use, and which ports are in which security groups: the rows that constrain.

use std::collections::HashSet;
use std::net::IpAddr;

use sqlx::{Any, Executor};
use state::Tx;

use crate::NetError;
use crate::model::{FixedIp, Port};
use crate::store::is_conflict;

/// Takes an address for a port; a [`Refused`](NetError::Refused) if another port has it.
pub(crate) async fn take(tx: &mut Tx, port: &str, network: &str, fixed: &FixedIp) -> Result<(), NetError> {
    let done = sqlx::query(
        "INSERT INTO net_addresses (subnet_id, ip, port_id, network_id) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (subnet_id, ip) DO NOTHING",
    )
    .bind(fixed.subnet_id.clone())
    .bind(fixed.ip_address.to_string())
    .bind(port.to_owned())
    .bind(network.to_owned())
    .execute(tx.conn())
    .await;
    match done.map_err(NetError::from) {
        Ok(result) if result.rows_affected() == 0 => {
            Err(NetError::ip_in_use(fixed.ip_address, &fixed.subnet_id))
        }
        Ok(_) => Ok(()),
        Err(e) if is_conflict(&e) => Err(crate::error::Noun::Subnet.not_found(&fixed.subnet_id)),
        Err(e) => Err(e),
    }
}

/// Every address in use in a subnet.
pub(crate) async fn in_subnet<'e>(
    db: impl Executor<'e, Database = Any>,
    subnet: &str,
) -> Result<HashSet<IpAddr>, NetError> {
    let rows: Vec<String> = sqlx::query_scalar("SELECT ip FROM net_addresses WHERE subnet_id = $1")
        .bind(subnet.to_owned())
        .fetch_all(db)
        .await?;
    Ok(rows.iter().filter_map(|ip| ip.parse().ok()).collect())
}

/// The port that has an address in a network.
pub(crate) async fn holder<'e>(
    db: impl Executor<'e, Database = Any>,
    network: &str,
    ip: IpAddr,
) -> Result<Option<String>, NetError> {
    Ok(sqlx::query_scalar("SELECT port_id FROM net_addresses WHERE network_id = $1 AND ip = $2")
        .bind(network.to_owned())
        .bind(ip.to_string())
        .fetch_optional(db)
        .await?)
}

pub(crate) async fn release_all(tx: &mut Tx, port: &str) -> Result<(), NetError> {
    sqlx::query("DELETE FROM net_addresses WHERE port_id = $1")
        .bind(port.to_owned())
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Makes the memberships of a port what its row says.
pub(crate) async fn set_groups(tx: &mut Tx, port: &Port) -> Result<(), NetError> {
    clear_groups(tx, &port.meta.id).await?;
    for group in &port.security_groups {
        let done =
            sqlx::query("INSERT INTO net_port_security_groups (port_id, security_group_id) VALUES ($1, $2)")
                .bind(port.meta.id.clone())
                .bind(group.clone())
                .execute(tx.conn())
                .await;
        if let Err(error) = done.map_err(NetError::from) {
            // deleted between the check and here
            return Err(if is_conflict(&error) {
                crate::error::Noun::SecurityGroup.not_found(group)
            } else {
                error
            });
        }
    }
    Ok(())
}

pub(crate) async fn clear_groups(tx: &mut Tx, port: &str) -> Result<(), NetError> {
    sqlx::query("DELETE FROM net_port_security_groups WHERE port_id = $1")
        .bind(port.to_owned())
        .execute(tx.conn())
        .await?;
    Ok(())
}
