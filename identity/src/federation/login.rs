//! The door: whoever shows a token of a provider that is set up gets a token of this cloud.

use super::attributes::attributes;
use super::mapping::Attributes;
use crate::auth::{Asked, Entrance, Outcome, expected, plain};
use crate::federation::mapping::{Mapped, Mapping, Version};
use crate::store::federation::{self, Protocol};
use crate::store::record::Fields;
use crate::store::subjects;
use crate::store::{IDENTITY_PROVIDER, MAPPING, Record};
use crate::token::{Federated, Method};
use crate::{Identity, IdentityError};
use serde_json::{Map, Value};

/// Where a provider's own name is, unless its protocol says otherwise.
const REMOTE_ID: &str = "HTTP_OIDC_ISS";

impl Identity {
    /// What `/v3/OS-FEDERATION/identity_providers/{idp}/protocols/{protocol}/auth` answers to the bearer of a provider's
    /// token.
    pub(crate) async fn federated_login(
        &self,
        idp: &str,
        protocol: &str,
        bearer: &str,
        entrance: &Entrance<'_>,
    ) -> Result<Outcome, IdentityError> {
        let (provider, protocol) = self.federated_door(idp, protocol).await?;
        let oidc = self.providers.get(idp, &protocol.id)?;
        // Whose token it is shows only when it has been checked, so only the source counts.
        let who = format!("federation from {:?}", entrance.from);
        let attempt = self.limiter.begin(entrance.from, &who, 1)?;
        let claims = attempt.settle(oidc.verified(bearer).await)?;
        self.enter_vouched(&provider, &protocol, &claims, entrance).await
    }

    /// The provider, if it may vouch for anybody, and its protocol.
    pub(super) async fn federated_door(
        &self,
        idp: &str,
        protocol: &str,
    ) -> Result<(Record, Protocol), IdentityError> {
        let provider = IDENTITY_PROVIDER.need(self.db.read(), idp).await?;
        if !provider.flag("enabled") {
            return Err(IdentityError::Forbidden(format!("Identity Provider {idp} is disabled")));
        }
        Ok((provider, self.protocol(idp, protocol).await?))
    }

    /// A token for whom the claims, which were checked, are about.
    pub(super) async fn enter_vouched(
        &self,
        provider: &Record,
        protocol: &Protocol,
        claims: &Map<String, Value>,
        entrance: &Entrance<'_>,
    ) -> Result<Outcome, IdentityError> {
        let about = attributes(claims);
        self.check_remote_id(provider, protocol, &about).await?;
        let mapping = MAPPING.need(self.db.read(), &protocol.mapping).await?;
        let version = Version::parse(mapping.text("schema_version"))?;
        let mapped = Mapping::new(&mapping["rules"], version)?.apply(&about).map_err(|e| {
            tracing::info!(mapping = mapping.text("id"), error = %e, "a mapping does not apply");
            match e {
                super::mapping::MappingError::NoRuleApplies => IdentityError::Invalid(e.to_string()),
                e => IdentityError::Forbidden(format!("Mapping {}: {e}", mapping.text("id"))),
            }
        })?;
        self.facts.fresh(&self.db).await?;
        if mapped.user.local {
            let user = self.mapped_local(&mapped).await?;
            return self.admit(plain(user, Method::Mapped), Asked::Default, entrance).await;
        }
        let mut mapped = mapped;
        if mapped.user.id.is_none() && mapped.user.name.is_none() {
            mapped.user.name = about.get("REMOTE_USER").and_then(|v| v.first()).cloned();
        }
        let groups = self.mapped_groups(&mapped, mapping.text("id")).await?;
        let user = self.shadow_user(provider, protocol, &mapped, &groups).await?;
        let mut proof = plain(user, Method::Mapped);
        proof.federated =
            Some(Federated { idp: provider.text("id").to_owned(), protocol: protocol.id.clone(), groups });
        self.admit(proof, Asked::Unscoped, entrance).await
    }

    /// As upstream: the provider must be known to this cloud by what it calls itself, if by anything. Whose token it is
    /// has been checked before.
    async fn check_remote_id(
        &self,
        provider: &Record,
        protocol: &Protocol,
        about: &Attributes,
    ) -> Result<(), IdentityError> {
        let known = federation::remote_ids(self.db.read(), Some(provider.text("id"))).await?;
        if known.is_empty() {
            return Ok(());
        }
        let attribute =
            protocol.remote_id_attribute.as_deref().filter(|a| !a.is_empty()).unwrap_or(REMOTE_ID);
        let named = about.get(attribute).and_then(|v| v.first()).ok_or_else(|| {
            IdentityError::Invalid("Could not find Identity Provider identifier in environment".into())
        })?;
        match known.iter().any(|(_, remote)| remote == named) {
            true => Ok(()),
            false => Err(IdentityError::Forbidden(
                "Incoming identity provider identifier not included among the accepted identifiers.".into(),
            )),
        }
    }

    /// The user of this cloud that a mapping of type `local` names.
    async fn mapped_local(&self, mapped: &Mapped) -> Result<String, IdentityError> {
        let user = &mapped.user;
        let found = match (&user.id, &user.name) {
            (Some(id), _) => subjects::user_by_id(self.db.read(), id).await?,
            (None, Some(name)) => {
                let domain = user.domain.as_ref().ok_or_else(|| expected("domain", "user"))?;
                subjects::user_by_name(self.db.read(), name, domain).await?
            }
            (None, None) => return Err(expected("id or name", "user")),
        };
        // Federated users have providers of their own.
        let found = found.filter(|u| u.source.is_empty() || u.source == crate::ldap::SOURCE);
        found.map(|u| u.id).ok_or(IdentityError::Unauthenticated("the mapped user does not exist"))
    }
}
