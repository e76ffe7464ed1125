-- Secrets of encrypted volumes, each sealed by the root secret.
CREATE TABLE volume_keys (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
-- The root secret, where the configuration names none: one row.
CREATE TABLE volume_key_root (
    id BIGINT PRIMARY KEY,
    secret TEXT NOT NULL
);

ALTER TABLE volumes ADD COLUMN encryption_key_id TEXT;
