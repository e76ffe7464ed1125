-- What is looked for among a million users and ten million assignments: a name in whatever domain, a page of a
-- domain's users, and whatever must go with a project.
CREATE INDEX identity_users_by_name ON identity_users (name);
CREATE INDEX identity_users_page ON identity_users (domain_id, id);
CREATE INDEX identity_users_project ON identity_users (default_project_id);
CREATE INDEX identity_projects_by_name ON identity_projects (name);
CREATE INDEX identity_projects_page ON identity_projects (domain_id, id);
CREATE INDEX identity_groups_by_name ON identity_groups (name);
CREATE INDEX identity_credentials_project ON identity_credentials (project_id);
CREATE INDEX identity_app_credentials_project ON identity_app_credentials (project_id);
CREATE INDEX identity_trusts_project ON identity_trusts (project_id);
