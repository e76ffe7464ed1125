-- Keystone's resources. An `extra` column holds the attributes that clients add of their own, as JSON.
-- `valid_from`: tokens issued before it are refused (password changed, user or project disabled).
-- Absent owners are '' where a unique index must see them.

-- One row, counted up by every change that can alter what a token says: other processes look at it.
CREATE TABLE identity_epoch (id BIGINT PRIMARY KEY, epoch BIGINT NOT NULL);
INSERT INTO identity_epoch (id, epoch) VALUES (1, 1);

-- A domain is a project with is_domain, its own domain_id ''.
CREATE TABLE identity_projects (
    id TEXT PRIMARY KEY,
    domain_id TEXT NOT NULL,
    parent_id TEXT,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    is_domain BOOLEAN NOT NULL,
    options TEXT NOT NULL,
    tags TEXT NOT NULL,
    extra TEXT NOT NULL,
    valid_from BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX identity_projects_name ON identity_projects (domain_id, name);
CREATE INDEX identity_projects_parent ON identity_projects (parent_id);

CREATE TABLE identity_users (
    id TEXT PRIMARY KEY,
    domain_id TEXT NOT NULL,
    name TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    default_project_id TEXT,
    password_expires_at BIGINT,
    options TEXT NOT NULL,
    extra TEXT NOT NULL,
    password_hash TEXT,
    password_changed_at BIGINT NOT NULL DEFAULT 0,
    valid_from BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX identity_users_name ON identity_users (domain_id, name);

CREATE TABLE identity_groups (
    id TEXT PRIMARY KEY,
    domain_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    extra TEXT NOT NULL
);
CREATE UNIQUE INDEX identity_groups_name ON identity_groups (domain_id, name);

CREATE TABLE identity_members (
    group_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX identity_members_user ON identity_members (user_id);

CREATE TABLE identity_roles (
    id TEXT PRIMARY KEY,
    domain_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    options TEXT NOT NULL,
    extra TEXT NOT NULL
);
CREATE UNIQUE INDEX identity_roles_name ON identity_roles (domain_id, name);

CREATE TABLE identity_implied_roles (
    prior_id TEXT NOT NULL,
    implied_id TEXT NOT NULL,
    PRIMARY KEY (prior_id, implied_id)
);

-- Who (user, group) has which role where (project, domain, system); inherited: by the projects below.
CREATE TABLE identity_assignments (
    actor_kind TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target_id TEXT NOT NULL,
    role_id TEXT NOT NULL,
    inherited BOOLEAN NOT NULL,
    PRIMARY KEY (actor_id, target_id, role_id, inherited, actor_kind, target_kind)
);
CREATE INDEX identity_assignments_target ON identity_assignments (target_id);
CREATE INDEX identity_assignments_role ON identity_assignments (role_id);

-- `blob` is encrypted with the credential keys. An EC2 credential is found by the SHA-256 of its access key.
CREATE TABLE identity_credentials (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    project_id TEXT,
    type TEXT NOT NULL,
    blob TEXT NOT NULL,
    access_hash TEXT,
    extra TEXT NOT NULL
);
CREATE UNIQUE INDEX identity_credentials_access ON identity_credentials (access_hash);
CREATE INDEX identity_credentials_user ON identity_credentials (user_id);

CREATE TABLE identity_regions (
    id TEXT PRIMARY KEY,
    description TEXT NOT NULL,
    parent_region_id TEXT,
    extra TEXT NOT NULL
);

CREATE TABLE identity_services (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    extra TEXT NOT NULL
);

CREATE TABLE identity_endpoints (
    id TEXT PRIMARY KEY,
    service_id TEXT NOT NULL,
    region_id TEXT,
    interface TEXT NOT NULL,
    url TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    extra TEXT NOT NULL
);
CREATE INDEX identity_endpoints_service ON identity_endpoints (service_id);

CREATE TABLE identity_access_rules (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    service TEXT NOT NULL,
    path TEXT NOT NULL,
    method TEXT NOT NULL,
    extra TEXT NOT NULL
);
CREATE UNIQUE INDEX identity_access_rules_what ON identity_access_rules (user_id, service, path, method);

-- `roles` and `access_rules` are JSON lists of ids.
CREATE TABLE identity_app_credentials (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    unrestricted BOOLEAN NOT NULL,
    expires_at BIGINT,
    roles TEXT NOT NULL,
    access_rules TEXT,
    extra TEXT NOT NULL,
    secret_hash TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX identity_app_credentials_name ON identity_app_credentials (user_id, name);

CREATE TABLE identity_trusts (
    id TEXT PRIMARY KEY,
    trustor_user_id TEXT NOT NULL,
    trustee_user_id TEXT NOT NULL,
    project_id TEXT,
    impersonation BOOLEAN NOT NULL,
    expires_at BIGINT,
    remaining_uses BIGINT,
    redelegated_trust_id TEXT,
    redelegation_count BIGINT NOT NULL,
    roles TEXT NOT NULL,
    deleted_at BIGINT,
    extra TEXT NOT NULL
);
CREATE INDEX identity_trusts_trustor ON identity_trusts (trustor_user_id);
CREATE INDEX identity_trusts_trustee ON identity_trusts (trustee_user_id);

-- Tokens that were revoked one by one, until they would have expired anyway.
CREATE TABLE identity_revocations (
    audit_id TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

CREATE TABLE identity_policies (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    blob TEXT NOT NULL,
    extra TEXT NOT NULL
);

CREATE TABLE identity_registered_limits (
    id TEXT PRIMARY KEY,
    service_id TEXT NOT NULL,
    region_id TEXT NOT NULL,
    resource_name TEXT NOT NULL,
    default_limit BIGINT NOT NULL,
    description TEXT,
    extra TEXT NOT NULL
);
CREATE UNIQUE INDEX identity_registered_limits_what ON identity_registered_limits (service_id, region_id, resource_name);

CREATE TABLE identity_limits (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    domain_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    region_id TEXT NOT NULL,
    resource_name TEXT NOT NULL,
    resource_limit BIGINT NOT NULL,
    description TEXT,
    extra TEXT NOT NULL
);
CREATE UNIQUE INDEX identity_limits_what ON identity_limits (project_id, domain_id, service_id, region_id, resource_name);

CREATE TABLE identity_endpoint_groups (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT,
    filters TEXT NOT NULL,
    extra TEXT NOT NULL
);

-- Which endpoints (kind 'endpoint') and endpoint groups ('group') a project was given.
CREATE TABLE identity_project_endpoints (
    project_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    PRIMARY KEY (project_id, kind, endpoint_id)
);

-- A domain's own settings, one row an option; value is JSON.
CREATE TABLE identity_domain_options (
    domain_id TEXT NOT NULL,
    grp TEXT NOT NULL,
    opt TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (domain_id, grp, opt)
);

CREATE TABLE identity_consumers (
    id TEXT PRIMARY KEY,
    description TEXT,
    secret TEXT NOT NULL,
    extra TEXT NOT NULL
);
