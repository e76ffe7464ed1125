//! The kinds of records, as `migrations/` makes their tables.

use super::record::{Kind, Of::*};

pub(crate) static PROJECT: Kind = Kind {
    noun: "project",
    table: "identity_projects",
    columns: &[
        ("domain_id", Owner),
        ("parent_id", Text),
        ("name", Text),
        ("description", Text),
        ("enabled", Bool),
        ("is_domain", Bool),
        ("options", Json),
        ("tags", Json),
    ],
};

/// The same rows as [`PROJECT`], seen as domains.
pub(crate) static DOMAIN: Kind = Kind { noun: "domain", table: PROJECT.table, columns: PROJECT.columns };

pub(crate) static USER: Kind = Kind {
    noun: "user",
    table: "identity_users",
    columns: &[
        ("domain_id", Text),
        ("name", Text),
        ("enabled", Bool),
        ("default_project_id", Text),
        ("password_expires_at", Int),
        ("options", Json),
    ],
};

/// The same rows as [`USER`], where others keep them: with who does.
pub(crate) static SHADOW_USER: Kind = Kind {
    noun: "user",
    table: USER.table,
    columns: &[
        ("domain_id", Text),
        ("name", Text),
        ("enabled", Bool),
        ("default_project_id", Text),
        ("password_expires_at", Int),
        ("options", Json),
        ("source", Text),
    ],
};

/// The same for groups.
pub(crate) static SHADOW_GROUP: Kind = Kind {
    noun: "group",
    table: GROUP.table,
    columns: &[("domain_id", Text), ("name", Text), ("description", Text), ("source", Text)],
};

pub(crate) static GROUP: Kind = Kind {
    noun: "group",
    table: "identity_groups",
    columns: &[("domain_id", Text), ("name", Text), ("description", Text)],
};

pub(crate) static ROLE: Kind = Kind {
    noun: "role",
    table: "identity_roles",
    columns: &[("domain_id", Owner), ("name", Text), ("description", Text), ("options", Json)],
};

pub(crate) static CREDENTIAL: Kind = Kind {
    noun: "credential",
    table: "identity_credentials",
    columns: &[
        ("user_id", Text),
        ("project_id", Text),
        ("type", Text),
        ("blob", Text),
        ("access_hash", Text),
        ("key_id", Text),
    ],
};

pub(crate) static REGION: Kind = Kind {
    noun: "region",
    table: "identity_regions",
    columns: &[("description", Text), ("parent_region_id", Text)],
};

pub(crate) static SERVICE: Kind =
    Kind { noun: "service", table: "identity_services", columns: &[("type", Text), ("enabled", Bool)] };

pub(crate) static ENDPOINT: Kind = Kind {
    noun: "endpoint",
    table: "identity_endpoints",
    columns: &[
        ("service_id", Text),
        ("region_id", Text),
        ("interface", Text),
        ("url", Text),
        ("enabled", Bool),
    ],
};

pub(crate) static ACCESS_RULE: Kind = Kind {
    noun: "access rule",
    table: "identity_access_rules",
    columns: &[("user_id", Text), ("service", Text), ("path", Text), ("method", Text)],
};

pub(crate) static APP_CREDENTIAL: Kind = Kind {
    noun: "application credential",
    table: "identity_app_credentials",
    columns: &[
        ("user_id", Text),
        ("project_id", Text),
        ("name", Text),
        ("description", Text),
        ("unrestricted", Bool),
        ("expires_at", Int),
        ("roles", Json),
        ("access_rules", Json),
    ],
};

pub(crate) static TRUST: Kind = Kind {
    noun: "trust",
    table: "identity_trusts",
    columns: &[
        ("trustor_user_id", Text),
        ("trustee_user_id", Text),
        ("project_id", Text),
        ("impersonation", Bool),
        ("expires_at", Int),
        ("remaining_uses", Int),
        ("redelegated_trust_id", Text),
        ("redelegation_count", Int),
        ("roles", Json),
        ("deleted_at", Int),
    ],
};

pub(crate) static POLICY: Kind =
    Kind { noun: "policy", table: "identity_policies", columns: &[("type", Text), ("blob", Text)] };

pub(crate) static REGISTERED_LIMIT: Kind = Kind {
    noun: "registered limit",
    table: "identity_registered_limits",
    columns: &[
        ("service_id", Text),
        ("region_id", Owner),
        ("resource_name", Text),
        ("default_limit", Int),
        ("description", Text),
    ],
};

pub(crate) static LIMIT: Kind = Kind {
    noun: "limit",
    table: "identity_limits",
    columns: &[
        ("project_id", Owner),
        ("domain_id", Owner),
        ("service_id", Text),
        ("region_id", Owner),
        ("resource_name", Text),
        ("resource_limit", Int),
        ("description", Text),
    ],
};

pub(crate) static ENDPOINT_GROUP: Kind = Kind {
    noun: "endpoint group",
    table: "identity_endpoint_groups",
    columns: &[("name", Text), ("description", Text), ("filters", Json)],
};

pub(crate) static CONSUMER: Kind = Kind {
    noun: "consumer",
    table: "identity_consumers",
    columns: &[("description", Text), ("secret", Text)],
};

pub(crate) static IDENTITY_PROVIDER: Kind = Kind {
    noun: "identity_provider",
    table: "identity_providers",
    columns: &[("domain_id", Text), ("enabled", Bool), ("description", Text), ("authorization_ttl", Int)],
};

pub(crate) static MAPPING: Kind = Kind {
    noun: "mapping",
    table: "identity_mappings",
    columns: &[("rules", Json), ("schema_version", Text)],
};

pub(crate) static SERVICE_PROVIDER: Kind = Kind {
    noun: "service_provider",
    table: "identity_service_providers",
    columns: &[
        ("enabled", Bool),
        ("description", Text),
        ("auth_url", Text),
        ("sp_url", Text),
        ("relay_state_prefix", Text),
    ],
};
