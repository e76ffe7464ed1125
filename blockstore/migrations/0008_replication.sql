-- NULL where the volume's tier has no replica.
ALTER TABLE volumes ADD COLUMN replication_status TEXT;
-- The tier that the volume belongs to while another one, its replica, serves it.
ALTER TABLE volumes ADD COLUMN home_tier TEXT;
-- Whether the copy in the other cluster has been seen to be whole since the volume is where it is.
ALTER TABLE volumes ADD COLUMN replica_whole BOOLEAN NOT NULL DEFAULT FALSE;
-- What a snapshot goes back to when its volume, which stayed behind, is served again.
ALTER TABLE snapshots ADD COLUMN previous_status TEXT;

-- Tiers with a replica, once something was done to them.
CREATE TABLE volume_backends (
    tier TEXT PRIMARY KEY,
    replication_status TEXT NOT NULL,
    -- the tier that serves in its place; empty when it serves again, NULL while none ever did
    active TEXT,
    frozen BOOLEAN NOT NULL,
    -- the task that is at it
    task TEXT,
    updated_at BIGINT NOT NULL
);
