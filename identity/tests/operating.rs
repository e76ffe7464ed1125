//! What an operator does beside the API: keys of credentials, the other token provider, the model of limits, policy.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api::{Secret, TokenValidator};
use common::{Cloud, clouds, clouds_with, config};
use identity::{Config, Identity, LimitModel, ScopeOf, TokenProvider};
use serde_json::{Value, json};
use state::Db;
use std::time::Duration;

async fn sealed(db: &Db) -> Vec<(String, String)> {
    sqlx::query_as("SELECT key_id, blob FROM identity_credentials ORDER BY id")
        .fetch_all(db.read())
        .await
        .unwrap()
}

#[tokio::test]
async fn credentials_move_to_the_newest_key() {
    for (cloud, other) in Cloud::pairs(|c| c).await {
        let (project, user) = cloud.tenant("ann", &["member"]).await;
        let token = cloud.tenant_token("ann").await;
        for n in 0..450 {
            let key = Secret(format!("secret-{n}"));
            cloud.identity.ensure_ec2_credential(&user, &project, &format!("KEY{n}"), &key).await.unwrap();
        }
        let before = sealed(&cloud.db).await;
        assert!(before.iter().all(|(key, blob)| *key == before[0].0 && !blob.contains("secret-")));
        for _ in 0..4 {
            let (done, moved) = cloud.identity.rotate_credential_keys().await.unwrap();
            assert_eq!(moved, 450, "{done:?}");
            let now = sealed(&cloud.db).await;
            assert!(now.iter().all(|(key, _)| *key == now[0].0) && now[0].0 != before[0].0);
            // The other process reads them, and writes with whatever key it has.
            let found = other.identity.s3_credential("KEY7").await.unwrap().unwrap();
            assert_eq!(found.secret.0, "secret-7");
        }
        assert_eq!(cloud.identity.migrate_credentials().await.unwrap(), 0, "there is nothing left to do");
        // As an older program left them: without a key's name.
        sqlx::query("UPDATE identity_credentials SET key_id = NULL").execute(cloud.db.read()).await.unwrap();
        assert_eq!(cloud.identity.migrate_credentials().await.unwrap(), 450);
        let shown = cloud.get(&format!("/v3/users/{user}/credentials/OS-EC2/KEY3"), &token).await.expect(200);
        assert_eq!(shown["credential"]["secret"], "secret-3");
        let listed = cloud.get("/v3/credentials", &token).await.expect(200);
        assert!(listed["credentials"][0].get("key_id").is_none());
    }
}

#[tokio::test]
async fn a_cloud_with_signed_tokens() {
    for cloud in clouds_with(|c| Config { token_provider: TokenProvider::Jws, ..c }).await {
        let token = cloud.admin().await;
        assert_eq!(token.matches('.').count(), 2);
        let other = cloud.sibling().await;
        assert!(
            other.identity.validate(&token).await.is_ok(),
            "a process of the other provider knows it too"
        );
        let fernet = other.admin().await;
        assert!(!fernet.contains('.') && cloud.identity.validate(&fernet).await.is_ok());
        assert_eq!(cloud.token("GET", &token, &token).await.status, 200);
        cloud.identity.rotate().await.unwrap();
        let newer = cloud.admin().await;
        for token in [&token, &newer] {
            assert!(
                cloud.identity.validate(token).await.is_ok() && other.identity.validate(token).await.is_ok()
            );
        }
    }
}

async fn resource(cloud: &Cloud, admin: &str) -> Value {
    let services = cloud.get("/v3/services?type=volumev3", admin).await.expect(200);
    json!({"service_id": services["services"][0]["id"], "resource_name": "volumes"})
}

fn with(base: &Value, more: Value) -> Value {
    let mut one = base.clone();
    one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    one
}

