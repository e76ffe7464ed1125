//! What the cloud's other services ask of identity: limits in force, and where a region's services are.

use crate::store::record::Fields;
use crate::store::{Cond, LIMIT, REGISTERED_LIMIT, SERVICE};
use crate::{Identity, IdentityError};

impl Identity {
    /// What a project may have of a resource of a type of service in a region: its own limit, else the registered
    /// default; -1 is no limit. `None` where the resource is not registered. What is registered for the region counts
    /// before what is registered for all.
    pub async fn limit_in_force(
        &self,
        service_type: &str,
        region: &str,
        project: &str,
        resource: &str,
    ) -> Result<Option<i64>, IdentityError> {
        let named = [Cond::eq("resource_name", resource)];
        let registered = REGISTERED_LIMIT.find(self.db.read(), &named, 0).await?;
        if registered.is_empty() {
            return Ok(None);
        }
        let services = SERVICE.find(self.db.read(), &[Cond::eq("type", service_type)], 0).await?;
        let ours = |id: &str| services.iter().any(|s| s.text("id") == id);
        for place in [region, ""] {
            let found =
                registered.iter().find(|r| ours(r.text("service_id")) && r.text("region_id") == place);
            let Some(found) = found else { continue };
            let own = [
                Cond::eq("project_id", project),
                Cond::eq("service_id", found.text("service_id")),
                Cond::eq("region_id", place),
                Cond::eq("resource_name", resource),
            ];
            let own = LIMIT.one(self.db.read(), &own).await?;
            let own = own.and_then(|l| l["resource_limit"].as_i64());
            return Ok(own.or_else(|| found["default_limit"].as_i64()));
        }
        Ok(None)
    }

    /// The URL of a region's service of this type, as the catalogue has it for whoever is in no project.
    pub async fn endpoint(
        &self,
        service_type: &str,
        region: &str,
        interface: &str,
    ) -> Result<Option<String>, IdentityError> {
        let whole = self.whole_catalogue(self.facts.now()).await?;
        Ok(whole.endpoint(service_type, region, interface))
    }
}
