CREATE TABLE volume_group_types (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    is_public BOOLEAN NOT NULL,
    specs TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE volume_groups (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    group_type_id TEXT NOT NULL,
    -- a JSON array of volume types' ids
    volume_types TEXT NOT NULL,
    zone TEXT NOT NULL,
    status TEXT NOT NULL,
    group_snapshot_id TEXT,
    source_group_id TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX volume_groups_project ON volume_groups (project_id, created_at);

CREATE TABLE volume_group_snapshots (
    id TEXT PRIMARY KEY,
    group_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    group_type_id TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX volume_group_snapshots_project ON volume_group_snapshots (project_id, created_at);
CREATE INDEX volume_group_snapshots_group ON volume_group_snapshots (group_id);

ALTER TABLE volumes ADD COLUMN group_id TEXT;
ALTER TABLE snapshots ADD COLUMN group_snapshot_id TEXT;
CREATE INDEX volumes_group ON volumes (group_id);
CREATE INDEX snapshots_group_snapshot ON snapshots (group_snapshot_id);

-- How the volumes of a type are encrypted.
CREATE TABLE volume_type_encryption (
    type_id TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    provider TEXT NOT NULL,
    cipher TEXT,
    key_size BIGINT,
    control_location TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
