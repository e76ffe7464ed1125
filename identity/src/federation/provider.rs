//! An OpenID Connect provider: its discovery document, its keys, and what it says about a token.
//!
//! Keys are kept and read without waiting. A token with a key id that is not among them has them read again, so that a
//! rotation needs nothing done here, but only so often: whoever sends nonsense does not make this cloud ask the provider
//! for each. While the provider is out of reach, what was read of it before stays good.

use super::config::{Federation, OidcProvider};
use super::jwt::{self, Algorithm, Key};
use super::web::{Web, WebError, is_safe};
use crate::IdentityError;
use api::Secret;
use arc_swap::{ArcSwap, ArcSwapOption};
use serde::Deserialize;
use serde_json::{Map, Value};
use state::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard};
use url::Url;

/// A provider's document and keys are read again after this.
const KEEP: Duration = Duration::from_secs(3600);
/// Clocks may differ by so many seconds.
const SKEW: i64 = 60;
/// For keys that are not known, the provider is asked so often in a minute.
const ASK_PER_MINUTE: u32 = 6;

const AWAY: IdentityError = IdentityError::Away("The identity provider is out of reach; please try again.");
const REFUSED: fn(&'static str) -> IdentityError = IdentityError::Unauthenticated;

/// Those that the operator has set up, by identity provider and protocol.
pub(crate) struct Providers {
    all: HashMap<(String, String), Arc<Oidc>>,
}

/// One of them.
pub(super) struct Oidc {
    config: OidcProvider,
    algorithms: Vec<Algorithm>,
    discovery: Url,
    web: Web,
    document: ArcSwapOption<Document>,
    keys: ArcSwap<Vec<Key>>,
    asked: Mutex<Asked>,
    /// How often nothing was known and nothing could be read.
    failures: AtomicU64,
}

/// When the provider was asked; held while it is.
#[derive(Default)]
struct Asked {
    document: Option<Instant>,
    keys: Option<Instant>,
    /// Since when how often for keys that were not known.
    unknown: Option<(Instant, u32)>,
}

/// What is used of a discovery document.
#[derive(Debug, Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: Url,
    authorization_endpoint: Option<Url>,
    token_endpoint: Option<Url>,
    introspection_endpoint: Option<Url>,
    userinfo_endpoint: Option<Url>,
}

impl Providers {
    /// Checks what the operator says; asks nobody yet.
    pub(crate) fn new(config: &Federation) -> Result<Providers, IdentityError> {
        let mut all = HashMap::new();
        for page in &config.trusted_dashboard {
            let known = Url::parse(page).is_ok_and(|u| matches!(u.scheme(), "https" | "http"));
            if !known {
                return Err(IdentityError::Config(format!(
                    "identity.federation.trusted_dashboard: {page:?} is no page"
                )));
            }
        }
        if config.oidc.is_empty() {
            return Ok(Providers { all });
        }
        let web = Web::new(config.ca_file.as_deref())?;
        for one in &config.oidc {
            let key = (one.identity_provider.clone(), one.protocol.clone());
            if all.insert(key, Arc::new(Oidc::new(one, &web)?)).is_some() {
                return Err(wrong(one, "it is there twice"));
            }
        }
        Ok(Providers { all })
    }

    pub(super) fn get(&self, idp: &str, protocol: &str) -> Result<Arc<Oidc>, IdentityError> {
        let found = self.all.get(&(idp.to_owned(), protocol.to_owned())).cloned();
        found.ok_or(IdentityError::NotBuilt(
            "This identity provider and protocol are not set up in this cloud's configuration.",
        ))
    }

    /// The identity providers that are set up for a protocol, by id.
    pub(super) fn of_protocol(&self, protocol: &str) -> Vec<&str> {
        let all = self.all.keys().filter(|(_, p)| p == protocol);
        let mut all: Vec<&str> = all.map(|(idp, _)| idp.as_str()).collect();
        all.sort_unstable();
        all
    }
}

fn wrong(one: &OidcProvider, why: &str) -> IdentityError {
    IdentityError::Config(format!(
        "identity.federation.oidc of {} and {}: {why}",
        one.identity_provider, one.protocol
    ))
}

/// A provider's failure, told to the log; the caller learns that it is away.
fn away(what: &'static str) -> impl FnOnce(WebError) -> IdentityError {
    move |e| {
        let cause = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(error = %e, cause, "an identity provider's {what} cannot be read");
        AWAY
    }
}

