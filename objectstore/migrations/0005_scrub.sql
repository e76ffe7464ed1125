-- How far the scrub of all content has come, and which process is at it: one row.
CREATE TABLE object_scrub (
    id BIGINT NOT NULL PRIMARY KEY,
    process TEXT NOT NULL,
    word_at BIGINT NOT NULL,
    began_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL,
    container_id TEXT NOT NULL,
    marker {{blob}} NOT NULL
);

-- Objects whose content is not what it was when it was written.
CREATE TABLE object_damage (
    container_id TEXT NOT NULL,
    name {{blob}} NOT NULL,
    version TEXT NOT NULL,
    what TEXT NOT NULL,
    found_at BIGINT NOT NULL,
    PRIMARY KEY (container_id, name, version)
);
