CREATE TABLE volumes (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- GiB, as shown; `growth` is what a running extend adds, so that quota counts it from the start
    size BIGINT NOT NULL,
    growth BIGINT NOT NULL,
    status TEXT NOT NULL,
    -- the state that a failed or finished extend, upload, retype goes back to
    previous_status TEXT NOT NULL,
    name TEXT,
    description TEXT,
    type_id TEXT NOT NULL,
    tier TEXT NOT NULL,
    zone TEXT NOT NULL,
    bootable BOOLEAN NOT NULL,
    multiattach BOOLEAN NOT NULL,
    -- JSON objects with sorted keys, compact: filters look for `"key":"value"` in them
    metadata TEXT NOT NULL,
    admin_metadata TEXT NOT NULL,
    image_metadata TEXT NOT NULL,
    snapshot_id TEXT,
    source_volid TEXT,
    migration_status TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE INDEX volumes_project ON volumes (project_id, created_at);
CREATE INDEX volumes_type ON volumes (type_id);

CREATE TABLE snapshots (
    id TEXT PRIMARY KEY,
    volume_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    size BIGINT NOT NULL,
    status TEXT NOT NULL,
    progress TEXT NOT NULL,
    name TEXT,
    description TEXT,
    type_id TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE INDEX snapshots_project ON snapshots (project_id, created_at);
CREATE INDEX snapshots_volume ON snapshots (volume_id);

CREATE TABLE attachments (
    id TEXT PRIMARY KEY,
    volume_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    server_id TEXT,
    host TEXT,
    device TEXT,
    mode TEXT NOT NULL,
    status TEXT NOT NULL,
    connector TEXT NOT NULL,
    attached_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE INDEX attachments_volume ON attachments (volume_id);
CREATE INDEX attachments_server ON attachments (server_id);

CREATE TABLE volume_types (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    is_public BOOLEAN NOT NULL,
    extra_specs TEXT NOT NULL,
    qos_specs_id TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);

CREATE TABLE volume_type_access (
    type_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    PRIMARY KEY (type_id, project_id)
);

CREATE TABLE default_volume_types (
    project_id TEXT PRIMARY KEY,
    type_id TEXT NOT NULL
);

CREATE TABLE qos_specs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    consumer TEXT NOT NULL,
    specs TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);

-- Only what differs from the defaults. -1 is without limit.
CREATE TABLE volume_quotas (
    project_id TEXT NOT NULL,
    resource TEXT NOT NULL,
    hard_limit BIGINT NOT NULL,
    PRIMARY KEY (project_id, resource)
);

CREATE TABLE volume_quota_classes (
    class TEXT NOT NULL,
    resource TEXT NOT NULL,
    hard_limit BIGINT NOT NULL,
    PRIMARY KEY (class, resource)
);

CREATE TABLE volume_transfers (
    id TEXT PRIMARY KEY,
    volume_id TEXT NOT NULL UNIQUE,
    name TEXT,
    source_project_id TEXT NOT NULL,
    -- SHA-256 of salt and key
    salt TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    no_snapshots BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE volume_messages (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    message TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX volume_messages_project ON volume_messages (project_id, created_at);

-- What an operator has switched off; every other service of a running process is on.
CREATE TABLE volume_services (
    binary_name TEXT NOT NULL,
    host TEXT NOT NULL,
    disabled_reason TEXT,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (binary_name, host)
);