impl Oidc {
    fn new(config: &OidcProvider, web: &Web) -> Result<Oidc, IdentityError> {
        if config.identity_provider.is_empty() || config.protocol.is_empty() || config.client_id.is_empty() {
            return Err(wrong(config, "identity_provider, protocol and client_id must be given"));
        }
        let discovery = match config.discovery_url.as_str() {
            "" => format!("{}/.well-known/openid-configuration", config.issuer.trim_end_matches('/')),
            url => url.to_owned(),
        };
        let discovery = Url::parse(&discovery).map_err(|e| wrong(config, &e.to_string()))?;
        let issuer = Url::parse(&config.issuer).map_err(|e| wrong(config, &e.to_string()))?;
        if !is_safe(&discovery) || !is_safe(&issuer) {
            return Err(wrong(config, "its addresses must be https, but for those of this machine"));
        }
        let named: Option<Vec<_>> = config.algorithms.iter().map(|a| Algorithm::by_name(a)).collect();
        let named = named.ok_or_else(|| {
            let known: Vec<&str> = Algorithm::ALL.iter().map(|(n, _)| *n).collect();
            wrong(config, &format!("an algorithm is none of {}", known.join(", ")))
        })?;
        let all = || Algorithm::ALL.iter().map(|(_, a)| *a).collect();
        Ok(Oidc {
            config: config.clone(),
            algorithms: if named.is_empty() { all() } else { named },
            discovery,
            web: web.clone(),
            document: ArcSwapOption::empty(),
            keys: ArcSwap::from_pointee(Vec::new()),
            asked: Mutex::default(),
            failures: AtomicU64::new(0),
        })
    }

