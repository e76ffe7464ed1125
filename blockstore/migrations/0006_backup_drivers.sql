-- Which driver wrote a backup, and in whose part of the driver's store it is.
ALTER TABLE backups ADD COLUMN driver TEXT NOT NULL DEFAULT 'rbd';
ALTER TABLE backups ADD COLUMN owner TEXT NOT NULL DEFAULT '';

-- The key that seals what is in a repository, wrapped by the root secret.
CREATE TABLE backup_keys (
    repository TEXT PRIMARY KEY,
    wrapped TEXT NOT NULL
);
-- The root secret, where the configuration names none: one row.
CREATE TABLE backup_root (
    id BIGINT PRIMARY KEY,
    secret TEXT NOT NULL
);
-- Chunks are shared: while somebody writes into a repository nothing is taken out of it, and the other way round.
CREATE TABLE backup_writers (
    backup_id TEXT PRIMARY KEY,
    repository TEXT NOT NULL
);
CREATE TABLE backup_collectors (
    repository TEXT PRIMARY KEY,
    task_id TEXT NOT NULL
);
