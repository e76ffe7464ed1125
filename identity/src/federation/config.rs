//! What the operator may set of federation.

use api::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::PathBuf;

/// The `[identity.federation]` table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Federation {
    /// The pages that a browser's login may end at, each exactly as the dashboard sends it, such as
    /// `https://horizon.example/auth/websso/`.
    pub trusted_dashboard: Vec<String>,
    /// Minutes for which memberships that a provider vouches for hold beyond a token, where the provider itself says
    /// nothing. 0: they end with the token.
    pub default_authorization_ttl: u64,
    /// Certificates in PEM that providers' servers are checked against, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The OpenID Connect providers.
    pub oidc: Vec<OidcProvider>,
}

/// One `[[identity.federation.oidc]]`: how the tokens of an identity provider and protocol are checked. Both are made
/// through the API as well (`openstack identity provider create`, `openstack federation protocol create`); if the
/// provider has remote ids there, the issuer must be among them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OidcProvider {
    /// The ids in this cloud.
    pub identity_provider: String,
    pub protocol: String,
    /// Exactly as its tokens and its discovery document name it. https, but for an address of this machine.
    pub issuer: String,
    /// Where the discovery document is, if not at `ISSUER/.well-known/openid-configuration`.
    pub discovery_url: String,
    /// This cloud as the provider knows it. There, the address to send browsers back to is
    /// `PUBLIC_URL/identity/v3/auth/OS-FEDERATION/redirect_uri`.
    pub client_id: String,
    /// Needed for tokens that are not JWTs, and for logins by browser where the provider demands it.
    #[serde(serialize_with = "hidden", deserialize_with = "secret")]
    pub client_secret: Option<Secret>,
    /// Tokens that were issued to or for one of these are good; without any, only those of `client_id`.
    pub audiences: Vec<String>,
    /// The algorithms of signatures that are accepted; without any: RS, PS and ES with 256 and 384, RS and PS with 512,
    /// EdDSA.
    pub algorithms: Vec<String>,
    /// Whether the provider is also asked for what it knows of the user (its userinfo endpoint), where the token itself
    /// is signed and says it. Of tokens that are not JWTs, and after logins by browser, it always is.
    pub userinfo: bool,
    /// What a login by browser asks for; `openid email profile` without any.
    pub scopes: Vec<String>,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(Secret))
}

/// Whoever prints the configuration does not print this.
fn hidden<S: Serializer>(secret: &Option<Secret>, to: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| "…").serialize(to)
}
