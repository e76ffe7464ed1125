//! A provider of identities whose every word a test chooses: documents, keys, tokens.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use crate::common::{Cloud, Reply, clouds_with};
use api::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Request, StatusCode};
use identity::{Config, Federation, OidcProvider};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub struct Key {
    pub id: String,
    pair: EcdsaKeyPair,
}

impl Key {
    pub fn new(id: &str) -> Key {
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &rng).unwrap();
        Key { id: id.into(), pair }
    }

    pub fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..])})
    }

    /// A token with this header and these claims, signed with this key whatever the header says.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let enc = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let text = format!("{}.{}", enc(header), enc(claims));
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    pub fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "typ": "JWT", "kid": self.id}), claims)
    }
}

/// What the provider has to say.
#[derive(Default)]
pub struct Said {
    pub document: Mutex<Value>,
    pub keys: Mutex<Vec<Value>>,
    pub introspection: Mutex<HashMap<String, Value>>,
    pub userinfo: Mutex<HashMap<String, Value>>,
    /// What codes are exchanged for, with the challenge that they were asked with.
    pub codes: Mutex<HashMap<String, (String, Value)>>,
    pub down: std::sync::atomic::AtomicBool,
    pub keys_read: AtomicUsize,
}

pub struct Idp {
    pub issuer: String,
    pub said: Arc<Said>,
    pub key: Key,
}

type Answer = Result<Json<Value>, StatusCode>;

async fn document(State(said): State<Arc<Said>>) -> Answer {
    if said.down.load(Ordering::SeqCst) {
        return Err(StatusCode::INTERNAL_SERVER_ERROR);
    }
    Ok(Json(said.document.lock().unwrap().clone()))
}

async fn jwks(State(said): State<Arc<Said>>) -> Answer {
    said.keys_read.fetch_add(1, Ordering::SeqCst);
    if said.down.load(Ordering::SeqCst) {
        return Err(StatusCode::INTERNAL_SERVER_ERROR);
    }
    Ok(Json(json!({"keys": said.keys.lock().unwrap().clone()})))
}

async fn introspect(State(said): State<Arc<Said>>, headers: HeaderMap, form: String) -> Answer {
    let form: HashMap<String, String> = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    // aquifer:s3cret
    if headers.get("authorization").map(|v| v.to_str().unwrap()) != Some("Basic YXF1aWZlcjpzM2NyZXQ=") {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let found = said.introspection.lock().unwrap().get(&form["token"]).cloned();
    Ok(Json(found.unwrap_or(json!({"active": false}))))
}

/// A code is good once, and for whom its challenge came from.
async fn exchange(State(said): State<Arc<Said>>, headers: HeaderMap, form: String) -> Answer {
    let form: HashMap<String, String> = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    if headers.get("authorization").map(|v| v.to_str().unwrap()) != Some("Basic YXF1aWZlcjpzM2NyZXQ=") {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let (challenge, answer) =
        said.codes.lock().unwrap().remove(&form["code"]).ok_or(StatusCode::BAD_REQUEST)?;
    let verifier = ring::digest::digest(&ring::digest::SHA256, form["code_verifier"].as_bytes());
    match URL_SAFE_NO_PAD.encode(verifier.as_ref()) == challenge && form["grant_type"] == "authorization_code"
    {
        true => Ok(Json(answer)),
        false => Err(StatusCode::BAD_REQUEST),
    }
}

async fn userinfo(State(said): State<Arc<Said>>, headers: HeaderMap) -> Answer {
    let token = headers["authorization"].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
    said.userinfo.lock().unwrap().get(&token).cloned().map(Json).ok_or(StatusCode::UNAUTHORIZED)
}

impl Idp {
    pub async fn start() -> Idp {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let key = Key::new("k1");
        let said = Arc::new(Said::default());
        *said.document.lock().unwrap() = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/jwks"),
            "authorization_endpoint": format!("{issuer}/auth"), "token_endpoint": format!("{issuer}/token"),
            "introspection_endpoint": format!("{issuer}/introspect"),
            "userinfo_endpoint": format!("{issuer}/userinfo")});
        *said.keys.lock().unwrap() = vec![key.jwk()];
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(document))
            .route("/jwks", get(jwks))
            .route("/introspect", post(introspect))
            .route("/userinfo", get(userinfo))
            .route("/token", post(exchange))
            .with_state(said.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Idp { issuer, said, key }
    }

    pub fn config(&self) -> OidcProvider {
        OidcProvider {
            identity_provider: "corp".into(),
            protocol: "openid".into(),
            issuer: self.issuer.clone(),
            client_id: "aquifer".into(),
            client_secret: Some(api::Secret("s3cret".into())),
            ..OidcProvider::default()
        }
    }

    /// What a good token says of somebody.
    pub fn claims(&self, sub: &str) -> Value {
        let now = state::Timestamp::now().secs();
        json!({"iss": self.issuer, "aud": "aquifer", "sub": sub, "iat": now, "exp": now + 600,
            "preferred_username": sub, "email": format!("{sub}@corp.example"), "groups": []})
    }

    pub fn token(&self, sub: &str) -> String {
        self.key.token(&self.claims(sub))
    }

    pub fn token_with(&self, sub: &str, more: Value) -> String {
        self.key.token(&self.with(sub, more))
    }

    pub fn with(&self, sub: &str, more: Value) -> Value {
        let mut claims = self.claims(sub);
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }
}

