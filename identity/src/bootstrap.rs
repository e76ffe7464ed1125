//! What a new cloud begins with. Every function here may run again at each start and changes only what differs.

use crate::store::assignments::{self, ActorKind, Grant, TargetKind};
use crate::store::record::Fields;
use crate::store::subjects::{self, DomainBy};
use crate::store::{Cond, ENDPOINT, PROJECT, REGION, ROLE, Record, SERVICE, USER};
use crate::{Identity, IdentityError};
use api::Secret;
use serde_json::{Value, json};

pub(crate) const DEFAULT_DOMAIN: &str = "default";

/// Each role implies the one after it.
const CHAIN: [&str; 4] = ["admin", "manager", "member", "reader"];
/// Roles that imply nothing: the cloud's own services, and Swift's operators of any account.
const ALONE: [&str; 2] = ["service", "ResellerAdmin"];

/// What [`Identity::bootstrap`] sets up besides the default domain, the roles and the projects.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    pub admin_password: Secret,
    pub region: String,
    pub services: Vec<CatalogueEntry>,
}

/// A service of the catalogue and its three endpoints.
#[derive(Debug, Clone)]
pub struct CatalogueEntry {
    /// `volumev3`
    pub service_type: String,
    /// `cinder`
    pub name: String,
    pub description: String,
    /// Below the public base URL, `/volume/v3/$(project_id)s`; a whole URL is taken as it is.
    pub path: String,
}

impl Identity {
    /// Makes the domain `default`, the projects `admin` and `service`, the roles and which imply which, the user
    /// `admin` (whose password is set to the given one), the region, the services and their endpoints.
    pub async fn bootstrap(&self, wanted: Bootstrap) -> Result<(), IdentityError> {
        self.ensure_domain().await?;
        self.ensure_roles().await?;
        let project = self.ensure_project("admin").await?;
        self.ensure_project("service").await?;
        let user = self.ensure_user("admin", &wanted.admin_password, &project, &["admin"]).await?;
        self.ensure_grant(&user, TargetKind::System, "system", "admin").await?;
        self.ensure_catalogue(&wanted.region, &wanted.services).await
    }

    async fn ensure_domain(&self) -> Result<(), IdentityError> {
        if PROJECT.get(self.db.read(), DEFAULT_DOMAIN).await?.is_some() {
            return Ok(());
        }
        let mut domain = record(&[("name", "Default"), ("description", "The default domain")]);
        domain.insert("enabled".into(), true.into());
        self.insert_domain(domain, Some(DEFAULT_DOMAIN)).await.map(drop).or_else(already)
    }

    async fn ensure_roles(&self) -> Result<(), IdentityError> {
        for name in CHAIN.iter().chain(&ALONE) {
            if self.role_named(name).await?.is_some() {
                continue;
            }
            let mut role = record(&[("id", &state::new_hex_id()), ("name", name)]);
            // As upstream: the roles that policies name are not changed by accident.
            let immutable = CHAIN.contains(name) || *name == "service";
            role.insert("options".into(), if immutable { json!({"immutable": true}) } else { json!({}) });
            let mut change = self.begin().await?;
            match ROLE.insert(change.conn(), &role).await {
                Ok(()) => change.commit().await?,
                Err(e) => already(e)?,
            }
        }
        let began = self.facts.fresh(&self.db).await?;
        let model = self.role_model(began).await?;
        for pair in CHAIN.windows(2) {
            let (prior, implied) = (self.need_role(pair[0]).await?, self.need_role(pair[1]).await?);
            if model.implied_by(&prior).contains(&implied) {
                continue;
            }
            let mut change = self.begin().await?;
            assignments::imply(change.conn(), &prior, &implied).await?;
            change.commit().await?;
        }
        Ok(())
    }

    async fn role_named(&self, name: &str) -> Result<Option<String>, IdentityError> {
        let conds = [Cond::eq("name", name), Cond::eq("domain_id", "")];
        Ok(ROLE.one(self.db.read(), &conds).await?.map(|r| r.text("id").to_owned()))
    }

    async fn need_role(&self, name: &str) -> Result<String, IdentityError> {
        self.role_named(name).await?.ok_or_else(|| IdentityError::not_found("role", name))
    }

    /// The id of the project of that name in the default domain, made if absent.
    pub async fn ensure_project(&self, name: &str) -> Result<String, IdentityError> {
        let domain = DomainBy::Id(DEFAULT_DOMAIN.into());
        for _ in 0..2 {
            if let Some(found) = subjects::project_by_name(self.db.read(), name, &domain).await? {
                return Ok(found.id);
            }
            let mut project = record(&[
                ("id", &state::new_hex_id()),
                ("name", name),
                ("domain_id", DEFAULT_DOMAIN),
                ("parent_id", DEFAULT_DOMAIN),
                ("description", ""),
            ]);
            for (attribute, value) in [
                ("enabled", json!(true)),
                ("is_domain", json!(false)),
                ("options", json!({})),
                ("tags", json!([])),
            ] {
                project.insert(attribute.into(), value);
            }
            let mut change = self.begin().await?;
            match PROJECT.insert(change.conn(), &project).await {
                Ok(()) => change.commit().await?,
                // Another process was faster: read what it made.
                Err(e) => already(e)?,
            }
        }
        Err(IdentityError::not_found("project", name))
    }

