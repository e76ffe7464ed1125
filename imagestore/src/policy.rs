//! Who may do what with images: upstream's defaults, as its policy reference lists them.

use crate::{Image, ImageError};
use api::policy::Rule;
use api::{Context, Policy};

const ADMIN: &str = "role:admin";
const MEMBER: &str = "role:admin or (role:member and project_id:%(project_id)s)";
const READER: &str = "role:admin or (role:reader and project_id:%(project_id)s)";

/// What everybody may see of metadata definitions who sees the namespace.
const METADEF_READER: &str =
    "role:admin or (role:reader and (project_id:%(project_id)s or 'public':%(visibility)s))";
const METADEF_ADMIN: &str = "rule:metadef_admin";

macro_rules! rules {
    ($($name:literal = $check:expr),+ $(,)?) => { &[$(Rule { name: $name, check: $check }),+] };
}

/// The rules an operator may replace.
pub(crate) const RULES: &[Rule] = rules! {
    "context_is_admin" = ADMIN,
    "default" = "",
    "service_api" = "role:service or role:admin",
    "add_image" = "role:admin or (role:member and project_id:%(project_id)s and project_id:%(owner)s)",
    "delete_image" = MEMBER,
    "get_image" = "role:admin or (role:reader and (project_id:%(project_id)s or project_id:%(member_id)s or \
        'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s))",
    "get_images" = "role:admin or role:reader",
    "modify_image" = MEMBER,
    "publicize_image" = ADMIN,
    "communitize_image" = MEMBER,
    "download_image" = "role:admin or (role:member and (project_id:%(project_id)s or project_id:%(member_id)s or \
        'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s))",
    "upload_image" = MEMBER,
    "get_image_location" = READER,
    "set_image_location" = MEMBER,
    "delete_image_location" = ADMIN,
    "add_image_location" =
        "rule:service_api or (role:member and project_id:%(project_id)s and project_id:%(owner)s)",
    "fetch_image_location" = "rule:service_api",
    "add_member" = MEMBER,
    "delete_member" = MEMBER,
    "get_member" = "role:admin or (role:reader and (project_id:%(project_id)s or project_id:%(member_id)s))",
    "get_members" = "role:admin or (role:reader and (project_id:%(project_id)s or project_id:%(member_id)s))",
    "modify_member" = "role:admin or (role:member and project_id:%(member_id)s)",
    "deactivate" = MEMBER,
    "reactivate" = MEMBER,
    "copy_image" = ADMIN,
    "cache_list" = ADMIN,
    "cache_image" = ADMIN,
    "cache_delete" = ADMIN,
    "get_task" = READER,
    "get_tasks" = READER,
    "tasks_api_access" = ADMIN,
    "stores_info_detail" = ADMIN,
    "metadef_default" = "",
    "metadef_admin" = ADMIN,
    "get_metadef_namespace" = METADEF_READER,
    "get_metadef_namespaces" = "role:admin or (role:reader and project_id:%(project_id)s)",
    "modify_metadef_namespace" = METADEF_ADMIN,
    "add_metadef_namespace" = METADEF_ADMIN,
    "delete_metadef_namespace" = METADEF_ADMIN,
    "get_metadef_object" = METADEF_READER,
    "get_metadef_objects" = METADEF_READER,
    "modify_metadef_object" = METADEF_ADMIN,
    "add_metadef_object" = METADEF_ADMIN,
    "delete_metadef_object" = METADEF_ADMIN,
    "get_metadef_property" = METADEF_READER,
    "get_metadef_properties" = METADEF_READER,
    "modify_metadef_property" = METADEF_ADMIN,
    "add_metadef_property" = METADEF_ADMIN,
    "remove_metadef_property" = METADEF_ADMIN,
    "get_metadef_tag" = METADEF_READER,
    "get_metadef_tags" = METADEF_READER,
    "modify_metadef_tag" = METADEF_ADMIN,
    "add_metadef_tag" = METADEF_ADMIN,
    "delete_metadef_tag" = METADEF_ADMIN,
    "delete_metadef_tags" = METADEF_ADMIN,
    "add_metadef_tags" = METADEF_ADMIN,
    "list_metadef_resource_types" = "role:admin or (role:reader and project_id:%(project_id)s)",
    "get_metadef_resource_type" = METADEF_READER,
    "add_metadef_resource_type_association" = METADEF_ADMIN,
    "remove_metadef_resource_type_association" = METADEF_ADMIN,
};

/// The rules with upstream's wording of a denial.
pub fn policy() -> Result<Policy, ImageError> {
    Policy::new(RULES, |rule| format!("You are not authorized to complete {rule} action."))
        .map_err(|e| ImageError::Config(e.to_string()))
}

/// Enforces `rule` on an image that the caller already sees. `member` is the caller's project where the image is
/// shared with it.
pub(crate) fn enforce(
    policy: &Policy,
    ctx: &Context,
    rule: &str,
    image: &Image,
    member: Option<&str>,
) -> Result<(), ImageError> {
    let owner = image.owner.as_deref().unwrap_or_default();
    let mut target = vec![("project_id", owner), ("owner", owner), ("visibility", image.visibility.as_str())];
    target.extend(member.map(|m| ("member_id", m)));
    check(policy, ctx, rule, &target)
}

/// Enforces `rule` on a target of the caller's own making.
pub(crate) fn check(
    policy: &Policy,
    ctx: &Context,
    rule: &str,
    target: &[(&str, &str)],
) -> Result<(), ImageError> {
    policy.enforce(ctx, rule, target).map_err(|e| ImageError::Forbidden(e.message().to_owned()))
}
