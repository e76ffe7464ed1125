//! What several resources' bodies have in common.

use std::net::IpAddr;

use serde_json::Value;

use crate::NetError;
use crate::attr::{Body, cidr_of, ip_of, object_of, text_of, uuid_of};
use crate::ipam::WantedIp;
use crate::model::HostRoute;

/// `project_id`, or its old name.
pub(super) fn project(body: &Body) -> Result<Option<String>, NetError> {
    let (new, old) = (body.text("project_id", 255)?, body.text("tenant_id", 255)?);
    match (new, old) {
        (Some(new), Some(old)) if new != old => {
            Err(NetError::bad_request("'project_id' and 'tenant_id' do not match"))
        }
        (new, old) => Ok(new.or(old)),
    }
}

/// One of `fixed_ips` or `external_fixed_ips`.
pub(super) fn wanted_ip(name: &str, value: &Value) -> Result<WantedIp, NetError> {
    let body = object_of(name, value, &["subnet_id", "ip_address"])?;
    let ip_address = match body.get("ip_address") {
        None | Some(Value::Null) => None,
        Some(value) => Some(ip_of(name, value)?),
    };
    Ok(WantedIp { subnet_id: body.nullable_uuid("subnet_id")?.flatten(), ip_address })
}

/// One of `host_routes` or `routes`.
pub(super) fn route(name: &str, value: &Value) -> Result<HostRoute, NetError> {
    let body = object_of(name, value, &["destination", "nexthop"])?;
    body.required("destination")?;
    body.required("nexthop")?;
    let read = |key: &str| body.get(key).cloned().unwrap_or(Value::Null);
    let destination = cidr_of(name, &read("destination"))?.to_string();
    let nexthop: IpAddr = ip_of(name, &read("nexthop"))?;
    Ok(HostRoute { destination, nexthop })
}

pub(super) fn hint(name: &str, value: &Value) -> Result<String, NetError> {
    text_of(name, value, 255)
}

pub(super) fn id(name: &str, value: &Value) -> Result<String, NetError> {
    uuid_of(name, value)
}

pub(super) fn ip(name: &str, value: &Value) -> Result<IpAddr, NetError> {
    ip_of(name, value)
}
