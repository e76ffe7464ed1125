-- Accounts exist once something was put into them. `info` is JSON: metadata and system headers.
CREATE TABLE object_accounts (
    project_id TEXT NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    info TEXT NOT NULL
);

-- A container is a bucket. `name` is bytes, so that both databases sort it as UTF-8 sorts.
-- `objects` and `bytes` are a copy of the index's exact counts, for accounts to be summed from.
CREATE TABLE object_containers (
    id TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL,
    name {{blob}} NOT NULL,
    policy TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    info TEXT NOT NULL,
    generation BIGINT NOT NULL,
    shards BIGINT NOT NULL,
    objects BIGINT NOT NULL,
    bytes BIGINT NOT NULL
);

CREATE UNIQUE INDEX object_containers_by_name ON object_containers (project_id, name);

-- Bucket names are one space for S3: the first container of a name has it.
CREATE TABLE object_buckets (
    name TEXT NOT NULL PRIMARY KEY,
    container_id TEXT NOT NULL
);

-- Deleted containers, until nothing of theirs is left in storage.
CREATE TABLE object_graves (
    container_id TEXT NOT NULL PRIMARY KEY,
    policy TEXT NOT NULL,
    generation BIGINT NOT NULL,
    shards BIGINT NOT NULL,
    deleted_at BIGINT NOT NULL
);
