-- What a group's replication was last made: its volumes may be mirrored by their types all the while.
ALTER TABLE volume_groups ADD COLUMN replication_status TEXT NOT NULL DEFAULT 'disabled';
-- The task that is at it.
ALTER TABLE volume_groups ADD COLUMN replication_task TEXT;
