-- A backup outlives its volume and its snapshot: their ids are only remembered.
CREATE TABLE backups (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    snapshot_id TEXT,
    -- the backup that this one only differs from
    parent_id TEXT,
    size BIGINT NOT NULL,
    status TEXT NOT NULL,
    fail_reason TEXT,
    name TEXT,
    description TEXT,
    metadata TEXT NOT NULL,
    zone TEXT,
    -- where its bytes are: the tier, the image of the whole chain, and the snapshot of it
    tier TEXT NOT NULL,
    chain TEXT NOT NULL,
    data TEXT NOT NULL,
    -- the snapshot of the volume that it was read from, while that may serve the next one
    base TEXT NOT NULL,
    -- chunks that were written for it
    chunks BIGINT NOT NULL,
    -- what a restored volume gets back: bootable, image_metadata
    volume TEXT NOT NULL,
    data_timestamp BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE INDEX backups_project ON backups (project_id, created_at);
CREATE INDEX backups_volume ON backups (volume_id, created_at);
CREATE INDEX backups_parent ON backups (parent_id);
CREATE INDEX backups_chain ON backups (chain);
