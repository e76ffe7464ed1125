//! Logins by browser, against a provider and with browsers that do as a test wants.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod idp;

use base64::Engine;
use common::Cloud;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use identity::{Config, Federation};
use idp::{DASHBOARD, Idp, Key};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use tower::ServiceExt;
use url::Url;

const BACK: &str = "http://cloud.example:5000/identity/v3/auth/OS-FEDERATION/redirect_uri";

async fn clouds() -> (Idp, Vec<(Cloud, String)>) {
    idp::clouds(
        json!([{"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "OIDC-preferred_username"}]}]),
    )
    .await
}

struct Page {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

async fn get(cloud: &Cloud, path: &str, cookie: &str) -> Page {
    let request = Request::builder().uri(format!("/identity{path}")).header("cookie", cookie);
    let response =
        cloud.router.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Page { status: parts.status, headers: parts.headers, text }
}

/// A browser on its way to the provider.
struct Begun {
    asked: HashMap<String, String>,
    cookie: String,
}

async fn begin(cloud: &Cloud) -> Begun {
    let path =
        format!("/v3/auth/OS-FEDERATION/identity_providers/corp/protocols/openid/websso?origin={DASHBOARD}");
    let page = get(cloud, &path, "").await;
    assert_eq!(page.status, 302, "{}", page.text);
    let asked = Url::parse(page.headers["location"].to_str().unwrap()).unwrap();
    let set = page.headers["set-cookie"].to_str().unwrap();
    assert!(set.ends_with(
        "; Path=/identity/v3/auth/OS-FEDERATION/redirect_uri; Max-Age=600; HttpOnly; SameSite=Lax"
    ));
    Begun { asked: asked.query_pairs().into_owned().collect(), cookie: set.split(';').next().unwrap().into() }
}

/// What the provider gives for a code, and the code.
fn grant(idp: &Idp, begun: &Begun, more: Value) -> String {
    let mut claims = idp.with("ann", json!({"nonce": begun.asked["nonce"]}));
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    give(idp, begun, json!({"id_token": idp.key.token(&claims), "token_type": "Bearer"}))
}

fn give(idp: &Idp, begun: &Begun, answer: Value) -> String {
    let mut codes = idp.said.codes.lock().unwrap();
    let code = format!("code-{}-{}", codes.len(), begun.asked["state"]);
    codes.insert(code.clone(), (begun.asked["code_challenge"].clone(), answer));
    code
}

async fn back(cloud: &Cloud, begun: &Begun, query: &str, cookie: &str) -> Page {
    get(cloud, &format!("/v3/auth/OS-FEDERATION/redirect_uri?state={}&{query}", begun.asked["state"]), cookie)
        .await
}

fn token(page: &Page) -> String {
    assert_eq!(page.status, 200, "{}", page.text);
    let (_, rest) = page.text.split_once("name=\"token\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_browser_comes_back_with_a_token_for_its_dashboard() {
    let (idp, clouds) = clouds().await;
    for (cloud, admin) in clouds {
        let begun = begin(&cloud).await;
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", "aquifer"),
            ("redirect_uri", BACK),
            ("scope", "openid email profile"),
            ("code_challenge_method", "S256"),
        ] {
            assert_eq!(begun.asked[name], value);
        }
        let code = grant(&idp, &begun, json!({}));
        let query = format!("code={code}&iss={}", idp.issuer);
        // Another process than the one that began it.
        let federation = Federation {
            oidc: vec![idp.config()],
            trusted_dashboard: vec![DASHBOARD.into()],
            ..Federation::default()
        };
        let other = cloud.sibling_with(federation).await;
        let page = back(&other, &begun, &query, &format!("other=1; {}", begun.cookie)).await;
        let unscoped = token(&page);
        assert!(page.text.contains(&format!("action=\"{DASHBOARD}\"")), "{}", page.text);
        assert!(page.headers["set-cookie"].to_str().unwrap().contains("=; Path="));
        assert_eq!(page.headers["cache-control"], "no-store");
        assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
        let seen = cloud.token("GET", &admin, &unscoped).await.expect(200);
        assert_eq!(
            (&seen["token"]["user"]["name"], &seen["token"]["methods"]),
            (&json!("ann"), &json!(["openid"]))
        );
        // What the provider knows beside.
        let begun = begin(&cloud).await;
        let about = json!({"sub": "ann", "preferred_username": "anna"});
        idp.said.userinfo.lock().unwrap().insert("at".into(), about);
        let claims = idp.with("ann", json!({"nonce": begun.asked["nonce"], "preferred_username": null}));
        let mut claims = claims.as_object().unwrap().clone();
        claims.remove("preferred_username");
        let id_token = idp.key.token(&claims.into());
        let code = give(&idp, &begun, json!({"id_token": id_token, "access_token": "at"}));
        let named = token(&back(&cloud, &begun, &format!("code={code}"), &begun.cookie).await);
        let seen = cloud.token("GET", &admin, &named).await.expect(200);
        assert_eq!(seen["token"]["user"]["name"], "anna");
    }
}

#[tokio::test]
async fn only_the_browser_that_began_and_only_once() {
    let (idp, clouds) = clouds().await;
    for (cloud, admin) in clouds {
        let begun = begin(&cloud).await;
        let other = begin(&cloud).await;
        let query = format!("code={}", grant(&idp, &begun, json!({})));
        let state = &begun.asked["state"];
        let stolen = format!("aquifer_login_{state}={}", other.cookie.split_once('=').unwrap().1);
        let sealed = begun.cookie.split_once('=').unwrap().1.to_owned();
        let a_token = format!("aquifer_login_{state}={admin}");
        let cut = begun.cookie[..begun.cookie.len() - 4].to_owned();
        for (why, cookie) in
            [("no cookie", ""), ("another login's", &stolen), ("a token", &a_token), ("cut", &cut)]
        {
            assert_eq!(back(&cloud, &begun, &query, cookie).await.status, 401, "{why}");
        }
        cloud.get("/v3/auth/projects", &sealed).await.expect(401);
        token(&back(&cloud, &begun, &query, &begun.cookie).await);
        // Neither the same code nor another one.
        for query in [query.clone(), format!("code={}", grant(&idp, &begun, json!({})))] {
            let again = back(&cloud, &begun, &query, &begun.cookie).await;
            assert_eq!((again.status.as_u16(), again.text.contains("token")), (401, false), "{}", again.text);
        }
        // One's own code in another's login: it was asked for with another verifier.
        let query = format!("code={}", grant(&idp, &begun, json!({"nonce": other.asked["nonce"]})));
        assert_eq!(back(&cloud, &other, &query, &other.cookie).await.status, 401);
        for query in ["", "state=", "state=x", "code=y", "state=%00"] {
            let page =
                get(&cloud, &format!("/v3/auth/OS-FEDERATION/redirect_uri?{query}"), &begun.cookie).await;
            assert_eq!(page.status, 400, "{query}");
        }
    }
}

#[tokio::test]
async fn what_a_provider_must_not_say() {
    let (idp, clouds) = clouds().await;
    let stranger = Key::new("k1");
    for (cloud, admin) in clouds {
        for (why, more) in [
            ("another login's", json!({"nonce": "x"})),
            ("no nonce", json!({"nonce": null})),
            ("another client's", json!({"aud": "wiki"})),
            ("several clients'", json!({"aud": ["aquifer", "wiki"]})),
            ("made for another", json!({"aud": ["aquifer", "wiki"], "azp": "wiki"})),
            ("another issuer's", json!({"iss": "http://127.0.0.1:9"})),
            ("old", json!({"exp": 1})),
        ] {
            let begun = begin(&cloud).await;
            let query = format!("code={}", grant(&idp, &begun, more));
            assert_eq!(back(&cloud, &begun, &query, &begun.cookie).await.status, 401, "{why}");
        }
        let unsigned = |claims: &Value| {
            let b64 = |v: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(v.to_string());
            json!(format!("{}.{}.", b64(&json!({"alg": "none"})), b64(claims)))
        };
        let forged = |claims: &Value| json!(stranger.token(claims));
        let nothing = |_: &Value| Value::Null;
        for make in [&unsigned as &dyn Fn(&Value) -> Value, &forged, &nothing] {
            let own = begin(&cloud).await;
            let id_token = make(&idp.with("ann", json!({"nonce": own.asked["nonce"]})));
            let code = give(&idp, &own, json!({"id_token": id_token, "access_token": "at"}));
            let page = back(&cloud, &own, &format!("code={code}"), &own.cookie).await;
            assert_eq!(page.status, 401, "{id_token}");
        }
        for query in
            ["error=access_denied", "error=access_denied&code=x", "iss=https://evil.example&code=x", "code="]
        {
            let begun = begin(&cloud).await;
            assert_eq!(back(&cloud, &begun, query, &begun.cookie).await.status, 401, "{query}");
        }
        // A provider that was turned off meanwhile.
        let begun = begin(&cloud).await;
        let query = format!("code={}", grant(&idp, &begun, json!({})));
        let off = json!({"identity_provider": {"enabled": false}});
        cloud.call("PATCH", "/v3/OS-FEDERATION/identity_providers/corp", &admin, off).await.expect(200);
        assert_eq!(back(&cloud, &begun, &query, &begun.cookie).await.status, 403);
    }
}

#[tokio::test]
async fn where_a_login_begins() {
    let (idp, clouds) = clouds().await;
    for (cloud, admin) in clouds {
        let websso = "/v3/auth/OS-FEDERATION/websso/openid";
        let of =
            |idp: &str| format!("/v3/auth/OS-FEDERATION/identity_providers/{idp}/protocols/openid/websso");
        for path in [websso.to_owned(), of("corp")] {
            let bare = get(&cloud, &path, "").await;
            assert_eq!(bare.status, 400);
            assert!(bare.text.contains("Request must have an origin query parameter"), "{}", bare.text);
            for origin in [
                "https://evil.example/auth/websso/",
                "https://horizon.example/auth/websso",
                "https://horizon.example/auth/websso/?x",
                "https://horizon.example.evil.example/auth/websso/",
                "javascript:alert(1)",
            ] {
                let page = get(&cloud, &format!("{path}?origin={origin}"), "").await;
                assert_eq!(page.status, 401, "{origin}");
                assert!(page.text.contains("is not a trusted dashboard host"), "{}", page.text);
            }
        }
        // One provider of the protocol is there: it is the one.
        let page = get(&cloud, &format!("{websso}?origin={DASHBOARD}"), "").await;
        assert!(page.headers["location"].to_str().unwrap().starts_with(&format!("{}/auth?", idp.issuer)));
        let request =
            Request::builder().method("POST").uri(format!("/identity{}?origin={DASHBOARD}", of("corp")));
        assert_eq!(cloud.send(request.body(String::new().into()).unwrap()).await.status, 302);
        assert_eq!(
            get(&cloud, &format!("/v3/auth/OS-FEDERATION/websso/saml2?origin={DASHBOARD}"), "").await.status,
            404
        );
        assert_eq!(get(&cloud, &format!("{}?origin={DASHBOARD}", of("nope")), "").await.status, 404);
        // Of two the browser's user chooses.
        let second = json!({"identity_provider": {"enabled": true}});
        let path = "/v3/OS-FEDERATION/identity_providers/%3Cb%3E";
        cloud.call("PUT", path, &admin, second).await.expect(201);
        let protocol = json!({"protocol": {"mapping_id": "corp"}});
        cloud.call("PUT", &format!("{path}/protocols/openid"), &admin, protocol).await.expect(201);
        let page = get(&cloud, &format!("{websso}?origin={DASHBOARD}"), "").await;
        assert_eq!(page.status, 200);
        assert!(page.text.contains(">&lt;b&gt;</a>") && !page.text.contains("<b>"), "{}", page.text);
        let link = page.text.split("href=\"http://cloud.example:5000/identity").nth(1).unwrap();
        let link = link.split('"').next().unwrap().replace("&amp;", "&");
        assert_eq!(get(&cloud, &link, "").await.status, 302, "{link}");
        // A provider that is away, and one whose page is no safe place.
        let fresh = cloud.sibling_with(Federation {
            oidc: vec![idp.config()],
            trusted_dashboard: vec![DASHBOARD.into()],
            ..Federation::default()
        });
        let fresh = fresh.await;
        idp.said.down.store(true, Ordering::SeqCst);
        assert_eq!(get(&fresh, &format!("{}?origin={DASHBOARD}", of("corp")), "").await.status, 503);
        idp.said.down.store(false, Ordering::SeqCst);
        let good = idp.said.document.lock().unwrap().clone();
        idp.said.document.lock().unwrap()["authorization_endpoint"] = json!("http://evil.example/");
        assert_eq!(get(&fresh, &format!("{}?origin={DASHBOARD}", of("corp")), "").await.status, 503);
        *idp.said.document.lock().unwrap() = good;
    }
}

#[tokio::test]
async fn a_dashboard_is_a_page() {
    for db in testbed::databases().await {
        db.migrate(&identity::MIGRATIONS).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let federation =
            Federation { trusted_dashboard: vec!["javascript:x".into()], ..Federation::default() };
        let config = Config { federation, ..common::config(&dir) };
        let refused = identity::Identity::new(db, config, api::Links::new("http://x")).await.err().unwrap();
        assert!(refused.to_string().contains("trusted_dashboard"), "{refused}");
    }
}
