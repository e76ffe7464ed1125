//! OS-ENDPOINT-POLICY: which policy document holds for an endpoint. One that is put on the endpoint itself comes first,
//! then one for its service in its region or the nearest region above, then one for its service anywhere.

use crate::store::policy_associations::{self as rows, Target};
use crate::store::record::Fields;
use crate::store::{Cond, ENDPOINT, POLICY, REGION, Record, SERVICE};
use crate::{Identity, IdentityError};
use api::Context;

impl Target {
    fn rule(&self, verb: &str) -> String {
        let what = match self {
            Target::Endpoint(_) => "endpoint",
            Target::Service(_) => "service",
            Target::ServiceIn { .. } => "region_and_service",
        };
        format!("identity:{verb}_policy_association_for_{what}")
    }
}

impl Identity {
    /// Both sides exist, and the caller may do this with their association.
    async fn associable(
        &self,
        ctx: &Context,
        verb: &str,
        policy: &str,
        target: &Target,
    ) -> Result<(), IdentityError> {
        self.enforce(ctx, &target.rule(verb), &[])?;
        POLICY.need(self.db.read(), policy).await?;
        match target {
            Target::Endpoint(id) => ENDPOINT.need(self.db.read(), id).await?,
            Target::Service(id) => SERVICE.need(self.db.read(), id).await?,
            Target::ServiceIn { service, region } => {
                SERVICE.need(self.db.read(), service).await?;
                REGION.need(self.db.read(), region).await?
            }
        };
        Ok(())
    }

    pub(crate) async fn associate_policy(
        &self,
        ctx: &Context,
        policy: &str,
        target: &Target,
    ) -> Result<(), IdentityError> {
        self.associable(ctx, "create", policy, target).await?;
        let mut change = self.begin_aside().await?;
        rows::put(change.conn(), policy, target).await?;
        change.commit().await
    }

    pub(crate) async fn check_policy_association(
        &self,
        ctx: &Context,
        policy: &str,
        target: &Target,
    ) -> Result<(), IdentityError> {
        self.associable(ctx, "check", policy, target).await?;
        match rows::policy_of(self.db.read(), target).await?.is_some_and(|p| p == policy) {
            true => Ok(()),
            false => Err(IdentityError::Absent("Could not find policy association.".into())),
        }
    }

    /// As upstream, what is not associated need not be dissociated.
    pub(crate) async fn dissociate_policy(
        &self,
        ctx: &Context,
        policy: &str,
        target: &Target,
    ) -> Result<(), IdentityError> {
        self.associable(ctx, "delete", policy, target).await?;
        let mut change = self.begin_aside().await?;
        rows::take(change.conn(), policy, target).await?;
        change.commit().await
    }

    /// The endpoints that a policy is associated with, itself or by their service; a region's are those of the regions
    /// below it too.
    pub(crate) async fn endpoints_for_policy(
        &self,
        ctx: &Context,
        policy: &str,
    ) -> Result<Vec<Record>, IdentityError> {
        self.enforce(ctx, "identity:list_endpoints_for_policy", &[])?;
        POLICY.need(self.db.read(), policy).await?;
        let mut found: Vec<Record> = Vec::new();
        for target in rows::targets_of(self.db.read(), policy).await? {
            let cond = match &target {
                Target::Endpoint(id) => vec![Cond::eq("id", id.as_str())],
                Target::Service(id) => vec![Cond::eq("service_id", id.as_str())],
                Target::ServiceIn { service, region } => {
                    let regions = self.regions_below(region).await?;
                    vec![Cond::eq("service_id", service.as_str()), Cond::In("region_id", regions)]
                }
            };
            found.extend(ENDPOINT.find(self.db.read(), &cond, 0).await?);
        }
        found.sort_by(|a, b| a.text("id").cmp(b.text("id")));
        found.dedup_by(|a, b| a.text("id") == b.text("id"));
        Ok(found)
    }

    /// The policy that holds for an endpoint.
    pub(crate) async fn policy_for_endpoint(&self, ctx: &Context, id: &str) -> Result<Record, IdentityError> {
        self.enforce(ctx, "identity:get_policy_for_endpoint", &[])?;
        let endpoint = ENDPOINT.need(self.db.read(), id).await?;
        let service = endpoint.text("service_id");
        let mut targets = vec![Target::Endpoint(id.to_owned())];
        if let Some(region) = endpoint.opt_text("region_id") {
            let regions = self.regions_above(region).await?.into_iter();
            targets.extend(regions.map(|region| Target::ServiceIn { service: service.to_owned(), region }));
        }
        targets.push(Target::Service(service.to_owned()));
        for target in targets {
            if let Some(policy) = rows::policy_of(self.db.read(), &target).await? {
                return POLICY.need(self.db.read(), &policy).await;
            }
        }
        Err(IdentityError::Absent(format!("No policy is associated with endpoint {id}.")))
    }

    /// A region and those that it is in, the nearest first. A circle of regions ends where it closes.
    async fn regions_above(&self, region: &str) -> Result<Vec<String>, IdentityError> {
        let mut out: Vec<String> = Vec::new();
        let mut next = Some(region.to_owned());
        while let Some(id) = next.filter(|id| !out.contains(id)) {
            let found = REGION.get(self.db.read(), &id).await?;
            next = found.and_then(|r| r.opt_text("parent_region_id").map(str::to_owned));
            out.push(id);
        }
        Ok(out)
    }

    /// A region and those in it.
    async fn regions_below(&self, region: &str) -> Result<Vec<String>, IdentityError> {
        let all = REGION.find(self.db.read(), &[], 0).await?;
        let mut out = vec![region.to_owned()];
        let mut at = 0;
        while let Some(above) = out.get(at).cloned() {
            for r in all.iter().filter(|r| r.opt_text("parent_region_id") == Some(above.as_str())) {
                if !out.iter().any(|id| id == r.text("id")) {
                    out.push(r.text("id").to_owned());
                }
            }
            at += 1;
        }
        Ok(out)
    }
}
