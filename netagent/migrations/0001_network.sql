-- The nouns of the network service. `body` is the row as one JSON document; the other columns are what is
-- searched or constrained. `revision` guards a read-modify-write of `body`.
CREATE TABLE net_networks (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    shared TEXT NOT NULL,
    external TEXT NOT NULL,
    -- type/physical network/segment: two networks never share one
    segment TEXT UNIQUE,
    revision BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX net_networks_project ON net_networks (project_id);

CREATE TABLE net_subnets (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    network_id TEXT NOT NULL REFERENCES net_networks (id),
    revision BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX net_subnets_network ON net_subnets (network_id);
CREATE INDEX net_subnets_project ON net_subnets (project_id);

CREATE TABLE net_ports (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    network_id TEXT NOT NULL REFERENCES net_networks (id),
    mac TEXT NOT NULL,
    device_id TEXT NOT NULL,
    device_owner TEXT NOT NULL,
    host TEXT NOT NULL,
    revision BIGINT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (network_id, mac)
);
CREATE INDEX net_ports_project ON net_ports (project_id);
CREATE INDEX net_ports_device ON net_ports (device_id);
CREATE INDEX net_ports_host ON net_ports (host);
CREATE INDEX net_ports_owner ON net_ports (device_owner);

-- One row an address: the primary key is what makes an address unique.
CREATE TABLE net_addresses (
    subnet_id TEXT NOT NULL REFERENCES net_subnets (id),
    ip TEXT NOT NULL,
    port_id TEXT NOT NULL REFERENCES net_ports (id),
    network_id TEXT NOT NULL,
    PRIMARY KEY (subnet_id, ip)
);
CREATE INDEX net_addresses_port ON net_addresses (port_id);
CREATE INDEX net_addresses_network ON net_addresses (network_id, ip);

CREATE TABLE net_security_groups (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    -- the project's id in its default group, so that there is only one; null in all others
    default_of TEXT UNIQUE,
    revision BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX net_security_groups_project ON net_security_groups (project_id);

CREATE TABLE net_security_group_rules (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    security_group_id TEXT NOT NULL REFERENCES net_security_groups (id),
    remote_group_id TEXT,
    -- what the rule says, so that a group never holds it twice
    fingerprint TEXT NOT NULL,
    revision BIGINT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (security_group_id, fingerprint)
);
CREATE INDEX net_security_group_rules_project ON net_security_group_rules (project_id);
CREATE INDEX net_security_group_rules_remote ON net_security_group_rules (remote_group_id);

CREATE TABLE net_port_security_groups (
    port_id TEXT NOT NULL REFERENCES net_ports (id),
    security_group_id TEXT NOT NULL REFERENCES net_security_groups (id),
    PRIMARY KEY (port_id, security_group_id)
);
CREATE INDEX net_port_security_groups_group ON net_port_security_groups (security_group_id);

CREATE TABLE net_routers (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    external_network_id TEXT REFERENCES net_networks (id),
    revision BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX net_routers_project ON net_routers (project_id);
CREATE INDEX net_routers_external ON net_routers (external_network_id);

CREATE TABLE net_floating_ips (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    floating_network_id TEXT NOT NULL REFERENCES net_networks (id),
    address TEXT NOT NULL,
    port_id TEXT REFERENCES net_ports (id),
    router_id TEXT REFERENCES net_routers (id),
    -- network/port/fixed address of an association, so that there is only one
    association TEXT UNIQUE,
    revision BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX net_floating_ips_project ON net_floating_ips (project_id);
CREATE INDEX net_floating_ips_port ON net_floating_ips (port_id);
CREATE INDEX net_floating_ips_router ON net_floating_ips (router_id);

-- Limits that differ from the defaults.
CREATE TABLE net_quotas (
    project_id TEXT NOT NULL,
    resource TEXT NOT NULL,
    amount BIGINT NOT NULL,
    PRIMARY KEY (project_id, resource)
);

-- What may differ between these tables and OVN. A request writes a row in its own transaction; the
-- reconciler removes it if `token` is still what it was when it looked.
CREATE TABLE net_dirty (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    token TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);
