//! What can go wrong with a network: refusals, told to the caller in Neutron's words, and failures, whose
//! details go to the log only.

use std::fmt::Display;

use state::StateError;

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The request cannot be met; the caller is told why.
    #[error("{0}")]
    Refused(Refusal),
    /// The database failed.
    #[error("the database failed")]
    State(#[from] StateError),
    /// An OVSDB server is out of reach.
    #[error("the {0} database is unavailable")]
    OvsdbDown(&'static str),
    /// An OVSDB server refused a transaction: a guard failed (`timed out`) or a constraint.
    #[error("OVSDB refused a transaction: {error} ({details})")]
    OvsdbRefused { error: String, details: String },
    /// An OVSDB server said what no OVSDB server says.
    #[error("OVSDB protocol: {0}")]
    OvsdbProtocol(String),
    /// The machine refused a socket, a namespace or a command.
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    /// A command of the machine's failed.
    #[error("{command} failed: {output}")]
    Command { command: String, output: String },
    /// The configuration cannot be.
    #[error("configuration: {0}")]
    Config(String),
}

/// A refusal: HTTP status, upstream's exception name and its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub kind: &'static str,
    pub message: String,
}

impl Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl From<sqlx::Error> for NetError {
    fn from(error: sqlx::Error) -> Self {
        Self::State(error.into())
    }
}

impl From<serde_json::Error> for NetError {
    fn from(error: serde_json::Error) -> Self {
        Self::State(StateError::Corrupt(error.to_string()))
    }
}

impl NetError {
    pub fn refused(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self::Refused(Refusal { status, kind, message: message.into() })
    }

    /// Whether a caller asked for what does not exist, or not for it.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(Refusal { status: 404, .. }))
    }

    /// Whether a transaction lost against another writer: look again and decide anew.
    pub fn is_lost_race(&self) -> bool {
        matches!(self, Self::OvsdbRefused { error, .. }
            if matches!(error.as_str(), "timed out" | "constraint violation" | "referential integrity violation"))
    }

    /// Body or query that does not pass the attribute's check.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::refused(400, "HTTPBadRequest", message)
    }

    pub fn invalid_input(message: impl Display) -> Self {
        Self::refused(400, "InvalidInput", format!("Invalid input for operation: {message}."))
    }

    /// A request that is well-formed but makes no sense for the resource.
    pub fn bad(resource: &str, message: impl Display) -> Self {
        Self::refused(400, "BadRequest", format!("Bad {resource} request: {message}."))
    }

    pub fn over_quota(resource: &str) -> Self {
        Self::refused(409, "OverQuota", format!("Quota exceeded for resources: ['{resource}']."))
    }

    pub fn forbidden(rule: &str) -> Self {
        Self::refused(403, "PolicyNotAuthorized", format!("rule:{rule} is disallowed by policy"))
    }

    pub fn network_in_use(id: &str) -> Self {
        Self::refused(
            409,
            "NetworkInUse",
            format!(
                "Unable to complete operation on network {id}. There are one or more ports still in use on the network."
            ),
        )
    }

    pub fn subnet_in_use(id: &str) -> Self {
        Self::refused(
            409,
            "SubnetInUse",
            format!(
                "Unable to complete operation on subnet {id}: One or more ports have an IP allocation from this subnet."
            ),
        )
    }

    pub fn port_in_use(id: &str, network: &str, device: &str) -> Self {
        Self::refused(
            409,
            "PortInUse",
            format!(
                "Unable to complete operation on port {id} for network {network}. Port already has an attached device {device}."
            ),
        )
    }

    pub fn service_port_in_use(id: &str, owner: &str) -> Self {
        Self::refused(
            409,
            "ServicePortInUse",
            format!("Port {id} cannot be deleted directly via the port API: has device owner {owner}."),
        )
    }

    pub fn ip_in_use(ip: impl Display, subnet: &str) -> Self {
        Self::refused(
            409,
            "IpAddressAlreadyAllocated",
            format!("IP address {ip} already allocated in subnet {subnet}"),
        )
    }

    pub fn mac_in_use(mac: &str, network: &str) -> Self {
        Self::refused(
            409,
            "MacAddressInUse",
            format!("Unable to complete operation for network {network}. The mac address {mac} is in use."),
        )
    }

    pub fn no_more_addresses(network: &str) -> Self {
        Self::refused(
            409,
            "IpAddressGenerationFailure",
            format!("No more IP addresses available on network {network}."),
        )
    }
}

/// The kinds of things that can be absent, for upstream's 404 of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    Network,
    Subnet,
    Port,
    SecurityGroup,
    SecurityGroupRule,
    Router,
    FloatingIp,
    Agent,
}

impl Noun {
    /// The 404 for an id that does not exist, or not for the caller.
    pub fn not_found(self, id: &str) -> NetError {
        let (kind, message) = match self {
            Self::Network => ("NetworkNotFound", format!("Network {id} could not be found.")),
            Self::Subnet => ("SubnetNotFound", format!("Subnet {id} could not be found.")),
            Self::Port => ("PortNotFound", format!("Port {id} could not be found.")),
            Self::SecurityGroup => ("SecurityGroupNotFound", format!("Security group {id} does not exist")),
            Self::SecurityGroupRule => {
                ("SecurityGroupRuleNotFound", format!("Security group rule {id} does not exist"))
            }
            Self::Router => ("RouterNotFound", format!("Router {id} could not be found")),
            Self::FloatingIp => ("FloatingIPNotFound", format!("Floating IP {id} could not be found")),
            Self::Agent => ("AgentNotFound", format!("Agent {id} could not be found.")),
        };
        NetError::refused(404, kind, message)
    }
}
