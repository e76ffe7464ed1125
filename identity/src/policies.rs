//! Upstream's default rules, one table: the personas are roles (admin, manager, member, reader, service) in a scope
//! (system, domain, project). The operator's policy file may replace any line.
//!
//! Targets are the resource's attributes: `target.user.domain_id` is the domain of the user that a request
//! touches; `None` stands for an attribute that is absent. `scope.domain_id` is the token's own domain scope.
//! The first column says which tokens a rule is for: `SP` are those of the system and of projects, which keeps the
//! admin of a domain from what is the whole cloud's.

use api::Policy;
use api::policy::Scopes::{self, Any as ANY, Project as P, SystemOrProject as SP};
use api::policy::{PolicyError, ScopedRule};

const fn rule(scopes: Scopes, name: &'static str, check: &'static str) -> ScopedRule {
    ScopedRule { name, scopes, check }
}

#[rustfmt::skip]
pub(crate) const RULES: &[ScopedRule] = &[
    rule(ANY, "admin_required", "role:admin or is_admin:1"),
    rule(ANY, "service_role", "role:service"),
    rule(ANY, "service_or_admin", "rule:admin_required or rule:service_role"),
    rule(ANY, "owner", "user_id:%(user_id)s"),
    rule(ANY, "admin_or_owner", "rule:admin_required or rule:owner"),
    rule(ANY, "token_subject", "user_id:%(target.token.user_id)s"),
    rule(ANY, "admin_or_token_subject", "rule:admin_required or rule:token_subject"),
    rule(ANY, "service_admin_or_token_subject", "rule:service_or_admin or rule:token_subject"),
    rule(ANY, "system_reader", "rule:admin_required or (role:reader and system_scope:all)"),
    rule(ANY, "domain_managed_target_role", "'manager':%(target.role.name)s or 'member':%(target.role.name)s or 'reader':%(target.role.name)s"),
    rule(ANY, "domain_scoped", "not 'None':%(scope.domain_id)s"),
    rule(ANY, "identity:get_region", ""),
    rule(ANY, "identity:list_regions", ""),
    rule(SP, "identity:create_region", "rule:admin_required"),
    rule(SP, "identity:update_region", "rule:admin_required"),
    rule(SP, "identity:delete_region", "rule:admin_required"),
    rule(SP, "identity:get_service", "rule:system_reader"),
    rule(SP, "identity:list_services", "rule:system_reader"),
    rule(SP, "identity:create_service", "rule:admin_required"),
    rule(SP, "identity:update_service", "rule:admin_required"),
    rule(SP, "identity:delete_service", "rule:admin_required"),
    rule(SP, "identity:get_endpoint", "rule:system_reader"),
    rule(SP, "identity:list_endpoints", "rule:system_reader"),
    rule(SP, "identity:create_endpoint", "rule:admin_required"),
    rule(SP, "identity:update_endpoint", "rule:admin_required"),
    rule(SP, "identity:delete_endpoint", "rule:admin_required"),
    rule(SP, "identity:get_policy", "rule:system_reader"),
    rule(SP, "identity:list_policies", "rule:system_reader"),
    rule(SP, "identity:create_policy_association_for_endpoint", "rule:admin_required"),
    rule(SP, "identity:create_policy_association_for_service", "rule:admin_required"),
    rule(SP, "identity:create_policy_association_for_region_and_service", "rule:admin_required"),
    rule(SP, "identity:check_policy_association_for_endpoint", "rule:system_reader"),
    rule(SP, "identity:check_policy_association_for_service", "rule:system_reader"),
    rule(SP, "identity:check_policy_association_for_region_and_service", "rule:system_reader"),
    rule(SP, "identity:delete_policy_association_for_endpoint", "rule:admin_required"),
    rule(SP, "identity:delete_policy_association_for_service", "rule:admin_required"),
    rule(SP, "identity:delete_policy_association_for_region_and_service", "rule:admin_required"),
    rule(SP, "identity:get_policy_for_endpoint", "rule:system_reader"),
    rule(SP, "identity:list_endpoints_for_policy", "rule:system_reader"),
    rule(SP, "identity:create_policy", "rule:admin_required"),
    rule(SP, "identity:update_policy", "rule:admin_required"),
    rule(SP, "identity:delete_policy", "rule:admin_required"),
    rule(ANY, "identity:get_domain", "rule:system_reader or domain_id:%(target.domain.id)s or project_domain_id:%(target.domain.id)s"),
    rule(ANY, "identity:list_domains", "rule:system_reader or (role:reader and domain_id:%(target.domain.id)s)"),
    rule(SP, "identity:create_domain", "rule:admin_required"),
    rule(SP, "identity:update_domain", "rule:admin_required"),
    rule(SP, "identity:delete_domain", "rule:admin_required"),
    rule(SP, "identity:get_domain_config", "rule:system_reader"),
    rule(ANY, "identity:get_security_compliance_domain_config", ""),
    rule(SP, "identity:get_domain_config_default", "rule:system_reader"),
    rule(SP, "identity:create_domain_config", "rule:admin_required"),
    rule(SP, "identity:update_domain_config", "rule:admin_required"),
    rule(SP, "identity:delete_domain_config", "rule:admin_required"),
    rule(ANY, "identity:get_project", "rule:system_reader or (role:reader and domain_id:%(target.project.domain_id)s) or project_id:%(target.project.id)s"),
    rule(ANY, "identity:list_projects", "rule:system_reader or (role:reader and domain_id:%(target.domain_id)s)"),
    rule(ANY, "identity:list_user_projects", "rule:system_reader or (role:reader and domain_id:%(target.user.domain_id)s) or user_id:%(target.user.id)s"),
    rule(ANY, "identity:create_project", "rule:admin_required or (role:manager and domain_id:%(target.project.domain_id)s)"),
    rule(ANY, "identity:update_project", "rule:admin_required or (role:manager and domain_id:%(target.project.domain_id)s)"),
    rule(ANY, "identity:delete_project", "rule:admin_required or (role:manager and domain_id:%(target.project.domain_id)s)"),
    rule(ANY, "identity:list_project_tags", "rule:system_reader or (role:reader and domain_id:%(target.project.domain_id)s) or project_id:%(target.project.id)s"),
    rule(ANY, "identity:get_project_tag", "rule:system_reader or (role:reader and domain_id:%(target.project.domain_id)s) or project_id:%(target.project.id)s"),
    rule(ANY, "identity:update_project_tags", "rule:admin_required or (role:manager and domain_id:%(target.project.domain_id)s)"),
    rule(ANY, "identity:create_project_tag", "rule:admin_required or (role:manager and domain_id:%(target.project.domain_id)s)"),
    rule(ANY, "identity:delete_project_tags", "rule:admin_required or (role:manager and domain_id:%(target.project.domain_id)s)"),
    rule(ANY, "identity:delete_project_tag", "rule:admin_required or (role:manager and domain_id:%(target.project.domain_id)s)"),
    rule(ANY, "identity:get_user", "rule:system_reader or (role:reader and domain_id:%(target.user.domain_id)s) or user_id:%(target.user.id)s"),
    rule(ANY, "identity:list_users", "rule:system_reader or (role:reader and domain_id:%(target.domain_id)s)"),
    rule(ANY, "identity:list_projects_for_user", ""),
    rule(ANY, "identity:list_domains_for_user", ""),
    rule(ANY, "identity:create_user", "rule:admin_required or (role:manager and domain_id:%(target.user.domain_id)s)"),
    rule(ANY, "identity:update_user", "rule:admin_required or (role:manager and domain_id:%(target.user.domain_id)s)"),
    rule(ANY, "identity:delete_user", "rule:admin_required or (role:manager and domain_id:%(target.user.domain_id)s)"),
    rule(ANY, "identity:get_group", "rule:system_reader or (role:reader and domain_id:%(target.group.domain_id)s)"),
    rule(ANY, "identity:list_groups", "rule:system_reader or (role:reader and domain_id:%(target.group.domain_id)s)"),
    rule(ANY, "identity:list_groups_for_user", "rule:system_reader or (role:reader and domain_id:%(target.user.domain_id)s) or user_id:%(target.user.id)s"),
    rule(ANY, "identity:create_group", "rule:admin_required or (role:manager and domain_id:%(target.group.domain_id)s)"),
    rule(ANY, "identity:update_group", "rule:admin_required or (role:manager and domain_id:%(target.group.domain_id)s)"),
    rule(ANY, "identity:delete_group", "rule:admin_required or (role:manager and domain_id:%(target.group.domain_id)s)"),
    rule(ANY, "identity:list_users_in_group", "rule:system_reader or (role:reader and domain_id:%(target.group.domain_id)s)"),
    rule(ANY, "identity:check_user_in_group", "rule:system_reader or (role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)"),
    rule(ANY, "identity:add_user_to_group", "rule:admin_required or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)"),
    rule(ANY, "identity:remove_user_from_group", "rule:admin_required or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)"),
    rule(ANY, "identity:get_role", "rule:system_reader or (role:manager and rule:domain_managed_target_role)"),
    rule(ANY, "identity:list_roles", "rule:system_reader or (role:manager and rule:domain_scoped)"),
    rule(SP, "identity:create_role", "rule:admin_required"),
    rule(SP, "identity:update_role", "rule:admin_required"),
    rule(SP, "identity:delete_role", "rule:admin_required"),
    rule(SP, "identity:get_domain_role", "rule:system_reader"),
    rule(SP, "identity:list_domain_roles", "rule:system_reader"),
    rule(SP, "identity:create_domain_role", "rule:admin_required"),
    rule(SP, "identity:update_domain_role", "rule:admin_required"),
    rule(SP, "identity:delete_domain_role", "rule:admin_required"),
    rule(ANY, "identity:check_grant", "rule:system_reader or (((role:reader and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:reader and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or (role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) and (domain_id:%(target.role.domain_id)s or 'None':%(target.role.domain_id)s))"),
    rule(ANY, "identity:list_grants", "rule:system_reader or (role:reader and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:reader and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or (role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:reader and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)"),
    rule(ANY, "identity:create_grant", "rule:admin_required or (((role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) and rule:domain_managed_target_role and (domain_id:%(target.role.domain_id)s or 'None':%(target.role.domain_id)s))"),
    rule(ANY, "identity:revoke_grant", "rule:admin_required or (((role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) or (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) and rule:domain_managed_target_role and (domain_id:%(target.role.domain_id)s or 'None':%(target.role.domain_id)s))"),
    rule(SP, "identity:list_system_grants_for_user", "rule:system_reader"),
    rule(SP, "identity:check_system_grant_for_user", "rule:system_reader"),
    rule(SP, "identity:create_system_grant_for_user", "rule:admin_required"),
    rule(SP, "identity:revoke_system_grant_for_user", "rule:admin_required"),
    rule(SP, "identity:list_system_grants_for_group", "rule:system_reader"),
    rule(SP, "identity:check_system_grant_for_group", "rule:system_reader"),
    rule(SP, "identity:create_system_grant_for_group", "rule:admin_required"),
    rule(SP, "identity:revoke_system_grant_for_group", "rule:admin_required"),
    rule(ANY, "identity:list_role_assignments", "rule:system_reader or (role:reader and domain_id:%(target.domain_id)s)"),
    rule(ANY, "identity:list_role_assignments_for_tree", "rule:system_reader or (role:reader and domain_id:%(target.project.domain_id)s)"),
    rule(SP, "identity:get_implied_role", "rule:system_reader"),
    rule(SP, "identity:list_implied_roles", "rule:system_reader"),
    rule(SP, "identity:list_role_inference_rules", "rule:system_reader"),
    rule(SP, "identity:check_implied_role", "rule:system_reader"),
    rule(SP, "identity:create_implied_role", "rule:admin_required"),
    rule(SP, "identity:delete_implied_role", "rule:admin_required"),
    rule(ANY, "identity:get_credential", "rule:system_reader or user_id:%(target.credential.user_id)s"),
    rule(ANY, "identity:list_credentials", "rule:system_reader or user_id:%(target.credential.user_id)s"),
    rule(ANY, "identity:create_credential", "rule:admin_required or user_id:%(target.credential.user_id)s"),
    rule(ANY, "identity:update_credential", "rule:admin_required or user_id:%(target.credential.user_id)s"),
    rule(ANY, "identity:delete_credential", "rule:admin_required or user_id:%(target.credential.user_id)s"),
    rule(SP, "identity:ec2_get_credential", "rule:system_reader or user_id:%(target.credential.user_id)s"),
    rule(SP, "identity:ec2_list_credentials", "rule:system_reader or user_id:%(target.credential.user_id)s"),
    rule(SP, "identity:ec2_create_credential", "rule:admin_required or (role:member and user_id:%(target.credential.user_id)s)"),
    rule(SP, "identity:ec2_delete_credential", "rule:admin_required or (role:member and user_id:%(target.credential.user_id)s)"),
    rule(ANY, "identity:ec2tokens_validate", "rule:service_or_admin"),
    rule(ANY, "identity:s3tokens_validate", "rule:service_or_admin"),
    rule(SP, "identity:get_application_credential", "rule:system_reader or user_id:%(target.user.id)s"),
    rule(SP, "identity:list_application_credentials", "rule:system_reader or user_id:%(target.user.id)s"),
    rule(SP, "identity:get_access_rule", "(role:reader and system_scope:all) or user_id:%(target.user.id)s"),
    rule(SP, "identity:list_access_rules", "(role:reader and system_scope:all) or user_id:%(target.user.id)s"),
    rule(P, "identity:create_application_credential", "user_id:%(target.user.id)s"),
    rule(SP, "identity:delete_application_credential", "rule:admin_required or user_id:%(target.user.id)s"),
    rule(SP, "identity:delete_access_rule", "(role:admin and system_scope:all) or user_id:%(target.user.id)s"),
    rule(P, "identity:create_trust", "user_id:%(target.trust.trustor_user_id)s"),
    rule(SP, "identity:list_trusts", "rule:system_reader"),
    rule(SP, "identity:list_trusts_for_trustor", "rule:system_reader or user_id:%(target.trust.trustor_user_id)s"),
    rule(SP, "identity:list_trusts_for_trustee", "rule:system_reader or user_id:%(target.trust.trustee_user_id)s"),
    rule(SP, "identity:list_roles_for_trust", "rule:system_reader or user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s"),
    rule(SP, "identity:get_role_for_trust", "rule:system_reader or user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s"),
    rule(SP, "identity:get_trust", "rule:system_reader or user_id:%(target.trust.trustor_user_id)s or user_id:%(target.trust.trustee_user_id)s"),
    rule(SP, "identity:delete_trust", "rule:admin_required or user_id:%(target.trust.trustor_user_id)s"),
    rule(ANY, "identity:check_token", "rule:system_reader or rule:token_subject"),
    rule(ANY, "identity:validate_token", "rule:system_reader or rule:service_role or rule:token_subject"),
    rule(SP, "identity:list_revoke_events", "rule:service_or_admin"),
    rule(ANY, "identity:revoke_token", "rule:admin_or_token_subject"),
    rule(ANY, "identity:get_auth_catalog", ""),
    rule(ANY, "identity:get_auth_projects", ""),
    rule(ANY, "identity:get_auth_domains", ""),
    rule(ANY, "identity:get_auth_system", ""),
    rule(ANY, "identity:get_limit", "rule:system_reader or domain_id:%(target.limit.domain.id)s or domain_id:%(target.limit.project.domain_id)s or project_id:%(target.limit.project_id)s"),
    rule(ANY, "identity:list_limits", ""),
    rule(ANY, "identity:get_limit_model", ""),
    rule(ANY, "identity:get_registered_limit", ""),
    rule(ANY, "identity:list_registered_limits", ""),
    rule(SP, "identity:create_limits", "rule:admin_required"),
    rule(SP, "identity:update_limit", "rule:admin_required"),
    rule(SP, "identity:delete_limit", "rule:admin_required"),
    rule(SP, "identity:create_registered_limits", "rule:admin_required"),
    rule(SP, "identity:update_registered_limit", "rule:admin_required"),
    rule(SP, "identity:delete_registered_limit", "rule:admin_required"),
    rule(SP, "identity:get_endpoint_group", "rule:system_reader"),
    rule(SP, "identity:list_endpoint_groups", "rule:system_reader"),
    rule(SP, "identity:list_projects_associated_with_endpoint_group", "rule:system_reader"),
    rule(SP, "identity:list_endpoints_associated_with_endpoint_group", "rule:system_reader"),
    rule(SP, "identity:get_endpoint_group_in_project", "rule:system_reader"),
    rule(SP, "identity:list_endpoint_groups_for_project", "rule:system_reader"),
    rule(SP, "identity:list_projects_for_endpoint", "rule:system_reader"),
    rule(SP, "identity:check_endpoint_in_project", "rule:system_reader"),
    rule(SP, "identity:list_endpoints_for_project", "rule:system_reader"),
    rule(SP, "identity:create_endpoint_group", "rule:admin_required"),
    rule(SP, "identity:update_endpoint_group", "rule:admin_required"),
    rule(SP, "identity:delete_endpoint_group", "rule:admin_required"),
    rule(SP, "identity:add_endpoint_group_to_project", "rule:admin_required"),
    rule(SP, "identity:remove_endpoint_group_from_project", "rule:admin_required"),
    rule(SP, "identity:add_endpoint_to_project", "rule:admin_required"),
    rule(SP, "identity:remove_endpoint_from_project", "rule:admin_required"),
    rule(SP, "identity:get_consumer", "rule:system_reader"),
    rule(SP, "identity:list_consumers", "rule:system_reader"),
    rule(SP, "identity:create_consumer", "rule:admin_required"),
    rule(SP, "identity:update_consumer", "rule:admin_required"),
    rule(SP, "identity:delete_consumer", "rule:admin_required"),
    rule(SP, "identity:get_identity_provider", "rule:system_reader"),
    rule(SP, "identity:list_identity_providers", "rule:system_reader"),
    rule(SP, "identity:create_identity_provider", "rule:admin_required"),
    rule(SP, "identity:update_identity_provider", "rule:admin_required"),
    rule(SP, "identity:delete_identity_provider", "rule:admin_required"),
    rule(SP, "identity:get_protocol", "rule:system_reader"),
    rule(SP, "identity:list_protocols", "rule:system_reader"),
    rule(SP, "identity:create_protocol", "rule:admin_required"),
    rule(SP, "identity:update_protocol", "rule:admin_required"),
    rule(SP, "identity:delete_protocol", "rule:admin_required"),
    rule(SP, "identity:get_mapping", "rule:system_reader"),
    rule(SP, "identity:list_mappings", "rule:system_reader"),
    rule(SP, "identity:create_mapping", "rule:admin_required"),
    rule(SP, "identity:update_mapping", "rule:admin_required"),
    rule(SP, "identity:delete_mapping", "rule:admin_required"),
    rule(SP, "identity:get_service_provider", "rule:system_reader"),
    rule(SP, "identity:list_service_providers", "rule:system_reader"),
    rule(SP, "identity:create_service_provider", "rule:admin_required"),
    rule(SP, "identity:update_service_provider", "rule:admin_required"),
    rule(SP, "identity:delete_service_provider", "rule:admin_required"),
];