#[tokio::test]
async fn limits_in_two_levels() {
    for cloud in clouds_with(|c| Config { limit_model: LimitModel::StrictTwoLevel, ..c }).await {
        let admin = cloud.admin().await;
        let model = cloud.get("/v3/limits/model", &admin).await.expect(200);
        assert_eq!(model["model"]["name"], "strict_two_level");
        let of = resource(&cloud, &admin).await;
        let registered = json!({"registered_limits": [with(&of, json!({"default_limit": 10}))]});
        cloud.call("POST", "/v3/registered_limits", &admin, registered).await.expect(201);
        let domain =
            cloud.call("POST", "/v3/domains", &admin, json!({"domain": {"name": "d"}})).await.expect(201);
        let domain = domain["domain"]["id"].as_str().unwrap().to_owned();
        let project = async |name: &str, parent: &str| {
            let body = json!({"project": {"name": name, "domain_id": domain, "parent_id": parent}});
            cloud.call("POST", "/v3/projects", &admin, body).await
        };
        let one = project("one", &domain).await.expect(201)["project"]["id"].as_str().unwrap().to_owned();
        let deep = project("deep", &one).await;
        assert_eq!(
            (deep.status.as_u16(), deep.message()),
            (403, &*format!("Max hierarchy depth reached for {one} branch."))
        );

        let limits =
            async |list: Vec<Value>| cloud.call("POST", "/v3/limits", &admin, json!({"limits": list})).await;
        let of_project = |n: i64| with(&of, json!({"project_id": one, "resource_limit": n}));
        let of_domain = |n: i64| with(&of, json!({"domain_id": domain, "resource_limit": n}));
        // More than the default, which is the domain's as long as it has none of its own.
        let refused = limits(vec![of_project(11)]).await;
        assert_eq!(refused.status, 403);
        assert!(
            refused.message().contains("doesn't satisfy current hierarchy model"),
            "{}",
            refused.message()
        );
        assert_eq!(limits(vec![of_project(21), of_domain(20)]).await.status, 403);
        let made = limits(vec![of_project(19), of_domain(20)]).await.expect(201);
        let id = |n: usize| made["limits"][n]["id"].as_str().unwrap();
        let set = async |id: &str, n: i64| {
            let body = json!({"limit": {"resource_limit": n}});
            cloud.call("PATCH", &format!("/v3/limits/{id}"), &admin, body).await.status.as_u16()
        };
        assert_eq!(set(id(0), 21).await, 403, "more than its domain");
        assert_eq!(set(id(1), 18).await, 403, "less than a project of it");
        assert_eq!((set(id(1), 25).await, set(id(0), 25).await), (200, 200));
        assert_eq!(set(id(0), -1).await, 403, "without end is more than any");
        assert_eq!((set(id(1), -1).await, set(id(0), -1).await), (200, 200));
    }
}

#[tokio::test]
async fn flat_limits_and_their_refusals() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        assert_eq!(cloud.get("/v3/limits/model", &admin).await.expect(200)["model"]["name"], "flat");
        let of = resource(&cloud, &admin).await;
        let (project, _) = cloud.tenant("ann", &["member"]).await;
        let limit = json!({"limits": [with(&of, json!({"project_id": project, "resource_limit": 5}))]});
        let early = cloud.call("POST", "/v3/limits", &admin, limit.clone()).await;
        assert_eq!(early.status, 403);
        assert_eq!(early.message(), "Unable to create a limit that has no corresponding registered limit.");
        let registered = json!({"registered_limits": [with(&of, json!({"default_limit": 1}))]});
        let made = cloud.call("POST", "/v3/registered_limits", &admin, registered.clone()).await.expect(201);
        assert_eq!(cloud.call("POST", "/v3/registered_limits", &admin, registered).await.status, 409);
        cloud.call("POST", "/v3/limits", &admin, limit.clone()).await.expect(201);
        assert_eq!(cloud.call("POST", "/v3/limits", &admin, limit).await.status, 409);
        // As the services themselves ask.
        let in_force = async |kind: &str, project: &str, resource: &str| {
            cloud.identity.limit_in_force(kind, "RegionOne", project, resource).await.unwrap()
        };
        assert_eq!(in_force("volumev3", &project, "volumes").await, Some(5));
        assert_eq!(in_force("volumev3", "another", "volumes").await, Some(1));
        assert_eq!(in_force("identity", &project, "volumes").await, None);
        assert_eq!(in_force("volumev3", &project, "snapshots").await, None);
        let endpoint = async |kind: &str, region: &str, interface: &str| {
            cloud.identity.endpoint(kind, region, interface).await.unwrap()
        };
        let url = endpoint("identity", "RegionOne", "public").await.unwrap();
        assert!(url.ends_with("/identity/v3"), "{url}");
        assert_eq!(endpoint("identity", "nowhere", "public").await, None);
        assert_eq!(endpoint("identity", "RegionOne", "none").await, None);
        assert_eq!(endpoint("volumev3", "RegionOne", "public").await, None, "it needs a project");
        let id = made["registered_limits"][0]["id"].as_str().unwrap();
        let kept = cloud.call("DELETE", &format!("/v3/registered_limits/{id}"), &admin, Value::Null).await;
        let wanted = format!(
            "Unable to update or delete registered limit {id} because there are project limits associated with it."
        );
        assert_eq!((kept.status.as_u16(), kept.message()), (403, &*wanted));
        // A domain named as a project has its limit as a domain.
        let as_project =
            json!({"limits": [with(&of, json!({"project_id": "default", "resource_limit": 5}))]});
        let made = cloud.call("POST", "/v3/limits", &admin, as_project).await.expect(201);
        assert_eq!(
            (&made["limits"][0]["domain_id"], &made["limits"][0]["project_id"]),
            (&json!("default"), &Value::Null)
        );
        for odd in [
            json!({"project_id": "none"}),
            json!({"domain_id": "none"}),
            json!({"project_id": project, "service_id": "none"}),
            json!({"project_id": project, "region_id": "none"}),
            json!({}),
        ] {
            let body = json!({"limits": [with(&with(&of, json!({"resource_limit": 5})), odd.clone())]});
            assert_eq!(cloud.call("POST", "/v3/limits", &admin, body).await.status, 400, "{odd}");
        }
    }
}

