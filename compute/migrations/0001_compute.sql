-- Nova's nouns. What is searched or constrained is a column; `doc` is the rest, as JSON.
CREATE TABLE compute_flavors (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    ram_mib BIGINT NOT NULL,
    doc TEXT NOT NULL
);
CREATE TABLE compute_keypairs (
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    doc TEXT NOT NULL,
    PRIMARY KEY (user_id, name)
);
CREATE TABLE compute_servers (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    vm_state TEXT NOT NULL,
    group_id TEXT NOT NULL,
    vcpus BIGINT NOT NULL,
    ram_mib BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- 0 while the server lives
    deleted_at BIGINT NOT NULL,
    user_data TEXT NOT NULL,
    doc TEXT NOT NULL
);
CREATE INDEX compute_servers_project ON compute_servers (project_id, deleted_at, created_at);
CREATE INDEX compute_servers_host ON compute_servers (host, deleted_at);
CREATE INDEX compute_servers_group ON compute_servers (group_id, deleted_at);
CREATE TABLE compute_actions (
    id TEXT PRIMARY KEY,
    server_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    action TEXT NOT NULL,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- 0 while it runs
    finished_at BIGINT NOT NULL,
    -- '' while it runs, then Success or Error
    result TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX compute_actions_server ON compute_actions (server_id, started_at);
CREATE TABLE compute_server_groups (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    doc TEXT NOT NULL
);
CREATE INDEX compute_server_groups_project ON compute_server_groups (project_id, created_at);
CREATE TABLE compute_quotas (
    -- a project's id, or `class:default`
    owner TEXT NOT NULL,
    resource TEXT NOT NULL,
    hard_limit BIGINT NOT NULL,
    PRIMARY KEY (owner, resource)
);
CREATE TABLE compute_hosts (
    name TEXT PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    -- SHA-256 of the agent's secret
    secret_hash TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    doc TEXT NOT NULL
);
CREATE TABLE compute_consoles (
    request TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    server_id TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    answered BOOLEAN NOT NULL,
    -- '' where there is no console
    text TEXT NOT NULL
);
CREATE INDEX compute_consoles_host ON compute_consoles (host, answered);
CREATE TABLE compute_aggregates (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    doc TEXT NOT NULL
);
