-- Whose users this cloud does not keep itself, with the mirror of those it has seen.
-- `source` of a user or group: '' where it is kept here, 'ldap' where a directory keeps it. A federated user's is its
-- own id: the names of such users need not differ.
ALTER TABLE identity_users ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE identity_groups ADD COLUMN source TEXT NOT NULL DEFAULT '';
DROP INDEX identity_users_name;
CREATE UNIQUE INDEX identity_users_name ON identity_users (domain_id, name, source);
DROP INDEX identity_groups_name;
CREATE UNIQUE INDEX identity_groups_name ON identity_groups (domain_id, name, source);
CREATE TABLE identity_providers (
    id TEXT PRIMARY KEY,
    domain_id TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    description TEXT,
    authorization_ttl BIGINT,
    extra TEXT NOT NULL
);
CREATE INDEX identity_providers_domain ON identity_providers (domain_id);

CREATE TABLE identity_remote_ids (
    remote_id TEXT PRIMARY KEY,
    idp_id TEXT NOT NULL
);
CREATE INDEX identity_remote_ids_idp ON identity_remote_ids (idp_id);

CREATE TABLE identity_protocols (
    idp_id TEXT NOT NULL,
    id TEXT NOT NULL,
    mapping_id TEXT NOT NULL,
    remote_id_attribute TEXT,
    PRIMARY KEY (idp_id, id)
);

CREATE TABLE identity_mappings (
    id TEXT PRIMARY KEY,
    rules TEXT NOT NULL,
    schema_version TEXT NOT NULL,
    extra TEXT NOT NULL
);

CREATE TABLE identity_service_providers (
    id TEXT PRIMARY KEY,
    enabled BOOLEAN NOT NULL,
    description TEXT,
    auth_url TEXT NOT NULL,
    sp_url TEXT NOT NULL,
    relay_state_prefix TEXT,
    extra TEXT NOT NULL
);

-- Who is whom: a user as its provider names it.
CREATE TABLE identity_federated_users (
    idp_id TEXT NOT NULL,
    protocol_id TEXT NOT NULL,
    unique_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (idp_id, protocol_id, unique_id)
);
CREATE INDEX identity_federated_users_user ON identity_federated_users (user_id);

-- Memberships that hold for a while after a provider has vouched for them.
CREATE TABLE identity_expiring_members (
    user_id TEXT NOT NULL,
    group_id TEXT NOT NULL,
    idp_id TEXT NOT NULL,
    verified_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, group_id, idp_id)
);
CREATE INDEX identity_expiring_members_group ON identity_expiring_members (group_id);
CREATE INDEX identity_expiring_members_idp ON identity_expiring_members (idp_id);

-- Which state of a browser's login was used, while it could be used again.
CREATE TABLE identity_used_states (
    id TEXT PRIMARY KEY,
    forget_at BIGINT NOT NULL
);

-- The public ids of what directories keep under ids of their own.
CREATE TABLE identity_id_mappings (
    public_id TEXT PRIMARY KEY,
    domain_id TEXT NOT NULL,
    local_id TEXT NOT NULL,
    entity_type TEXT NOT NULL
);
CREATE UNIQUE INDEX identity_id_mappings_local ON identity_id_mappings (domain_id, local_id, entity_type);