/// The default rules, upstream's wording of a denial with them.
pub fn policy() -> Result<Policy, PolicyError> {
    Policy::scoped(RULES, |rule| format!("You are not authorized to perform the requested action: {rule}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Caller, DomainRef, ProjectRef, RoleRef, Scope, Secret, UserRef};
    use std::collections::BTreeMap;

    const TABLE: &str = include_str!("../tests/policy/personas.txt");
    /// Each implies the ones after it.
    const CHAIN: [&str; 4] = ["admin", "manager", "member", "reader"];

    /// `dM` is the manager of a domain.
    fn persona(name: &str) -> Caller {
        let domain = |id: &str| DomainRef { id: id.into(), name: id.into() };
        let scope = match &name[..1] {
            "s" => Scope::System,
            "d" => Scope::Domain(domain("D1")),
            "x" => Scope::Domain(domain("D8")),
            "p" => Scope::Project(ProjectRef { id: "P1".into(), name: "P1".into(), domain: domain("D1") }),
            _ => Scope::Unscoped,
        };
        let roles: &[&str] = match &name[1..] {
            "A" => &CHAIN,
            "M" => &CHAIN[1..],
            "m" => &CHAIN[2..],
            "r" => &CHAIN[3..],
            "S" => &["service"],
            _ => &[],
        };
        Caller {
            user: UserRef { id: "U1".into(), name: "U1".into(), domain: domain("D1") },
            scope,
            roles: roles.iter().map(|r| RoleRef { id: (*r).into(), name: (*r).into() }).collect(),
            expires_at: state::Timestamp(0),
            audit_ids: vec![],
            token: Secret(String::new()),
        }
    }

    /// On what the persona may do it: `o`, `d` and `f` as the table has them.
    fn cell(policy: &Policy, who: &Caller, rule: &str) -> String {
        let places = [("o", ["U1", "P1", "D1"]), ("d", ["U2", "P2", "D1"]), ("f", ["U9", "P9", "D9"])];
        let may = places.iter().filter(|(_, [user, project, domain])| {
            let mut target = vec![
                ("scope.domain_id", who.domain_id().unwrap_or("None")),
                ("target.role.domain_id", "None"),
                ("target.role.name", "member"),
            ];
            let users = [
                "user.id",
                "credential.user_id",
                "trust.trustor_user_id",
                "trust.trustee_user_id",
                "token.user_id",
            ];
            let projects = ["project.id", "limit.project_id"];
            let domains = [
                "user.domain_id",
                "project.domain_id",
                "domain.id",
                "domain_id",
                "group.domain_id",
                "limit.domain.id",
                "limit.project.domain_id",
            ];
            let named = |names: &[&str], value: &'static str| {
                names.iter().map(|n| (format!("target.{n}"), value)).collect::<Vec<_>>()
            };
            let all = [named(&users, user), named(&projects, project), named(&domains, domain)].concat();
            target.extend(all.iter().map(|(n, v)| (n.as_str(), *v)));
            policy.allows(who, rule, &target)
        });
        let letters: String = may.map(|(letter, _)| *letter).collect();
        if letters.is_empty() { "-".into() } else { letters }
    }

    #[test]
    fn every_rule_against_every_persona() {
        let policy = Policy::scoped(RULES, |r| r.to_owned()).unwrap();
        let mut lines = TABLE.lines().filter(|l| !l.starts_with('#')).map(|l| l.split_whitespace());
        let personas: Vec<&str> = lines.next().unwrap().skip(1).collect();
        assert_eq!(personas.len(), 18);
        let expected: BTreeMap<&str, Vec<&str>> =
            lines.map(|mut l| (l.next().unwrap(), l.collect())).collect();
        let mut wrong = Vec::new();
        for rule in RULES.iter().filter(|r| r.name.contains(':')) {
            let Some(row) = expected.get(rule.name) else {
                wrong.push(format!("{}: not in the table", rule.name));
                continue;
            };
            assert_eq!(row.len(), personas.len(), "{}", rule.name);
            for (name, wanted) in personas.iter().zip(row) {
                let is = cell(&policy, &persona(name), rule.name);
                if is != *wanted {
                    wrong.push(format!("{} for {name}: {is}, upstream {wanted}", rule.name));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