#[tokio::test]
async fn strict_limits_do_not_start_over_deep_projects() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let (project, _) = cloud.tenant("ann", &["member"]).await;
        let body = json!({"project": {"name": "below", "parent_id": project}});
        cloud.call("POST", "/v3/projects", &admin, body).await.expect(201);
        let strict = Config { limit_model: LimitModel::StrictTwoLevel, ..config(&cloud.dir) };
        let e = Identity::new(cloud.db.clone(), strict, api::Links::new("http://x")).await.err().unwrap();
        assert!(e.to_string().contains("directly below its domain"), "{e}");
    }
}

#[tokio::test]
async fn a_changed_policy_file_counts_without_a_restart() {
    for cloud in clouds().await {
        let file = cloud.dir.path().join("policy.yaml");
        std::fs::write(&file, "\"identity:list_regions\": \"role:auditor\"\n").unwrap();
        let config = Config { policy_file: Some(file.clone()), ..config(&cloud.dir) };
        let links = api::Links::new("http://x");
        let identity = Identity::new(cloud.db.clone(), config, links.clone()).await.unwrap();
        let ruled = Cloud { router: identity::router(identity.clone(), &links), identity, ..cloud };
        let admin = ruled.admin().await;
        assert_eq!(ruled.get("/v3/regions", &admin).await.status, 403);
        std::fs::write(&file, "\"identity:list_regions\": \"role:admin\"\n").unwrap();
        let open = async {
            while ruled.get("/v3/regions", &admin).await.status != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3), open).await.expect("the new rule does not count");
    }
}

#[tokio::test]
async fn what_a_user_may_do_is_told_without_a_token() {
    for cloud in clouds().await {
        let (project, user) = cloud.tenant("ann", &["member"]).await;
        let in_project = ScopeOf::Project { project: "ann-p", domain: "Default" };
        let caller = cloud.identity.caller_of("ann", "default", in_project).await.unwrap();
        assert_eq!((&caller.user.id, caller.project().map(|p| &p.id)), (&user, Some(&project)));
        assert!(caller.has_role("member") && caller.has_role("reader"));
        let policy = cloud.identity.policy();
        let own = [("target.user.id", user.as_str())];
        assert!(policy.explain(&caller, "identity:get_user", &own).unwrap().allowed);
        assert!(!policy.explain(&caller, "identity:delete_user", &own).unwrap().allowed);
        for (user, scope) in [
            ("nobody", ScopeOf::Unscoped),
            ("ann", ScopeOf::System),
            ("ann", ScopeOf::Domain("Default")),
            ("ann", ScopeOf::Project { project: "admin", domain: "default" }),
        ] {
            assert!(cloud.identity.caller_of(user, "default", scope).await.is_err(), "{user} {scope:?}");
        }
    }
}

#[tokio::test]
async fn lists_in_pages() {
    for cloud in clouds_with(|c| Config { list_limit: 5, ..c }).await {
        let admin = cloud.admin().await;
        for n in 0..12 {
            let body = json!({"group": {"name": format!("Group-{n:02}"), "domain_id": "default"}});
            cloud.call("POST", "/v3/groups", &admin, body).await.expect(201);
        }
        // The operator's limit and the caller's; the smaller one counts.
        for (query, sizes) in
            [("", vec![5, 5, 2]), ("?limit=3", vec![3, 3, 3, 3]), ("?limit=50", vec![5, 5, 2])]
        {
            let (mut path, mut names, mut pages) = (format!("/v3/groups{query}"), Vec::new(), Vec::new());
            loop {
                let body = cloud.get(&path, &admin).await.expect(200);
                let groups = body["groups"].as_array().unwrap();
                pages.push(groups.len());
                names.extend(groups.iter().map(|g| g["name"].as_str().unwrap().to_owned()));
                let next = body["links"]["next"].as_str();
                assert_eq!(next.is_some(), body.get("truncated") == Some(&json!(true)));
                match next {
                    Some(next) => path = next.split_once("/identity").unwrap().1.to_owned(),
                    None => break,
                }
            }
            names.sort();
            names.dedup();
            assert_eq!((pages, names.len()), (sizes, 12), "{query}");
        }
        let count = async |query: &str| {
            let body = cloud.get(&format!("/v3/groups?{query}"), &admin).await;
            (body.status.as_u16(), body.body["groups"].as_array().map_or(0, Vec::len))
        };
        for (query, found) in [
            ("name=Group-03", 1),
            ("name__contains=roup-0&limit=2", 2),
            ("name__contains=ROUP", 0),
            ("name__icontains=ROUP", 5),
            ("name__startswith=Group-1", 2),
            ("name__istartswith=group-1", 2),
            ("name__endswith=-11", 1),
            ("name__equals=group-11", 0),
            ("name__iequals=group-11", 1),
            ("name__contains=%25", 0),
            ("name__contains=_", 0),
            ("name__startswith=Group&name__endswith=7", 1),
        ] {
            assert_eq!(count(query).await, (200, found), "{query}");
        }
        for bad in ["limit=-1", "limit=x"] {
            assert_eq!(count(bad).await.0, 400, "{bad}");
        }
    }
}
