CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    -- ready | unwinding | failed; `running` is `ready` under a lease
    state TEXT NOT NULL,
    -- steps done so far
    step BIGINT NOT NULL,
    params TEXT NOT NULL,
    memo TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    reason TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    lease_node TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX tasks_due ON tasks (state, not_before);
CREATE INDEX tasks_subject ON tasks (subject, created_at);
