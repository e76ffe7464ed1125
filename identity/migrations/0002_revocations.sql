-- Revocations by any id that a token carries: tokens issued before are refused.
CREATE TABLE identity_revoked (
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    issued_before BIGINT NOT NULL,
    forget_at BIGINT NOT NULL,
    PRIMARY KEY (id, kind)
);
CREATE INDEX identity_revoked_forget ON identity_revoked (forget_at);
INSERT INTO identity_revoked (id, kind, issued_before, forget_at)
    SELECT audit_id, 'token', expires_at, expires_at FROM identity_revocations;
DROP TABLE identity_revocations;

-- Which key a credential is encrypted with; NULL for those that were stored before this was recorded.
ALTER TABLE identity_credentials ADD COLUMN key_id TEXT;
CREATE INDEX identity_credentials_key ON identity_credentials (key_id);
