//! The service catalogue as tokens carry it.

use crate::facts::Generation;
use crate::store::record::Fields;
use crate::store::{Cond, ENDPOINT, SERVICE, SERVICE_PROVIDER};
use crate::subject::Subject;
use crate::{Identity, IdentityError};
use api::Scope;
use serde_json::{Value, json};
use std::sync::Arc;

/// The enabled services and endpoints.
pub(crate) struct Catalogue {
    services: Vec<Service>,
    /// The enabled clouds that believe this one, as a list for tokens.
    pub(crate) service_providers: Value,
}

struct Service {
    id: String,
    kind: String,
    name: String,
    endpoints: Vec<Endpoint>,
}

struct Endpoint {
    id: String,
    interface: String,
    region: Option<String>,
    url: String,
}

impl Catalogue {
    /// The URL of an endpoint that needs no project.
    pub(crate) fn endpoint(&self, kind: &str, region: &str, interface: &str) -> Option<String> {
        let of_kind = self.services.iter().filter(|s| s.kind == kind);
        let mut endpoints = of_kind.flat_map(|s| &s.endpoints);
        let here = |e: &&Endpoint| e.region.as_deref() == Some(region) && e.interface == interface;
        fill(&endpoints.find(here)?.url, "", None)
    }

    /// The catalogue with the URLs of this user in this project. Endpoints that need a project are left out
    /// where there is none. `only`: the endpoints that the project was restricted to.
    fn render(&self, user: &str, project: Option<&str>, only: Option<&[String]>) -> Value {
        let endpoint = |e: &Endpoint| {
            if only.is_some_and(|only| !only.contains(&e.id)) {
                return None;
            }
            let url = fill(&e.url, user, project)?;
            Some(
                json!({"id": e.id, "interface": e.interface, "region_id": e.region, "region": e.region, "url": url}),
            )
        };
        let service = |s: &Service| {
            let endpoints: Vec<Value> = s.endpoints.iter().filter_map(endpoint).collect();
            json!({"id": s.id, "type": s.kind, "name": s.name, "endpoints": endpoints})
        };
        self.services.iter().map(service).collect()
    }
}

/// The URL with its placeholders replaced, in either of upstream's spellings; `None` where one has no value.
fn fill(url: &str, user: &str, project: Option<&str>) -> Option<String> {
    let mut out = url.to_owned();
    for name in ["project_id", "tenant_id"] {
        for holder in [format!("$({name})s"), format!("%({name})s")] {
            if out.contains(&holder) {
                out = out.replace(&holder, project?);
            }
        }
    }
    Some(out.replace("$(user_id)s", user).replace("%(user_id)s", user))
}

impl Identity {
    pub(crate) async fn whole_catalogue(&self, began: Generation) -> Result<Arc<Catalogue>, IdentityError> {
        if let Some(known) = self.facts.catalogue() {
            return Ok(known);
        }
        let enabled = [Cond::eq("enabled", true)];
        let endpoints = ENDPOINT.find(self.db.read(), &enabled, 0).await?;
        let services = SERVICE.find(self.db.read(), &enabled, 0).await?;
        let others = SERVICE_PROVIDER.find(self.db.read(), &enabled, 0).await?;
        let service_providers = others
            .iter()
            .map(|s| json!({"id": s["id"], "auth_url": s["auth_url"], "sp_url": s["sp_url"]}))
            .collect();
        let of = |id: &str| {
            let own = endpoints.iter().filter(|e| e.text("service_id") == id);
            own.map(|e| Endpoint {
                id: e.text("id").to_owned(),
                interface: e.text("interface").to_owned(),
                region: e.opt_text("region_id").map(str::to_owned),
                url: e.text("url").to_owned(),
            })
            .collect()
        };
        let services = services
            .iter()
            .map(|s| Service {
                id: s.text("id").to_owned(),
                kind: s.text("type").to_owned(),
                name: s.text("name").to_owned(),
                endpoints: of(s.text("id")),
            })
            .collect();
        let catalogue = Arc::new(Catalogue { services, service_providers });
        self.facts.keep_catalogue(began, &catalogue);
        Ok(catalogue)
    }

    /// The catalogue of a scope, as JSON.
    pub(crate) async fn catalogue_for(&self, subject: &Subject) -> Result<Arc<str>, IdentityError> {
        let began = self.facts.now();
        let project = match &subject.scope {
            Scope::Project(p) => Some(p.id.as_str()),
            _ => None,
        };
        let place = (subject.user.id.clone(), project.map(str::to_owned));
        if let Some(known) = self.facts.rendered(&place) {
            return Ok(known);
        }
        let only = match project {
            Some(id) => self.endpoints_of_project(id).await?,
            None => None,
        };
        let whole = self.whole_catalogue(began).await?;
        let rendered: Arc<str> = whole.render(&subject.user.id, project, only.as_deref()).to_string().into();
        self.facts.keep_rendered(began, place, &rendered);
        Ok(rendered)
    }
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn placeholders() {
        assert_eq!(fill("http://x/v3", "u", None).as_deref(), Some("http://x/v3"));
        assert_eq!(fill("http://x/$(project_id)s", "u", Some("p")).as_deref(), Some("http://x/p"));
        assert_eq!(fill("http://x/AUTH_%(tenant_id)s", "u", Some("p")).as_deref(), Some("http://x/AUTH_p"));
        assert_eq!(fill("http://x/$(project_id)s", "u", None), None);
        assert_eq!(fill("http://x/$(user_id)s", "u", None).as_deref(), Some("http://x/u"));
    }
}
