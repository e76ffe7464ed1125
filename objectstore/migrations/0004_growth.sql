-- An index that grows: to how many shards (zero while it does not), and which process sees to it since when.
ALTER TABLE object_containers ADD COLUMN growing BIGINT NOT NULL DEFAULT 0;
ALTER TABLE object_containers ADD COLUMN grower TEXT NOT NULL DEFAULT '';
ALTER TABLE object_containers ADD COLUMN grower_at BIGINT NOT NULL DEFAULT 0;

CREATE INDEX object_containers_growing ON object_containers (growing);
