-- Containers that are kept in step with another one (`target`). One process at a time (`worker`, until `until` unless it
-- goes on) sends what changed; `marker` and `listed` tell how far it has come with what was there before.
CREATE TABLE object_syncs (
    container_id TEXT NOT NULL PRIMARY KEY,
    target TEXT NOT NULL,
    worker TEXT NOT NULL,
    until BIGINT NOT NULL,
    marker {{blob}} NOT NULL,
    listed BOOLEAN NOT NULL,
    failures BIGINT NOT NULL,
    next_at BIGINT NOT NULL
);

CREATE INDEX object_syncs_next ON object_syncs (next_at);
