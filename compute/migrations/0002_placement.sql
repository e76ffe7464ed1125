-- Placement's nouns.
CREATE TABLE placement_providers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    generation BIGINT NOT NULL,
    -- '' for the root of a tree
    parent_id TEXT NOT NULL,
    root_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX placement_providers_root ON placement_providers (root_id);
CREATE TABLE placement_inventories (
    provider_id TEXT NOT NULL REFERENCES placement_providers (id),
    class TEXT NOT NULL,
    total BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    min_unit BIGINT NOT NULL,
    max_unit BIGINT NOT NULL,
    step_size BIGINT NOT NULL,
    allocation_ratio DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (provider_id, class)
);
CREATE TABLE placement_consumers (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    generation BIGINT NOT NULL
);
CREATE TABLE placement_allocations (
    consumer_id TEXT NOT NULL REFERENCES placement_consumers (id),
    provider_id TEXT NOT NULL REFERENCES placement_providers (id),
    class TEXT NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (consumer_id, provider_id, class)
);
CREATE INDEX placement_allocations_provider ON placement_allocations (provider_id, class);
CREATE TABLE placement_provider_traits (
    provider_id TEXT NOT NULL REFERENCES placement_providers (id),
    trait TEXT NOT NULL,
    PRIMARY KEY (provider_id, trait)
);
CREATE TABLE placement_provider_aggregates (
    provider_id TEXT NOT NULL REFERENCES placement_providers (id),
    aggregate_id TEXT NOT NULL,
    PRIMARY KEY (provider_id, aggregate_id)
);
CREATE TABLE placement_traits (
    name TEXT PRIMARY KEY
);
CREATE TABLE placement_classes (
    name TEXT PRIMARY KEY
);
