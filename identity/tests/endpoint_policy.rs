//! Which policy document holds for which endpoint.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Cloud, clouds};
use serde_json::{Value, json};

async fn make(cloud: &Cloud, admin: &str, path: &str, key: &str, body: Value) -> String {
    let made = cloud.call("POST", path, admin, json!({key: body})).await.expect(201);
    made[key]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_nearest_policy_holds() {
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        for (id, parent) in [
            ("world", Value::Null),
            ("north", json!("world")),
            ("oslo", json!("north")),
            ("south", json!("world")),
        ] {
            make(&cloud, &admin, "/v3/regions", "region", json!({"id": id, "parent_region_id": parent}))
                .await;
        }
        let service =
            make(&cloud, &admin, "/v3/services", "service", json!({"type": "t", "name": "s"})).await;
        let elsewhere =
            make(&cloud, &admin, "/v3/services", "service", json!({"type": "u", "name": "u"})).await;
        let endpoint = async |region: &str, service: &str| {
            let body =
                json!({"service_id": service, "region_id": region, "interface": "public", "url": "http://x"});
            make(&cloud, &admin, "/v3/endpoints", "endpoint", body).await
        };
        let (oslo, south) = (endpoint("oslo", &service).await, endpoint("south", &service).await);
        let other = endpoint("oslo", &elsewhere).await;
        let mut policies = Vec::new();
        for n in 0..4 {
            let body = json!({"type": "application/json", "blob": format!("{{\"n\": {n}}}")});
            policies.push(make(&cloud, &admin, "/v3/policies", "policy", body).await);
        }
        let at = |n: usize, rest: &str| format!("/v3/policies/{}/OS-ENDPOINT-POLICY/{rest}", policies[n]);
        let call = async |method: &str, path: &str| cloud.call(method, path, &admin, Value::Null).await;
        let holds = async |endpoint: &str| {
            let reply = call("GET", &format!("/v3/endpoints/{endpoint}/OS-ENDPOINT-POLICY/policy")).await;
            match reply.status.as_u16() {
                200 => policies.iter().position(|p| reply.body["policy"]["id"] == p.as_str()),
                status => {
                    assert_eq!(status, 404, "{}", reply.body);
                    None
                }
            }
        };
        let all = async || (holds(&oslo).await, holds(&south).await, holds(&other).await);
        assert_eq!(all().await, (None, None, None));
        let on_service = format!("services/{service}");
        let on_world = format!("services/{service}/regions/world");
        let on_north = format!("services/{service}/regions/north");
        let on_oslo = format!("endpoints/{oslo}");
        for (n, rest, wanted) in [
            (0, &on_service, (Some(0), Some(0), None)),
            (1, &on_world, (Some(1), Some(1), None)),
            (2, &on_north, (Some(2), Some(1), None)),
            (3, &on_oslo, (Some(3), Some(1), None)),
        ] {
            assert_eq!(call("GET", &at(n, rest)).await.status, 404);
            for _ in 0..2 {
                call("PUT", &at(n, rest)).await.expect(204);
            }
            assert_eq!(
                (call("GET", &at(n, rest)).await.status, call("HEAD", &at(n, rest)).await.status.as_u16()),
                (http::StatusCode::NO_CONTENT, 204)
            );
            assert_eq!(all().await, wanted, "{rest}");
        }
        let endpoints = async |n: usize| {
            let found = call("GET", &at(n, "endpoints")).await.expect(200);
            let mut ids: Vec<String> = found["endpoints"]
                .as_array()
                .unwrap()
                .iter()
                .map(|e| e["id"].as_str().unwrap().to_owned())
                .collect();
            ids.sort();
            ids
        };
        let mut both = vec![oslo.clone(), south.clone()];
        both.sort();
        assert_eq!((endpoints(0).await, endpoints(1).await), (both.clone(), both));
        assert_eq!((endpoints(2).await, endpoints(3).await), (vec![oslo.clone()], vec![oslo.clone()]));
        // A target has one policy.
        call("PUT", &at(0, &on_oslo)).await.expect(204);
        assert_eq!((holds(&oslo).await, call("GET", &at(3, &on_oslo)).await.status.as_u16()), (Some(0), 404));
        // Taken away, also where it was not.
        for _ in 0..2 {
            call("DELETE", &at(0, &on_oslo)).await.expect(204);
        }
        assert_eq!(holds(&oslo).await, Some(2));
        // What goes takes its associations with it.
        call("DELETE", &format!("/v3/policies/{}", policies[2])).await.expect(204);
        assert_eq!(all().await, (Some(1), Some(1), None));
        call("DELETE", &format!("/v3/endpoints/{south}")).await.expect(204);
        assert_eq!(endpoints(1).await, vec![oslo.clone()]);
        call("DELETE", &format!("/v3/services/{service}")).await.expect(204);
        assert_eq!((endpoints(0).await, endpoints(1).await), (vec![], vec![]));
        assert_eq!(call("GET", &at(0, &on_service)).await.status, 404);

        for path in [
            at(0, "endpoints/none"),
            at(0, "services/none"),
            at(0, &format!("services/{elsewhere}/regions/none")),
        ] {
            for method in ["PUT", "GET", "DELETE"] {
                assert_eq!(call(method, &path).await.status, 404, "{method} {path}");
            }
        }
        assert_eq!(call("GET", "/v3/policies/none/OS-ENDPOINT-POLICY/endpoints").await.status, 404);
        assert_eq!(call("GET", "/v3/endpoints/none/OS-ENDPOINT-POLICY/policy").await.status, 404);
        // Only administrators.
        cloud.tenant("ann", &["member"]).await;
        let ann = cloud.tenant_token("ann").await;
        for (method, path) in [("PUT", at(0, &format!("endpoints/{other}"))), ("GET", at(0, "endpoints"))] {
            assert_eq!(cloud.call(method, &path, &ann, Value::Null).await.status, 403);
        }
    }
}
