//! Logins by browser (upstream's websso): a dashboard sends the browser here, this cloud sends it on to the provider, and
//! takes it back with a code (OpenID Connect's authorisation code flow with PKCE).
//!
//! What a login needs meanwhile is sealed into a cookie, so that any process can end what another began, and so that only
//! the browser that began a login can end it. A login ends once: its state is noted in the database then.

use crate::auth::{Entrance, Outcome};
use crate::store::IDENTITY_PROVIDER;
use crate::store::federation;
use crate::store::record::Fields;
use crate::{Identity, IdentityError};
use api::Query;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use state::Timestamp;
use url::Url;

/// A login must be completed within this.
pub(crate) const LIFETIME_SECS: i64 = 600;
/// Longer texts are nothing of ours.
const LONGEST: usize = 4096;

/// A login on its way. The names are none of a token's, so that neither passes for the other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    login_state: String,
    idp: String,
    protocol: String,
    origin: String,
    nonce: String,
    /// PKCE's; only its hash goes through the browser in the clear.
    verifier: String,
    /// Whole seconds.
    good_until: i64,
}

/// Where a browser goes, and what it brings back.
pub(crate) struct Begun {
    pub(crate) page: Url,
    pub(crate) state: String,
    pub(crate) sealed: String,
}

/// A browser that has come back.
pub(crate) struct Ended {
    /// Empty where that is not known.
    pub(crate) idp: String,
    /// The page that gets the token.
    pub(crate) outcome: Result<(Outcome, String), IdentityError>,
}

fn refused(why: &'static str) -> IdentityError {
    IdentityError::Unauthenticated(why)
}

impl Identity {
    /// The page that a browser's token goes to, if the operator trusts it.
    pub(crate) fn trusted_origin(&self, query: &Query) -> Result<String, IdentityError> {
        let origin = query.get("origin").filter(|o| !o.is_empty());
        let origin = origin
            .ok_or_else(|| IdentityError::Invalid("Request must have an origin query parameter".into()))?;
        match self.config.federation.trusted_dashboard.iter().any(|t| t == origin || *origin == lower_host(t))
        {
            true => Ok(origin.to_owned()),
            false => Err(IdentityError::Unauthorized(format!(
                "{} is not a trusted dashboard host",
                origin.chars().take(200).collect::<String>()
            ))),
        }
    }

    /// The enabled identity providers that a browser may log in at by this protocol.
    pub(crate) async fn login_choices(&self, protocol: &str) -> Result<Vec<String>, IdentityError> {
        let mut out = Vec::new();
        for idp in self.providers.of_protocol(protocol) {
            let known = IDENTITY_PROVIDER.get(self.db.read(), idp).await?;
            let there = federation::protocol_of(self.db.read(), idp, protocol).await?;
            if there.is_some() && known.is_some_and(|k| k.flag("enabled")) {
                out.push(idp.to_owned());
            }
        }
        match out.is_empty() {
            true => Err(IdentityError::Absent(format!(
                "Could not find an Identity Provider for federated protocol {protocol}."
            ))),
            false => Ok(out),
        }
    }

    /// Where providers send browsers back to; they must know it beforehand.
    fn redirect_uri(&self) -> String {
        self.url("auth/OS-FEDERATION/redirect_uri")
    }

