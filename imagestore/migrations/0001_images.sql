-- Images, their members, and the transfers and tasks that fill them.
-- `properties` and `tags` stand twice: as JSON in the row, so that a listing is one query, and in tables of their
-- own, so that a filter is one too. store/images.rs writes both together. Flags are 0 or 1.
CREATE TABLE images (
    id TEXT PRIMARY KEY,
    name TEXT,
    status TEXT NOT NULL,
    visibility TEXT NOT NULL,
    owner TEXT,
    size BIGINT,
    virtual_size BIGINT,
    disk_format TEXT,
    container_format TEXT,
    checksum TEXT,
    os_hash_algo TEXT,
    os_hash_value TEXT,
    min_disk BIGINT NOT NULL,
    min_ram BIGINT NOT NULL,
    protected BIGINT NOT NULL,
    os_hidden BIGINT NOT NULL,
    properties TEXT NOT NULL,
    tags TEXT NOT NULL,
    store TEXT NOT NULL,
    form TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX images_by_owner ON images (owner, created_at);
CREATE INDEX images_by_visibility ON images (visibility, created_at);
CREATE INDEX images_by_created ON images (created_at, id);
CREATE INDEX images_by_name ON images (name);

CREATE TABLE image_properties (
    image_id TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (image_id, name)
);
CREATE INDEX image_properties_by_value ON image_properties (name, value);

CREATE TABLE image_tags (
    image_id TEXT NOT NULL,
    tag TEXT NOT NULL,
    PRIMARY KEY (image_id, tag)
);
CREATE INDEX image_tags_by_tag ON image_tags (tag);

CREATE TABLE image_members (
    image_id TEXT NOT NULL,
    member_id TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (image_id, member_id)
);
CREATE INDEX image_members_by_member ON image_members (member_id, status);

-- One row for a body that is being received, or that waits in staging for its import (`staged`, with its digest).
CREATE TABLE image_uploads (
    image_id TEXT PRIMARY KEY,
    upload_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    node TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    digest TEXT NOT NULL
);

-- What users see of imports, at /v2/images/<id>/tasks and /v2/tasks.
CREATE TABLE image_tasks (
    id TEXT PRIMARY KEY,
    image_id TEXT NOT NULL,
    type TEXT NOT NULL,
    status TEXT NOT NULL,
    owner TEXT NOT NULL,
    user_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    input TEXT NOT NULL,
    result TEXT NOT NULL,
    message TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX image_tasks_by_image ON image_tasks (image_id, created_at);
