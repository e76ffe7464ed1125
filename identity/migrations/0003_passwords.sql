-- What security compliance must know of a user. 0 stands for never, and for users made before this was kept.
ALTER TABLE identity_users ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE identity_users ADD COLUMN last_active_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE identity_users ADD COLUMN failed_logins BIGINT NOT NULL DEFAULT 0;
ALTER TABLE identity_users ADD COLUMN failed_login_at BIGINT NOT NULL DEFAULT 0;
-- Whether the user chose the password, rather than an administrator.
ALTER TABLE identity_users ADD COLUMN own_password BOOLEAN NOT NULL DEFAULT FALSE;

-- The passwords that a user had before, as many as must not be used again.
CREATE TABLE identity_former_passwords (
    user_id TEXT NOT NULL,
    ended_at BIGINT NOT NULL,
    password_hash TEXT NOT NULL,
    PRIMARY KEY (user_id, ended_at)
);

-- Time steps whose passcode was used, while it could be used again.
CREATE TABLE identity_passcodes (
    credential_id TEXT NOT NULL,
    step BIGINT NOT NULL,
    PRIMARY KEY (credential_id, step)
);