    /// The id of the user of that name in the default domain, with this password and these roles on the project
    /// (an id).
    pub async fn ensure_user(
        &self,
        name: &str,
        password: &Secret,
        project: &str,
        roles: &[&str],
    ) -> Result<String, IdentityError> {
        let domain = DomainBy::Id(DEFAULT_DOMAIN.into());
        let id = match subjects::user_by_name(self.db.read(), name, &domain).await? {
            Some(user) => {
                if !self.hasher.verify(&password.0, user.password_hash.as_ref()).await? {
                    self.put_password(&user.id, password).await?;
                }
                user.id
            }
            None => {
                let mut new = record(&[("name", name), ("domain_id", DEFAULT_DOMAIN)]);
                // As upstream: the operator's own account is not to be shut out.
                let options = json!({"ignore_change_password_upon_first_use": true,
                    "ignore_lockout_failure_attempts": true});
                new.insert("options".into(), options);
                self.insert_user(new, Some(password.clone())).await?.text("id").to_owned()
            }
        };
        for role in roles {
            self.ensure_grant(&id, TargetKind::Project, project, role).await?;
        }
        Ok(id)
    }

    async fn ensure_grant(
        &self,
        user: &str,
        target: TargetKind,
        target_id: &str,
        role: &str,
    ) -> Result<(), IdentityError> {
        let grant = Grant {
            actor: ActorKind::User,
            actor_id: user.to_owned(),
            target,
            target_id: target_id.to_owned(),
            role: self.need_role(role).await?,
            inherited: false,
        };
        let filter = assignments::GrantFilter {
            actors: Some(vec![grant.actor_id.clone()]),
            targets: Some(vec![grant.target_id.clone()]),
            ..Default::default()
        };
        if assignments::find(self.db.read(), &filter).await?.contains(&grant) {
            return Ok(());
        }
        let mut change = self.begin().await?;
        assignments::add(change.conn(), &grant).await?;
        change.commit().await
    }

    /// Lets the user (an id) sign S3 requests to the project (an id) with this access key and secret.
    pub async fn ensure_ec2_credential(
        &self,
        user: &str,
        project: &str,
        access: &str,
        secret: &Secret,
    ) -> Result<(), IdentityError> {
        USER.need(self.db.read(), user).await?;
        PROJECT.need(self.db.read(), project).await?;
        self.put_ec2(user, project, access, secret).await
    }

    async fn ensure_catalogue(&self, region: &str, services: &[CatalogueEntry]) -> Result<(), IdentityError> {
        if REGION.get(self.db.read(), region).await?.is_none() {
            let mut change = self.begin().await?;
            let new = record(&[("id", region), ("description", "")]);
            match REGION.insert(change.conn(), &new).await {
                Ok(()) => change.commit().await?,
                Err(e) => already(e)?,
            }
        }
        for entry in services {
            let service = self.ensure_service(entry).await?;
            let url = match entry.path.contains("://") {
                true => entry.path.clone(),
                false => self.links.to(&entry.path),
            };
            for interface in ["public", "internal", "admin"] {
                self.ensure_endpoint(&service, region, interface, &url).await?;
            }
        }
        Ok(())
    }

    async fn ensure_service(&self, entry: &CatalogueEntry) -> Result<String, IdentityError> {
        let known = SERVICE.find(self.db.read(), &[Cond::eq("type", entry.service_type.as_str())], 0).await?;
        if let Some(s) = known.iter().find(|s| s.text("name") == entry.name) {
            return Ok(s.text("id").to_owned());
        }
        let id = state::new_hex_id();
        let mut service = record(&[
            ("id", &id),
            ("type", &entry.service_type),
            ("name", &entry.name),
            ("description", &entry.description),
        ]);
        service.insert("enabled".into(), true.into());
        let mut change = self.begin().await?;
        SERVICE.insert(change.conn(), &service).await?;
        change.commit().await?;
        Ok(id)
    }

    /// The address may have changed since the last start.
    async fn ensure_endpoint(
        &self,
        service: &str,
        region: &str,
        interface: &str,
        url: &str,
    ) -> Result<(), IdentityError> {
        let same = [
            Cond::eq("service_id", service),
            Cond::eq("region_id", region),
            Cond::eq("interface", interface),
        ];
        let known = ENDPOINT.one(self.db.read(), &same).await?;
        if known.as_ref().is_some_and(|e| e.text("url") == url) {
            return Ok(());
        }
        let mut change = self.begin().await?;
        match known {
            Some(mut endpoint) => {
                endpoint.insert("url".into(), url.into());
                ENDPOINT.update(change.conn(), &endpoint).await?;
            }
            None => {
                let mut endpoint = record(&[
                    ("id", &state::new_hex_id()),
                    ("service_id", service),
                    ("region_id", region),
                    ("interface", interface),
                    ("url", url),
                ]);
                endpoint.insert("enabled".into(), true.into());
                ENDPOINT.insert(change.conn(), &endpoint).await?;
            }
        }
        change.commit().await
    }
}

fn record(pairs: &[(&str, &str)]) -> Record {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect()
}

/// Another process has just made the same.
fn already(e: IdentityError) -> Result<(), IdentityError> {
    match e {
        IdentityError::Conflict { .. } => Ok(()),
        other => Err(other),
    }
}
