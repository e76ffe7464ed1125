-- Topics: names of a project for addresses that events go to. `info` is JSON.
CREATE TABLE object_topics (
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    info TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, name)
);

-- Containers that have somebody to tell of events, or still have events that were not delivered. One process at a time
-- (`teller`) delivers what is told of one of them, until `until` unless it goes on.
CREATE TABLE object_notifying (
    container_id TEXT NOT NULL PRIMARY KEY,
    teller TEXT NOT NULL,
    until BIGINT NOT NULL
);
