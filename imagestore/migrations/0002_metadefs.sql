-- Metadata definitions: namespaces, and what is in them. An item's body is what its maker said, without its name.
CREATE TABLE metadef_namespaces (
    name TEXT PRIMARY KEY,
    display_name TEXT,
    description TEXT,
    visibility TEXT NOT NULL,
    protected BIGINT NOT NULL,
    owner TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
-- kind: object, property, tag, resource_type
CREATE TABLE metadef_items (
    namespace TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (namespace, kind, name)
);
CREATE INDEX metadef_items_by_name ON metadef_items (kind, name);
