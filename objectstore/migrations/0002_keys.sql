-- Secrets that wrap the keys of sealed objects, in base64. Made at first use, where the configuration names none.
CREATE TABLE object_keys (
    name TEXT NOT NULL PRIMARY KEY,
    secret TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
