-- Images that are in the cache, or on their way into it. `entry` tells the rows that one image has had apart. `tier` is
-- where the copy is; where that is one of the image's stores, nothing was copied. `state` is queued, cached or dropped,
-- and `since` when it came to that. `bytes` are the copy's, in whole objects.
CREATE TABLE image_cache (
    image_id TEXT PRIMARY KEY,
    entry TEXT NOT NULL,
    tier TEXT NOT NULL,
    state TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    hits BIGINT NOT NULL,
    since BIGINT NOT NULL,
    last_accessed BIGINT NOT NULL
);