    /// The claims of a token of this provider that is meant for this cloud.
    pub(super) async fn verified(&self, token: &str) -> Result<Map<String, Value>, IdentityError> {
        if token.is_empty() || token.len() > jwt::LONGEST || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(REFUSED("not a token"));
        }
        if !jwt::has_form(token) {
            return self.introspected(token).await;
        }
        let mut claims = self.signed(token).await?;
        if !self.is_for_us(claims.get("aud")) {
            return Err(REFUSED("the token is for another audience"));
        }
        if self.config.userinfo {
            self.add_userinfo(token, &mut claims).await?;
        }
        Ok(claims)
    }

    /// The claims of a signed token, whoever it is for.
    async fn signed(&self, token: &str) -> Result<Map<String, Value>, IdentityError> {
        let unverified = jwt::read(token).map_err(REFUSED)?;
        if !self.algorithms.contains(&unverified.algorithm) {
            return Err(REFUSED("the token's algorithm is not accepted"));
        }
        let mut keys = self.known_keys().await?;
        if unverified.candidates(&keys).next().is_none() {
            keys = self.keys_again(&keys).await?;
        }
        let claims = unverified.claims(&keys).map_err(REFUSED)?;
        self.check(&claims, Timestamp::now())?;
        Ok(claims)
    }

    /// What every signed token must say.
    fn check(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<(), IdentityError> {
        if claims.get("iss").and_then(Value::as_str) != Some(&self.config.issuer) {
            return Err(REFUSED("the token is of another issuer"));
        }
        let expires = time(claims, "exp")?.ok_or(REFUSED("the token says no end"))?;
        self.check_times(claims, expires, now)?;
        match claims.get("sub").and_then(Value::as_str) {
            Some(sub) if !sub.is_empty() => Ok(()),
            _ => Err(REFUSED("the token says nobody")),
        }
    }

    fn check_times(
        &self,
        claims: &Map<String, Value>,
        expires: i64,
        now: Timestamp,
    ) -> Result<(), IdentityError> {
        let now = now.secs();
        if now >= expires.saturating_add(SKEW) {
            return Err(REFUSED("the provider's token has expired"));
        }
        for name in ["nbf", "iat"] {
            if time(claims, name)?.is_some_and(|t| t > now.saturating_add(SKEW)) {
                return Err(REFUSED("the provider's token is of the future"));
            }
        }
        Ok(())
    }

    fn is_for_us(&self, audience: Option<&Value>) -> bool {
        let ours = |a: &Value| a.as_str().is_some_and(|a| self.audiences().any(|o| o == a));
        match audience {
            Some(Value::Array(all)) => all.iter().any(ours),
            Some(one) => ours(one),
            None => false,
        }
    }

    fn audiences(&self) -> impl Iterator<Item = &str> {
        let own = self.config.audiences.is_empty().then_some(self.config.client_id.as_str());
        self.config.audiences.iter().map(String::as_str).chain(own)
    }

    /// The claims of an opaque token: the provider says whether it is good and for whom.
    async fn introspected(&self, token: &str) -> Result<Map<String, Value>, IdentityError> {
        let document = self.document().await?;
        let (Some(url), Some(secret)) = (&document.introspection_endpoint, &self.config.client_secret) else {
            return Err(REFUSED("the token is not signed, and the provider cannot be asked about it"));
        };
        let client = (self.config.client_id.as_str(), Some(secret.0.as_str()));
        let fields = [("token", token), ("token_type_hint", "access_token")];
        let said = self.web.post(url, &fields, client).await.map_err(away("introspection"))?;
        let Value::Object(mut claims) = said else { return Err(AWAY) };
        if claims.get("active") != Some(&Value::Bool(true)) {
            return Err(REFUSED("the provider says that the token is not good"));
        }
        if claims.get("iss").is_some_and(|i| i.as_str() != Some(&self.config.issuer)) {
            return Err(REFUSED("the token is of another issuer"));
        }
        if let Some(expires) = time(&claims, "exp")? {
            self.check_times(&claims, expires, Timestamp::now())?;
        }
        // A token that was given to another of the provider's clients is not for us.
        let whom = claims.get("aud").filter(|a| !a.is_null()).or(claims.get("client_id"));
        if !self.is_for_us(whom) {
            return Err(REFUSED("the token is for another audience"));
        }
        claims.remove("active");
        // A client that stands for itself may have no subject; mappings tell it by its id.
        if !claims.contains_key("sub") && !claims.contains_key("client_id") {
            return Err(REFUSED("the token says nobody"));
        }
        if claims.contains_key("sub") {
            self.add_userinfo(token, &mut claims).await?;
        }
        // An introspection need not name it, and the answer came from no other.
        claims.insert("iss".into(), self.config.issuer.clone().into());
        Ok(claims)
    }

    /// Adds what the provider knows of the user; what the token says stays.
    async fn add_userinfo(&self, token: &str, claims: &mut Map<String, Value>) -> Result<(), IdentityError> {
        let document = self.document().await?;
        let Some(url) = &document.userinfo_endpoint else { return Ok(()) };
        let said = match self.web.get(url, Some(token)).await {
            Ok(Value::Object(said)) => said,
            // Tokens of clients that stand for themselves, or that did not ask for `openid`, have no user to tell of.
            Err(WebError::Status(400..=403)) => return Ok(()),
            Ok(_) => return Err(AWAY),
            Err(e) => return Err(away("userinfo")(e)),
        };
        if let Some(sub) = claims.get("sub")
            && said.get("sub") != Some(sub)
        {
            return Err(REFUSED("the provider tells of somebody else"));
        }
        for (name, value) in said {
            claims.entry(name).or_insert(value);
        }
        Ok(())
    }

    /// The discovery document, read again from time to time.
    async fn document(&self) -> Result<Arc<Document>, IdentityError> {
        let mut asked = match (self.document.load_full(), self.asked.try_lock()) {
            (Some(known), Err(_)) => return Ok(known),
            (Some(known), Ok(asked)) if asked.document.is_some_and(|t| t.elapsed() < KEEP) => {
                return Ok(known);
            }
            (_, Ok(asked)) => asked,
            (None, Err(_)) => self.after_others().await?,
        };
        self.read_document(&mut asked).await
    }

    /// Waits for who is asking. If that has failed, all who waited have failed: they do not ask one after the other.
    async fn after_others(&self) -> Result<MutexGuard<'_, Asked>, IdentityError> {
        let before = self.failures.load(Ordering::Acquire);
        let asked = self.asked.lock().await;
        match self.failures.load(Ordering::Acquire) == before {
            true => Ok(asked),
            false => Err(AWAY),
        }
    }

    fn failed(&self, what: &'static str, e: WebError) -> IdentityError {
        self.failures.fetch_add(1, Ordering::AcqRel);
        away(what)(e)
    }

    async fn read_document(&self, asked: &mut Asked) -> Result<Arc<Document>, IdentityError> {
        let known = self.document.load_full();
        if let Some(known) = known.clone().filter(|_| asked.document.is_some_and(|t| t.elapsed() < KEEP)) {
            return Ok(known);
        }
        let read = self.web.get(&self.discovery, None).await.and_then(|v| Ok(Document::deserialize(v)?));
        match read {
            Ok(document) if document.issuer == self.config.issuer => {
                let document = Arc::new(document);
                self.document.store(Some(document.clone()));
                asked.document = Some(Instant::now());
                Ok(document)
            }
            Ok(other) => {
                tracing::error!(
                    issuer = other.issuer,
                    expected = self.config.issuer,
                    "an identity provider's discovery document names another issuer"
                );
                Err(AWAY)
            }
            Err(e) => match known {
                Some(known) => {
                    tracing::warn!(error = %e, "an identity provider's discovery document cannot be read again");
                    asked.document = Some(Instant::now());
                    Ok(known)
                }
                None => Err(self.failed("discovery document", e)),
            },
        }
    }

    async fn known_keys(&self) -> Result<Arc<Vec<Key>>, IdentityError> {
        let known = self.keys.load_full();
        let Ok(mut asked) = self.asked.try_lock() else {
            // Somebody is asking. Who has no key to try waits for it.
            if !known.is_empty() {
                return Ok(known);
            }
            let mut asked = self.after_others().await?;
            return self.read_keys(&mut asked, KEEP).await;
        };
        self.read_keys(&mut asked, KEEP).await
    }

    /// The keys, read again because one is missing; those that are known where that was done too often.
    async fn keys_again(&self, known: &Arc<Vec<Key>>) -> Result<Arc<Vec<Key>>, IdentityError> {
        let mut asked = self.asked.lock().await;
        let now = self.keys.load_full();
        if !Arc::ptr_eq(&now, known) {
            return Ok(now);
        }
        let (since, times) = asked
            .unknown
            .filter(|(t, _)| t.elapsed() < Duration::from_secs(60))
            .unwrap_or((Instant::now(), 0));
        if times >= ASK_PER_MINUTE {
            return Ok(now);
        }
        asked.unknown = Some((since, times + 1));
        self.read_keys(&mut asked, Duration::ZERO).await
    }

    async fn read_keys(&self, asked: &mut Asked, keep: Duration) -> Result<Arc<Vec<Key>>, IdentityError> {
        let known = self.keys.load_full();
        if asked.keys.is_some_and(|t| t.elapsed() < keep) {
            return Ok(known);
        }
        let document = self.read_document(asked).await?;
        match self.web.get(&document.jwks_uri, None).await {
            Ok(set) => {
                self.keys.store(Arc::new(jwt::keys(&set)));
                asked.keys = Some(Instant::now());
                Ok(self.keys.load_full())
            }
            Err(e) if !known.is_empty() => {
                tracing::warn!(error = %e, "an identity provider's keys cannot be read again");
                asked.keys = Some(Instant::now());
                Ok(known)
            }
            Err(e) => Err(self.failed("keys", e)),
        }
    }

    pub(super) fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// Where a browser goes to log in.
    pub(super) async fn login_page(&self, fields: &[(&str, &str)]) -> Result<Url, IdentityError> {
        let document = self.document().await?;
        let page = document.authorization_endpoint.clone().filter(is_safe);
        let mut page = page.ok_or(IdentityError::Away("The identity provider has no page to log in at."))?;
        let scopes = match self.config.scopes.is_empty() {
            true => "openid email profile".to_owned(),
            false => self.config.scopes.join(" "),
        };
        page.query_pairs_mut()
            .extend_pairs([
                ("response_type", "code"),
                ("client_id", self.config.client_id.as_str()),
                ("scope", scopes.as_str()),
            ])
            .extend_pairs(fields);
        Ok(page)
    }

    /// The claims about whom an authorisation code stands for: those of the ID token, which must answer this nonce, and
    /// what the provider knows beside.
    pub(super) async fn redeem(
        &self,
        code: &str,
        (verifier, nonce): (&str, &str),
        redirect: &str,
    ) -> Result<Map<String, Value>, IdentityError> {
        let document = self.document().await?;
        let url = document.token_endpoint.as_ref().ok_or(AWAY)?;
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
        ];
        let secret = self.config.client_secret.as_ref().map(|Secret(s)| s.as_str());
        let said = match self.web.post(url, &fields, (&self.config.client_id, secret)).await {
            Ok(said) => said,
            Err(WebError::Status(400 | 401)) => {
                return Err(REFUSED("the provider refuses the authorisation code"));
            }
            Err(e) => return Err(away("token endpoint")(e)),
        };
        let Some(token) = said["id_token"].as_str() else {
            return Err(REFUSED("the provider gave no ID token"));
        };
        let mut claims = self.signed(token).await?;
        // An ID token is for the client alone, whoever access tokens may be for.
        let client = Value::from(self.config.client_id.as_str());
        let whole = match claims.get("aud") {
            Some(Value::Array(all)) => {
                all.contains(&client) && (all.len() == 1 || claims.contains_key("azp"))
            }
            one => one == Some(&client),
        };
        if !whole || claims.get("azp").is_some_and(|azp| *azp != client) {
            return Err(REFUSED("the ID token is for another client"));
        }
        if claims.get("nonce").and_then(Value::as_str) != Some(nonce) {
            return Err(REFUSED("the ID token answers another login"));
        }
        if let Some(access) = said["access_token"].as_str() {
            self.add_userinfo(access, &mut claims).await?;
        }
        Ok(claims)
    }
}

/// A claim in seconds since the epoch.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, IdentityError> {
    match claims.get(name) {
        None => Ok(None),
        // Whole or not; what does not fit is the far future or past.
        Some(Value::Number(n)) => Ok(n.as_i64().or(n.as_f64().map(|f| f as i64))),
        Some(_) => Err(REFUSED("a time in the token is none")),
    }
}