    /// Begins the login of a browser that `origin` has sent.
    pub(crate) async fn begin_login(
        &self,
        idp: &str,
        protocol: &str,
        origin: String,
    ) -> Result<Begun, IdentityError> {
        self.federated_door(idp, protocol).await?;
        let login = Login {
            login_state: state::new_hex_id(),
            idp: idp.to_owned(),
            protocol: protocol.to_owned(),
            origin,
            nonce: state::new_hex_id(),
            verifier: format!("{}{}", state::new_hex_id(), state::new_hex_id()),
            good_until: Timestamp::now().secs() + LIFETIME_SECS,
        };
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&login.verifier));
        let fields = [
            ("redirect_uri", &*self.redirect_uri()),
            ("state", &login.login_state),
            ("nonce", &login.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let page = self.providers.get(idp, protocol)?.login_page(&fields).await?;
        let sealed = self.token_keys.encrypt(&serde_json::to_vec(&login)?);
        Ok(Begun { page, state: login.login_state, sealed })
    }

    /// Ends a login: the browser has come back with these parameters, and with what it was given for that state.
    pub(crate) async fn end_login(
        &self,
        query: &Query,
        sealed: Option<&str>,
        entrance: &Entrance<'_>,
    ) -> Ended {
        match self.open_login(query, sealed) {
            Ok(login) => {
                let outcome = self.complete(&login, query, entrance).await;
                Ended { idp: login.idp, outcome: outcome.map(|o| (o, login.origin)) }
            }
            Err(e) => Ended { idp: String::new(), outcome: Err(e) },
        }
    }

    fn open_login(&self, query: &Query, sealed: Option<&str>) -> Result<Login, IdentityError> {
        const STRANGE: &str = "the login was not begun in this browser, or too long ago";
        let sealed = sealed.filter(|s| s.len() <= LONGEST).ok_or(refused(STRANGE))?;
        let plain = self.token_keys.decrypt(sealed);
        let login = plain.and_then(|p| serde_json::from_slice::<Login>(&p).ok());
        let login = login.filter(|l| Timestamp::now().secs() < l.good_until).ok_or(refused(STRANGE))?;
        match query.get("state") == Some(&login.login_state) {
            true => Ok(login),
            false => Err(refused(STRANGE)),
        }
    }

    async fn complete(
        &self,
        login: &Login,
        query: &Query,
        entrance: &Entrance<'_>,
    ) -> Result<Outcome, IdentityError> {
        let (provider, protocol) = self.federated_door(&login.idp, &login.protocol).await?;
        let oidc = self.providers.get(&login.idp, &login.protocol)?;
        if query.get("iss").is_some_and(|iss| iss != oidc.issuer()) {
            return Err(refused("another provider answers than was asked"));
        }
        let who = format!("federation from {:?}", entrance.from);
        let attempt = self.limiter.begin(entrance.from, &who, 1)?;
        let claims = attempt.settle(self.redeem_once(login, query).await)?;
        self.enter_vouched(&provider, &protocol, &claims, entrance).await
    }

    async fn redeem_once(
        &self,
        login: &Login,
        query: &Query,
    ) -> Result<serde_json::Map<String, serde_json::Value>, IdentityError> {
        let mut change = self.begin_aside().await?;
        let forget_at = Timestamp::from_secs(login.good_until);
        let first = federation::use_state(&mut change, &login.login_state, forget_at).await?;
        change.commit().await?;
        if !first {
            return Err(refused("the login has ended before"));
        }
        let code = query.get("code").filter(|c| (1..=LONGEST).contains(&c.len()));
        let Some(code) = code.filter(|_| !query.has("error")) else {
            let why = query.get("error").unwrap_or_default().chars().take(100).collect::<String>();
            tracing::info!(idp = login.idp, error = ?why, "an identity provider has not let a browser in");
            return Err(refused("the provider gives no authorisation code"));
        };
        let oidc = self.providers.get(&login.idp, &login.protocol)?;
        oidc.redeem(code, (&login.verifier, &login.nonce), &self.redirect_uri()).await
    }
}

/// The page with its host in lower case, as browsers send it.
fn lower_host(page: &str) -> String {
    let host = page.find("://").map_or(0, |at| at + 3);
    let end = page[host..].find('/').map_or(page.len(), |at| host + at);
    format!("{}{}{}", &page[..host], page[host..end].to_ascii_lowercase(), &page[end..])
}

#[cfg(test)]
mod tests {
    use super::lower_host;

    #[test]
    fn hosts_in_lower_case() {
        assert_eq!(lower_host("https://Horizon.Example/Auth/"), "https://horizon.example/Auth/");
        assert_eq!(lower_host("https://A"), "https://a");
        assert_eq!(lower_host(""), "");
    }
}
