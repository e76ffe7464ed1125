//! OVN's own agents: the controllers, one a chassis, as the southbound database knows them.

use state::Timestamp;

use super::Ovn;
use super::plan::text;
use super::tables::{CHASSIS, CHASSIS_PRIVATE, GLOBAL};
use crate::ovsdb::Datum;

/// A controller that has not answered for this long is down (upstream's `agent_down_time`).
const DOWN_AFTER_MS: i64 = 75_000;

/// One OVN controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The chassis' name, which is the agent's id.
    pub chassis: String,
    pub hostname: String,
    /// Physical network → bridge.
    pub bridge_mappings: Vec<(String, String)>,
    pub alive: bool,
    /// When it last answered.
    pub heartbeat: Timestamp,
}

impl Ovn {
    /// The controllers, by host name.
    pub(crate) fn agents(&self) -> Vec<Agent> {
        let (now_cfg, cfg_since) = self.nb.read(|nb| {
            nb.rows(GLOBAL)
                .next()
                .map(|(_, row)| {
                    let number = |column: &str| row.get(column).and_then(Datum::as_int).unwrap_or(0);
                    (number("nb_cfg"), number("nb_cfg_timestamp"))
                })
                .unwrap_or_default()
        });
        let now = Timestamp::now();
        let mut agents = self.sb.read(|sb| {
            sb.rows(CHASSIS)
                .map(|(_, row)| {
                    let name = text(row, "name").to_owned();
                    let private = sb.by_name(CHASSIS_PRIVATE, &name).map(|(_, row)| row);
                    let number = |column: &str| {
                        private.and_then(|r| r.get(column)).and_then(Datum::as_int).unwrap_or(0)
                    };
                    let recent = |millis: i64| now.micros() / 1000 - millis < DOWN_AFTER_MS;
                    // It has answered the last question, or the question is too young to tell.
                    let alive = number("nb_cfg") == now_cfg || recent(cfg_since);
                    let answered = number("nb_cfg_timestamp");
                    let mappings = ["other_config", "external_ids"]
                        .iter()
                        .find_map(|column| row.get(*column).and_then(|c| c.get("ovn-bridge-mappings")))
                        .unwrap_or("");
                    Agent {
                        hostname: text(row, "hostname").to_owned(),
                        bridge_mappings: mappings
                            .split(',')
                            .filter_map(|pair| pair.trim().split_once(':'))
                            .map(|(network, bridge)| (network.to_owned(), bridge.to_owned()))
                            .collect(),
                        alive,
                        heartbeat: if answered > 0 { Timestamp(answered * 1000) } else { now },
                        chassis: name,
                    }
                })
                .collect::<Vec<_>>()
        });
        agents.sort_by(|a, b| (&a.hostname, &a.chassis).cmp(&(&b.hostname, &b.chassis)));
        agents
    }

    /// The chassis of a host, by its name or its host name.
    pub(crate) fn chassis_of(&self, host: &str) -> Option<String> {
        self.sb.read(|sb| {
            sb.rows(CHASSIS)
                .find(|(_, row)| text(row, "hostname") == host || text(row, "name") == host)
                .map(|(_, row)| text(row, "name").to_owned())
        })
    }
}
