-- Snapshots and backups that are made by themselves.
CREATE TABLE volume_schedules (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    -- snapshot or backup
    kind TEXT NOT NULL,
    -- one of the two
    volume_id TEXT,
    group_id TEXT,
    -- how many of each are kept; 0 makes none
    hourly BIGINT NOT NULL,
    daily BIGINT NOT NULL,
    weekly BIGINT NOT NULL,
    monthly BIGINT NOT NULL,
    -- when in the hour, day, week (0 is Monday) and month, by the clocks of a zone
    minute BIGINT NOT NULL,
    hour BIGINT NOT NULL,
    weekday BIGINT NOT NULL,
    day BIGINT NOT NULL,
    zone TEXT NOT NULL,
    -- every so many backups one is full
    full_every BIGINT NOT NULL,
    container TEXT,
    enabled BOOLEAN NOT NULL,
    -- what was due until then has been seen to
    seen_at BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    last_at BIGINT,
    -- empty: the last run went well
    last_error TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT
);
CREATE INDEX volume_schedules_project ON volume_schedules (project_id, created_at);
CREATE INDEX volume_schedules_due ON volume_schedules (next_at);

-- What schedules have made: all that retention may ever delete.
CREATE TABLE volume_schedule_items (
    -- the id of the snapshot, backup or group snapshot
    id TEXT PRIMARY KEY,
    schedule_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    -- snapshot, backup or group_snapshot
    kind TEXT NOT NULL,
    -- what it counts as: hourly, daily … joined by commas
    classes TEXT NOT NULL,
    -- of a backup: 1 is full, 2 is made on that, and so on
    ordinal BIGINT NOT NULL,
    made_at BIGINT NOT NULL
);
CREATE INDEX volume_schedule_items_schedule ON volume_schedule_items (schedule_id, made_at);