pub const DOOR: &str = "/v3/OS-FEDERATION/identity_providers/corp/protocols/openid/auth";
/// As a browser sends it; the clouds know it in other letters.
pub const DASHBOARD: &str = "https://horizon.example/auth/websso/";

/// Clouds that trust a provider as `corp`, with tokens of their admins; as `<b>` they are set up for it as well.
pub async fn clouds(rules: Value) -> (Idp, Vec<(Cloud, String)>) {
    let idp = Idp::start().await;
    let known = idp.config();
    let clouds = clouds_with(|c| Config {
        federation: Federation {
            oidc: vec![known.clone(), OidcProvider { identity_provider: "<b>".into(), ..known.clone() }],
            trusted_dashboard: vec!["https://Horizon.Example/auth/websso/".into()],
            ..Federation::default()
        },
        ..c
    });
    let mut out = Vec::new();
    for cloud in clouds.await {
        let admin = cloud.admin().await;
        let provider = json!({"identity_provider": {"enabled": true, "remote_ids": [idp.issuer]}});
        put(&cloud, &admin, "identity_providers/corp", provider).await.expect(201);
        put(&cloud, &admin, "mappings/corp", json!({"mapping": {"rules": rules}})).await.expect(201);
        let protocol = json!({"protocol": {"mapping_id": "corp"}});
        put(&cloud, &admin, "identity_providers/corp/protocols/openid", protocol).await.expect(201);
        out.push((cloud, admin));
    }
    (idp, out)
}

pub async fn put(cloud: &Cloud, token: &str, path: &str, body: Value) -> Reply {
    cloud.call("PUT", &format!("/v3/OS-FEDERATION/{path}"), token, body).await
}

pub async fn patch(cloud: &Cloud, token: &str, path: &str, body: Value) -> Reply {
    cloud.call("PATCH", &format!("/v3/OS-FEDERATION/{path}"), token, body).await
}

/// Shows a provider's token at the door.
pub async fn enter(cloud: &Cloud, bearer: &str) -> Reply {
    let request = Request::builder().method("POST").uri(format!("/identity{DOOR}"));
    let request = request.header("authorization", format!("Bearer {bearer}"));
    cloud.send(request.body(axum::body::Body::empty()).unwrap()).await
}

pub fn token(reply: &Reply) -> String {
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.headers["x-subject-token"].to_str().unwrap().to_owned()
}

pub async fn group(cloud: &Cloud, admin: &str, name: &str) -> String {
    let made = cloud.call("POST", "/v3/groups", admin, json!({"group": {"name": name}})).await.expect(201);
    made["group"]["id"].as_str().unwrap().to_owned()
}

/// A group whose members have a role in a project of this name.
pub async fn group_with(
    cloud: &Cloud,
    admin: &str,
    name: &str,
    project: &str,
    role: &str,
) -> (String, String) {
    let group = group(cloud, admin, name).await;
    let project = cloud.identity.ensure_project(project).await.unwrap();
    let role = cloud.role(role).await;
    let path = format!("/v3/projects/{project}/groups/{group}/roles/{role}");
    cloud.call("PUT", &path, admin, Value::Null).await.expect(204);
    (group, project)
}

pub fn project_scope(id: &str) -> Value {
    json!({"project": {"id": id}})
}
