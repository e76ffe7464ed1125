//! Who may do what with volumes: upstream's default rules (those with the scoped roles reader, member, admin).

use api::policy::{Policy, PolicyError, Rule};

const READ: &str = "rule:admin or (role:reader and rule:owner)";
const WRITE: &str = "rule:admin or (role:member and rule:owner)";
const ADMIN: &str = "rule:admin";
const ANYONE: &str = "";

const fn rule(name: &'static str, check: &'static str) -> Rule {
    Rule { name, check }
}

/// The table. An operator's `policy_file` may replace any line of it.
pub(crate) const RULES: &[Rule] = &[
    rule("admin", "role:admin"),
    rule("owner", "project_id:%(project_id)s"),
    // volumes
    rule("volume:create", WRITE),
    rule("volume:create_from_image", WRITE),
    rule("volume:get", READ),
    rule("volume:get_all", READ),
    rule("volume:update", WRITE),
    rule("volume:delete", WRITE),
    rule("volume:force_delete", ADMIN),
    rule("volume:extend", WRITE),
    rule("volume:extend_attached_volume", WRITE),
    rule("volume:retype", WRITE),
    rule("volume:revert_to_snapshot", WRITE),
    rule("volume:update_readonly_flag", WRITE),
    rule("volume:get_volume_metadata", READ),
    rule("volume:create_volume_metadata", WRITE),
    rule("volume:update_volume_metadata", WRITE),
    rule("volume:delete_volume_metadata", WRITE),
    rule("volume_extension:volume_host_attribute", ADMIN),
    rule("volume_extension:volume_tenant_attribute", READ),
    rule("volume_extension:volume_mig_status_attribute", ADMIN),
    rule("volume_extension:volume_encryption_metadata", READ),
    rule("volume_extension:volume_image_metadata:show", READ),
    rule("volume_extension:volume_image_metadata:set", WRITE),
    rule("volume_extension:volume_image_metadata:remove", WRITE),
    // actions
    rule("volume_extension:volume_admin_actions:reset_status", ADMIN),
    rule("volume_extension:volume_admin_actions:force_delete", ADMIN),
    rule("volume_extension:volume_admin_actions:force_detach", ADMIN),
    rule("volume_extension:volume_admin_actions:migrate_volume", ADMIN),
    rule("volume_extension:volume_admin_actions:migrate_volume_completion", ADMIN),
    rule("volume_extension:volume_actions:upload_image", WRITE),
    rule("volume_extension:volume_actions:upload_public", ADMIN),
    rule("volume_extension:volume_actions:initialize_connection", WRITE),
    rule("volume_extension:volume_actions:terminate_connection", WRITE),
    rule("volume_extension:volume_actions:attach", WRITE),
    rule("volume_extension:volume_actions:detach", WRITE),
    rule("volume_extension:volume_actions:begin_detaching", WRITE),
    rule("volume_extension:volume_actions:roll_detaching", WRITE),
    rule("volume_extension:volume_actions:reserve", WRITE),
    rule("volume_extension:volume_actions:unreserve", WRITE),
    // attachments
    rule("volume:attachment_create", WRITE),
    rule("volume:attachment_update", WRITE),
    rule("volume:attachment_delete", WRITE),
    rule("volume:attachment_complete", WRITE),
    rule("volume:multiattach_bootable_volume", WRITE),
    // snapshots
    rule("volume:create_snapshot", WRITE),
    rule("volume:get_snapshot", READ),
    rule("volume:get_all_snapshots", READ),
    rule("volume:update_snapshot", WRITE),
    rule("volume:delete_snapshot", WRITE),
    rule("volume:get_snapshot_metadata", READ),
    rule("volume:update_snapshot_metadata", WRITE),
    rule("volume:delete_snapshot_metadata", WRITE),
    rule("volume_extension:extended_snapshot_attributes", READ),
    rule("snapshot_extension:snapshot_actions:update_snapshot_status", WRITE),
    rule("volume_extension:snapshot_admin_actions:reset_status", ADMIN),
    rule("volume_extension:snapshot_admin_actions:force_delete", ADMIN),
    // types
    rule("volume_extension:type_get", READ),
    rule("volume_extension:type_get_all", READ),
    rule("volume_extension:type_create", ADMIN),
    rule("volume_extension:type_update", ADMIN),
    rule("volume_extension:type_delete", ADMIN),
    rule("volume_extension:access_types_extra_specs", READ),
    rule("volume_extension:access_types_qos_specs_id", ADMIN),
    rule("volume_extension:types_extra_specs:index", READ),
    rule("volume_extension:types_extra_specs:show", READ),
    rule("volume_extension:types_extra_specs:read_sensitive", ADMIN),
    rule("volume_extension:types_extra_specs:create", ADMIN),
    rule("volume_extension:types_extra_specs:update", ADMIN),
    rule("volume_extension:types_extra_specs:delete", ADMIN),
    rule("volume_extension:volume_type_access", WRITE),
    rule("volume_extension:volume_type_access:addProjectAccess", ADMIN),
    rule("volume_extension:volume_type_access:removeProjectAccess", ADMIN),
    rule("volume_extension:volume_type_access:get_all_for_type", ADMIN),
    rule("volume_extension:default_set_or_update", ADMIN),
    rule("volume_extension:default_get", ADMIN),
    rule("volume_extension:default_get_all", ADMIN),
    rule("volume_extension:default_unset", ADMIN),
    rule("volume_extension:qos_specs_manage:get_all", ADMIN),
    rule("volume_extension:qos_specs_manage:get", ADMIN),
    rule("volume_extension:qos_specs_manage:create", ADMIN),
    rule("volume_extension:qos_specs_manage:update", ADMIN),
    rule("volume_extension:qos_specs_manage:delete", ADMIN),
    // quotas and limits
    rule("volume_extension:quotas:show", READ),
    rule("volume_extension:quotas:update", ADMIN),
    rule("volume_extension:quotas:delete", ADMIN),
    rule("volume_extension:quota_classes:get", ADMIN),
    rule("volume_extension:quota_classes:update", ADMIN),
    rule("limits_extension:used_limits", READ),
    // transfers
    rule("volume:create_transfer", WRITE),
    rule("volume:accept_transfer", WRITE),
    rule("volume:get_transfer", READ),
    rule("volume:get_all_transfers", READ),
    rule("volume:delete_transfer", WRITE),
    // the rest
    rule("message:get", READ),
    rule("message:get_all", READ),
    rule("message:delete", WRITE),
    rule("volume_extension:services:index", ADMIN),
    rule("volume_extension:services:update", ADMIN),
    rule("volume_extension:hosts", ADMIN),
    rule("volume_extension:capabilities", ADMIN),
    rule("scheduler_extension:scheduler_stats:get_pools", ADMIN),
    rule("volume_extension:list_extensions", ANYONE),
    rule("volume_extension:availability_zones", ANYONE),
];

/// The default rules, upstream's wording of a denial with them.
pub fn table() -> Result<Policy, PolicyError> {
    Policy::new(RULES, |rule| format!("Policy doesn't allow {rule} to be performed."))
}
