//! The rules of compute and Placement with upstream's defaults.

use crate::ComputeError;
use api::Policy;
use api::policy::Rule;
use std::path::Path;

const ADMIN: &str = "rule:context_is_admin";
const MEMBER: &str = "rule:project_member_or_admin";
const MANAGER: &str = "rule:project_manager_or_admin";
const READER: &str = "rule:project_reader_or_admin";
const OWNER_READ: &str = "(rule:context_is_admin) or user_id:%(user_id)s";
const ANY: &str = "@";

const fn rule(name: &'static str, check: &'static str) -> Rule {
    Rule { name, check }
}

static RULES: &[Rule] = &[
    rule("context_is_admin", "role:admin"),
    rule("project_manager_api", "role:manager and project_id:%(project_id)s"),
    rule("project_member_api", "role:member and project_id:%(project_id)s"),
    rule("project_reader_api", "role:reader and project_id:%(project_id)s"),
    rule("project_manager_or_admin", "rule:project_manager_api or rule:context_is_admin"),
    rule("project_member_or_admin", "rule:project_member_api or rule:context_is_admin"),
    rule("project_reader_or_admin", "rule:project_reader_api or rule:context_is_admin"),
    rule("service_api", "role:service"),
    // servers
    rule("os_compute_api:servers:index", READER),
    rule("os_compute_api:servers:detail", READER),
    rule("os_compute_api:servers:index:get_all_tenants", ADMIN),
    rule("os_compute_api:servers:detail:get_all_tenants", ADMIN),
    rule("os_compute_api:servers:allow_all_filters", ADMIN),
    rule("os_compute_api:servers:show", READER),
    rule("os_compute_api:servers:show:host_status", ADMIN),
    rule("os_compute_api:servers:show:host_status:unknown-only", ADMIN),
    rule("os_compute_api:servers:show:flavor-extra-specs", READER),
    rule("os_compute_api:servers:create", MEMBER),
    rule("os_compute_api:servers:create:forced_host", ADMIN),
    rule("compute:servers:create:requested_destination", ADMIN),
    rule("os_compute_api:servers:create:attach_volume", MEMBER),
    rule("os_compute_api:servers:create:attach_network", MEMBER),
    rule("os_compute_api:servers:create:trusted_certs", MEMBER),
    rule("os_compute_api:servers:delete", MEMBER),
    rule("os_compute_api:servers:update", MEMBER),
    rule("os_compute_api:servers:resize", MEMBER),
    rule("os_compute_api:servers:rebuild", MEMBER),
    rule("os_compute_api:servers:reboot", MEMBER),
    rule("os_compute_api:servers:start", MEMBER),
    rule("os_compute_api:servers:stop", MEMBER),
    rule("os_compute_api:servers:create_image", MEMBER),
    rule("os_compute_api:servers:create_image:allow_volume_backed", MEMBER),
    rule("os_compute_api:os-extended-server-attributes", ADMIN),
    rule("os_compute_api:server-metadata:index", READER),
    rule("os_compute_api:server-metadata:show", READER),
    rule("os_compute_api:server-metadata:create", MEMBER),
    rule("os_compute_api:server-metadata:update_all", MEMBER),
    rule("os_compute_api:server-metadata:update", MEMBER),
    rule("os_compute_api:server-metadata:delete", MEMBER),
    rule("os_compute_api:os-server-tags:index", READER),
    rule("os_compute_api:os-server-tags:show", READER),
    rule("os_compute_api:os-server-tags:update", MEMBER),
    rule("os_compute_api:os-server-tags:update_all", MEMBER),
    rule("os_compute_api:os-server-tags:delete", MEMBER),
    rule("os_compute_api:os-server-tags:delete_all", MEMBER),
    rule("os_compute_api:ips:index", READER),
    rule("os_compute_api:ips:show", READER),
    rule("os_compute_api:os-server-password:show", READER),
    rule("os_compute_api:os-server-password:clear", MEMBER),
    rule("os_compute_api:os-server-diagnostics", ADMIN),
    // what is done to servers
    rule("os_compute_api:os-pause-server:pause", MEMBER),
    rule("os_compute_api:os-pause-server:unpause", MEMBER),
    rule("os_compute_api:os-suspend-server:suspend", MEMBER),
    rule("os_compute_api:os-suspend-server:resume", MEMBER),
    rule("os_compute_api:os-lock-server:lock", MEMBER),
    rule("os_compute_api:os-lock-server:unlock", MEMBER),
    rule("os_compute_api:os-lock-server:unlock:unlock_override", ADMIN),
    rule("os_compute_api:os-admin-actions:reset_state", ADMIN),
    rule("os_compute_api:os-console-output", MEMBER),
    rule("os_compute_api:os-security-groups:list", READER),
    rule("os_compute_api:os-security-groups:add", MEMBER),
    rule("os_compute_api:os-security-groups:remove", MEMBER),
    rule("os_compute_api:os-attach-interfaces:list", READER),
    rule("os_compute_api:os-attach-interfaces:show", READER),
    rule("os_compute_api:os-attach-interfaces:create", MEMBER),
    rule("os_compute_api:os-attach-interfaces:delete", MEMBER),
    rule("os_compute_api:os-volumes-attachments:index", READER),
    rule("os_compute_api:os-volumes-attachments:show", READER),
    rule("os_compute_api:os-volumes-attachments:create", MEMBER),
    rule("os_compute_api:os-volumes-attachments:update", MEMBER),
    rule("os_compute_api:os-volumes-attachments:delete", MEMBER),
    rule("os_compute_api:os-instance-actions:list", READER),
    rule("os_compute_api:os-instance-actions:show", READER),
    rule("os_compute_api:os-instance-actions:events", ADMIN),
    rule("os_compute_api:os-instance-actions:events:details", ADMIN),
    // flavors
    rule("os_compute_api:os-flavor-manage:create", ADMIN),
    rule("os_compute_api:os-flavor-manage:update", ADMIN),
    rule("os_compute_api:os-flavor-manage:delete", ADMIN),
    rule("os_compute_api:os-flavor-access", ADMIN),
    rule("os_compute_api:os-flavor-access:add_tenant_access", ADMIN),
    rule("os_compute_api:os-flavor-access:remove_tenant_access", ADMIN),
    rule("os_compute_api:os-flavor-extra-specs:index", READER),
    rule("os_compute_api:os-flavor-extra-specs:show", READER),
    rule("os_compute_api:os-flavor-extra-specs:create", ADMIN),
    rule("os_compute_api:os-flavor-extra-specs:update", ADMIN),
    rule("os_compute_api:os-flavor-extra-specs:delete", ADMIN),
    // keys, groups, quotas
    rule("os_compute_api:os-keypairs:index", OWNER_READ),
    rule("os_compute_api:os-keypairs:show", OWNER_READ),
    rule("os_compute_api:os-keypairs:create", OWNER_READ),
    rule("os_compute_api:os-keypairs:delete", OWNER_READ),
    rule("os_compute_api:os-server-groups:index", READER),
    rule("os_compute_api:os-server-groups:index:all_projects", ADMIN),
    rule("os_compute_api:os-server-groups:show", READER),
    rule("os_compute_api:os-server-groups:create", MEMBER),
    rule("os_compute_api:os-server-groups:delete", MEMBER),
    rule("os_compute_api:limits", ANY),
    rule("os_compute_api:limits:other_project", ADMIN),
    rule("os_compute_api:os-quota-sets:show", READER),
    rule("os_compute_api:os-quota-sets:detail", READER),
    rule("os_compute_api:os-quota-sets:defaults", ANY),
    rule("os_compute_api:os-quota-sets:update", ADMIN),
    rule("os_compute_api:os-quota-sets:delete", ADMIN),
    rule("os_compute_api:os-quota-class-sets:show", ADMIN),
    rule("os_compute_api:os-quota-class-sets:update", ADMIN),
    rule("os_compute_api:os-simple-tenant-usage:show", READER),
    rule("os_compute_api:os-simple-tenant-usage:list", ADMIN),
    // the cloud itself
    rule("os_compute_api:os-availability-zone:list", ANY),
    rule("os_compute_api:os-availability-zone:detail", ADMIN),
    rule("os_compute_api:os-hypervisors:list", ADMIN),
    rule("os_compute_api:os-hypervisors:list-detail", ADMIN),
    rule("os_compute_api:os-hypervisors:show", ADMIN),
    rule("os_compute_api:os-hypervisors:statistics", ADMIN),
    rule("os_compute_api:os-hypervisors:uptime", ADMIN),
    rule("os_compute_api:os-hypervisors:search", ADMIN),
    rule("os_compute_api:os-hypervisors:servers", ADMIN),
    rule("os_compute_api:os-services:list", ADMIN),
    rule("os_compute_api:os-services:update", ADMIN),
    rule("os_compute_api:os-services:delete", ADMIN),
    rule("os_compute_api:os-aggregates:index", ADMIN),
    rule("os_compute_api:os-aggregates:show", ADMIN),
    rule("os_compute_api:os-aggregates:create", ADMIN),
    rule("os_compute_api:os-aggregates:update", ADMIN),
    rule("os_compute_api:os-aggregates:delete", ADMIN),
    rule("os_compute_api:os-aggregates:add_host", ADMIN),
    rule("os_compute_api:os-aggregates:remove_host", ADMIN),
    rule("os_compute_api:os-aggregates:set_metadata", ADMIN),
    rule("os_compute_api:os-migrations:index", ADMIN),
    rule("os_compute_api:extensions", ANY),
    rule("os_compute_api:os-server-external-events:create", "rule:service_api"),
    rule("project_manager_only", MANAGER),
    // Placement
    rule("placement:admin", "role:admin or role:service"),
    rule("placement:usages", "(role:admin or role:service) or (role:reader and project_id:%(project_id)s)"),
];

fn denial(name: &str) -> String {
    format!("Policy doesn't allow {name} to be performed.")
}

/// The rules in force: the defaults, and what the operator's file replaces.
pub fn table(file: Option<&Path>) -> Result<Policy, ComputeError> {
    let refused = |e: api::policy::PolicyError| ComputeError::Config(e.to_string());
    let policy = Policy::new(RULES, denial).map_err(refused)?;
    if let Some(file) = file {
        policy.load(file).map_err(refused)?;
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_compiles() {
        super::table(None).unwrap();
    }
}
