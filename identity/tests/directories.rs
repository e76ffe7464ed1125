//! The LDAP directories themselves: how a domain's options describe one, what its entries may be, and what happens where
//! it does not answer. With Debian's slapd.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod slapd;

use common::{Cloud, clouds, clouds_with};
use ldap3::Mod;
use serde_json::{Value, json};
use slapd::{Slapd, add, domain, group_dn, listed, named, names, public, short, soon, token, user_dn};
use std::collections::HashSet;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_directory_that_does_not_answer() {
    for cloud in clouds_with(short).await {
        let mut slapd = Slapd::start().await;
        let mut well = Slapd::start().await;
        let id = domain(&cloud, "corp", &slapd.config()).await;
        domain(&cloud, "other", &well.config()).await;
        let admin = cloud.admin().await;
        let other = json!({"methods": ["password"],
            "password": {"user": {"name": "ann", "domain": {"name": "other"}, "password": "ann-pw"}}});
        let own = token(&cloud.auth(named("ann", "ann-pw"), Value::Null).await);
        slapd.freeze();
        // Many at a time; none waits for long, and nobody else waits at all.
        let began = Instant::now();
        let tries = (0..40).map(|_| cloud.auth(named("ann", "ann-pw"), Value::Null));
        let elsewhere = async {
            let began = Instant::now();
            for _ in 0..5 {
                assert_eq!(cloud.auth(other.clone(), Value::Null).await.status, 201);
                assert_eq!(cloud.get("/v3/users?domain_id=default", &admin).await.status, 200);
                cloud.admin().await;
            }
            began.elapsed()
        };
        let (tries, elsewhere) = futures::future::join(futures::future::join_all(tries), elsewhere).await;
        for reply in tries {
            assert_eq!(reply.status, 503, "{}", reply.body);
            assert!(reply.message().contains("out of reach"), "{}", reply.body);
        }
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        assert!(elsewhere < Duration::from_secs(2), "{elsewhere:?}");
        // The token was good a moment ago; nobody can say now.
        soon("not believed for ever", async || cloud.token("HEAD", &admin, &own).await.status == 503).await;
        assert_eq!(cloud.get(&format!("/v3/users?domain_id={id}"), &admin).await.status, 503);
        // It is left alone for a while: the answer comes at once.
        let began = Instant::now();
        assert_eq!(cloud.auth(named("ann", "ann-pw"), Value::Null).await.status, 503);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        slapd.thaw();
        let back = async || cloud.auth(named("ann", "ann-pw"), Value::Null).await.status == 201;
        let wait = async |what: &str| {
            let until = Instant::now() + Duration::from_secs(8);
            while !back().await {
                assert!(Instant::now() < until, "{what}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        wait("back again").await;
        assert_eq!(cloud.token("HEAD", &admin, &own).await.status, 200);
        slapd.stop();
        assert_eq!(cloud.auth(named("ann", "ann-pw"), Value::Null).await.status, 503);
        assert_eq!(cloud.auth(other, Value::Null).await.status, 201);
        slapd.run().await;
        wait("started again").await;
        // Kept connections that the directory has closed meanwhile are not in the way.
        well.stop();
        well.run().await;
    }
}

#[tokio::test]
async fn connections_closed_meanwhile_are_made_again() {
    for cloud in clouds().await {
        let mut slapd = Slapd::start().await;
        let id = domain(&cloud, "corp", &slapd.config()).await;
        let admin = cloud.admin().await;
        let path = format!("/v3/users?domain_id={id}");
        assert_eq!(cloud.get(&path, &admin).await.status, 200);
        slapd.stop();
        slapd.run().await;
        assert_eq!(cloud.get(&path, &admin).await.status, 200);
    }
}

#[tokio::test]
async fn many_entries_come_in_pages() {
    let slapd = Slapd::start().await;
    let mut ldap = slapd.root().await;
    for i in 0..1500 {
        slapd.add_user(&mut ldap, &format!("m{i}"), &format!("many{i:04}"), &[]).await;
    }
    let members: HashSet<String> = (0..40).map(|i| user_dn(&format!("m{i}"))).collect();
    slapd.change("empty", Mod::Replace("member".into(), members)).await;
    for cloud in clouds().await {
        let id = domain(&cloud, "corp", &slapd.config_with(json!({"page_size": 100}))).await;
        let admin = cloud.admin().await;
        let path = format!("/v3/users?domain_id={id}");
        for _ in 0..2 {
            let all = listed(&cloud, &admin, &path, "users").await;
            assert_eq!((all.len(), all[3].as_str()), (1503, "many0000"));
        }
        let mut paged = Vec::new();
        let mut next = format!("{path}&limit=400");
        loop {
            let page = cloud.get(&next, &admin).await.expect(200);
            paged.extend(names(&page, "users"));
            let Some(link) = page["links"]["next"].as_str() else { break };
            next = link[link.find("/v3/").unwrap()..].to_owned();
        }
        assert_eq!((paged.len(), paged.iter().collect::<HashSet<_>>().len()), (1503, 1503));
        listed(&cloud, &admin, &format!("/v3/groups?domain_id={id}"), "groups").await;
        let group = public(&id, "group", "empty");
        assert_eq!(listed(&cloud, &admin, &format!("/v3/groups/{group}/users"), "users").await.len(), 40);
        // Without pages the directory refuses, which is no shorter list.
        let config = json!({"config": {"ldap": {"page_size": 0}}});
        cloud.call("PATCH", &format!("/v3/domains/{id}/config"), &admin, config).await.expect(200);
        let reply = cloud.get(&path, &admin).await;
        assert_eq!(reply.status, 503);
        assert!(reply.message().contains("size limit"), "{}", reply.body);
        assert_eq!(listed(&cloud, &admin, &format!("{path}&name=many1499"), "users").await, ["many1499"]);
        assert_eq!(cloud.auth(named("many1499", "many1499-pw"), Value::Null).await.status, 201);
    }
}

#[tokio::test]
async fn odd_entries() {
    let slapd = Slapd::start().await;
    let mut ldap = slapd.root().await;
    let odd = user_dn("u4");
    slapd.add_user(&mut ldap, "u4", "dee", &[]).await;
    slapd.add_user(&mut ldap, "u5", "eve", &[("audio", "Eve")]).await;
    let bytes = vec![Mod::Add(b"audio".to_vec(), HashSet::from([vec![0xff, 0xfe, 0x00]]))];
    ldap.modify(&odd, bytes).await.unwrap().success().unwrap();
    // No name, or a name that others have, or another kind of entry.
    slapd.add_user(&mut ldap, "u6", "  ", &[]).await;
    slapd.add_user(&mut ldap, "u7", "cy", &[]).await;
    add(&mut ldap, &format!("cn=device,ou=Users,{}", slapd::SUFFIX), &[("objectClass", "device")]).await;
    slapd.add_user(&mut ldap, "u8", &"x".repeat(300), &[]).await;
    // A referral that leads back, and one that leads nowhere.
    for (name, to) in [
        ("loop", format!("{}/ou=Users,{}", slapd.url(), slapd::SUFFIX)),
        ("lost", "ldap://127.0.0.1:1/dc=x".into()),
    ] {
        let dn = format!("cn={name},ou=Users,{}", slapd::SUFFIX);
        let bytes =
            [("objectClass", "referral"), ("objectClass", "extensibleObject"), ("cn", name), ("ref", &to)];
        let mut attributes: Vec<(&str, HashSet<&str>)> = Vec::new();
        for (n, v) in bytes {
            match attributes.iter_mut().find(|(k, _)| *k == n) {
                Some((_, all)) => drop(all.insert(v)),
                None => attributes.push((n, HashSet::from([v]))),
            }
        }
        ldap.with_controls(ldap3::controls::ManageDsaIt)
            .add(&dn, attributes)
            .await
            .unwrap()
            .success()
            .unwrap();
    }
    for cloud in clouds().await {
        for scope in ["one", "sub"] {
            let config =
                slapd.config_with(json!({"query_scope": scope, "user_description_attribute": "audio"}));
            let id = domain(&cloud, &format!("corp-{scope}"), &config).await;
            let admin = cloud.admin().await;
            let users = cloud.get(&format!("/v3/users?domain_id={id}"), &admin).await.expect(200);
            assert_eq!(names(&users, "users"), ["ann", "bob", "cy", "dee", "eve"], "{scope}");
            let shown =
                |id: &str| users["users"].as_array().unwrap().iter().find(|u| u["id"] == id).unwrap().clone();
            assert!(shown(&public(&id, "user", "u4")).get("description").is_none_or(Value::is_null));
            assert_eq!(shown(&public(&id, "user", "u5"))["description"], "Eve");
            let twice = json!({"methods": ["password"], "password": {"user": {"name": "cy", "domain": {"id": id},
                "password": "cy-pw"}}});
            assert_eq!(cloud.auth(twice, Value::Null).await.status, 401, "nobody can say which cy");
        }
        // A base that is elsewhere has nobody in it, and neither has one that is not there.
        for base in ["cn=loop", "ou=nowhere"] {
            let tree = format!("{base},ou=Users,{}", slapd::SUFFIX);
            let config = slapd.config_with(json!({"user_tree_dn": tree, "query_scope": "sub"}));
            let id = domain(&cloud, base, &config).await;
            let admin = cloud.admin().await;
            assert_eq!(
                listed(&cloud, &admin, &format!("/v3/users?domain_id={id}"), "users").await,
                Vec::<String>::new()
            );
        }
    }
}

#[tokio::test]
async fn encrypted_and_by_socket() {
    let slapd = Slapd::start().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(slapd.ca(), dir.path().join("ca.crt")).unwrap();
    std::fs::write(dir.path().join("README"), "no certificate").unwrap();
    let by_name = slapd.url().replace("127.0.0.1", "localhost");
    for cloud in clouds().await {
        for (n, (options, good)) in [
            (json!({"url": slapd.tls_url(), "tls_cacertfile": slapd.ca()}), true),
            (json!({"url": slapd.tls_url(), "tls_cacertdir": dir.path()}), true),
            (json!({"url": slapd.tls_url()}), false),
            (json!({"url": slapd.tls_url(), "tls_req_cert": "never"}), true),
            (json!({"url": slapd.tls_url(), "tls_cacertfile": "/nonexistent"}), false),
            (json!({"use_tls": true, "tls_cacertfile": slapd.ca()}), true),
            (json!({"use_tls": true}), false),
            // The certificate is for an address, not for this name.
            (json!({"use_tls": true, "tls_cacertfile": slapd.ca(), "url": by_name}), false),
            (json!({"url": slapd.socket_url()}), true),
            // The first that answers.
            (json!({"url": format!("ldap://127.0.0.1:1, {}", slapd.url())}), true),
            (json!({"url": "ldap://127.0.0.1:1"}), false),
            (json!({"url": "http://127.0.0.1:1"}), false),
            (json!({"password": "wrong"}), false),
            (json!({"user": null, "password": null}), false),
            (json!({"chase_referrals": true}), false),
            (json!({"user_filter": "((("}), false),
            (json!({"use_pool": false, "alias_dereferencing": "always"}), true),
        ]
        .into_iter()
        .enumerate()
        {
            let id = domain(&cloud, &format!("d{n}"), &slapd.config_with(options.clone())).await;
            let identity = json!({"methods": ["password"], "password": {"user": {"name": "ann", "domain": {"id": id},
                "password": "ann-pw"}}});
            let status = cloud.auth(identity, Value::Null).await.status.as_u16();
            // Who may read nothing finds nobody.
            let anonymous = options.get("user").is_some();
            let bad = if anonymous { 401 } else { 503 };
            assert_eq!(status, if good { 201 } else { bad }, "{options}");
        }
    }
}

#[tokio::test]
async fn ways_to_describe_a_directory() {
    let slapd = Slapd::start().await;
    let mut ldap = slapd.root().await;
    // Who is enabled by bits, by a lock, by a group.
    for (id, name, bits) in [("n1", "normal", "512"), ("n2", "off", "514"), ("n3", "odd", "x")] {
        slapd.add_user(&mut ldap, id, name, &[("departmentNumber", bits)]).await;
    }
    let posix =
        [("objectClass", "posixGroup"), ("gidNumber", "7"), ("memberUid", "u1"), ("description", "by ids")];
    add(&mut ldap, &group_dn("posix"), &posix).await;
    for cloud in clouds().await {
        let admin = cloud.admin().await;
        let enabled = async |name: &str, options: Value| {
            let id = domain(&cloud, name, &slapd.config_with(options)).await;
            listed(&cloud, &admin, &format!("/v3/users?domain_id={id}&enabled=true"), "users").await
        };
        let all = ["ann", "bob", "cy", "normal", "odd", "off"];
        let mask = json!({"user_enabled_attribute": "departmentNumber", "user_enabled_mask": 2, "user_enabled_default": 512});
        assert_eq!(enabled("mask", mask).await, ["ann", "bob", "cy", "normal"]);
        let lock = json!({"user_enabled_invert": true, "user_enabled_default": "False"});
        assert_eq!(enabled("lock", lock).await, ["bob", "normal", "odd", "off"]);
        let group = json!({"user_enabled_emulation": true, "user_enabled_emulation_dn": group_dn("staff")});
        assert_eq!(enabled("group", group).await, ["ann", "cy"]);
        let ids = json!({"user_enabled_emulation": true, "user_enabled_emulation_dn": group_dn("posix"),
            "user_enabled_emulation_use_group_config": true, "group_member_attribute": "memberUid",
            "group_members_are_ids": true});
        assert_eq!(enabled("ids", ids).await, ["ann"]);
        assert_eq!(enabled("ignored", json!({"user_attribute_ignore": "enabled"})).await, all);
        assert_eq!(enabled("filter", json!({"user_filter": "(uid=n*)"})).await, ["normal", "odd", "off"]);
        // Groups of ids.
        let id = domain(&cloud, "posix", &slapd.config_with(json!({"group_objectclass": "posixGroup",
            "group_member_attribute": "memberUid", "group_members_are_ids": true,
            "user_additional_attribute_mapping": "mail:address,employeeType:kind", "user_attribute_ignore": "email",
            "group_additional_attribute_mapping": "gidNumber:gid"}))).await;
        let groups = cloud.get(&format!("/v3/groups?domain_id={id}"), &admin).await.expect(200);
        let group = &groups["groups"][0];
        assert_eq!(
            (&group["name"], &group["gid"], &group["description"]),
            (&json!("posix"), &json!("7"), &json!("by ids"))
        );
        let path = format!("/v3/groups/{}/users", public(&id, "group", "posix"));
        let users = cloud.get(&path, &admin).await.expect(200);
        let user = &users["users"][0];
        assert_eq!(
            (&user["name"], &user["address"], &user["kind"]),
            (&json!("ann"), &json!("u1@corp.example"), &json!("TRUE"))
        );
        assert!(user.get("email").is_none());
    }
}

#[tokio::test]
async fn the_configuration_of_a_domain() {
    let slapd = Slapd::start().await;
    for (cloud, other) in Cloud::pairs(|c| c).await {
        let id = domain(&cloud, "corp", &slapd.config()).await;
        let admin = cloud.admin().await;
        let at = |rest: &str| format!("/v3/domains/{id}/config{rest}");
        let call =
            async |method: &str, rest: &str, body: Value| cloud.call(method, &at(rest), &admin, body).await;
        // The password is set and shown to nobody.
        for body in [
            call("GET", "", Value::Null).await.expect(200),
            call("GET", "/ldap", Value::Null).await.expect(200),
            call("PATCH", "", json!({"config": {"ldap": {"page_size": 7}}})).await.expect(200),
            call("PATCH", "/ldap/password", json!({"config": {"password": slapd::READERS_PASSWORD}}))
                .await
                .expect(200),
            call("PUT", "", json!({"config": slapd.config()})).await.expect(200),
        ] {
            assert!(!body.to_string().contains(slapd::READERS_PASSWORD), "{body}");
            assert_eq!(body["config"]["ldap"]["url"], slapd.url());
            assert!(body["config"]["ldap"].get("password").is_none());
        }
        assert_eq!(call("GET", "/ldap/password", Value::Null).await.status, 404);
        assert_eq!(
            cloud.auth(named("ann", "ann-pw"), Value::Null).await.status,
            201,
            "it is there all the same"
        );
        // What upstream does not take.
        for (method, rest, body, status) in [
            ("PUT", "", json!({"config": {}}), 403),
            ("PUT", "", json!({"config": {"ldap": {}}}), 403),
            ("PUT", "", json!({"config": {"ldap": {"nonsense": 1}}}), 403),
            ("PUT", "", json!({"config": {"token": {"expiration": 1}}}), 403),
            ("PATCH", "/ldap", json!({"config": {"identity": {"driver": "sql"}}}), 403),
            ("PATCH", "/ldap/url", json!({"config": {"user": "x"}}), 403),
            ("PATCH", "/ldap/url", json!({"config": {"url": "x", "user": "y"}}), 403),
            ("PATCH", "/ldap/page_size", json!({"config": {"page_size": 7}}), 404),
            ("PATCH", "/token", json!({"config": {"token": {"x": 1}}}), 403),
            ("GET", "/ldap/nonsense", Value::Null, 403),
            ("GET", "/token", Value::Null, 403),
            ("GET", "/ldap/page_size", Value::Null, 404),
            ("DELETE", "/ldap/page_size", Value::Null, 404),
            ("DELETE", "/token", Value::Null, 403),
        ] {
            let reply = call(method, rest, body).await;
            assert_eq!(reply.status, status, "{method} {rest}: {}", reply.body);
        }
        let (_, _) = cloud.tenant("here", &["admin"]).await;
        let defaults = cloud.get("/v3/domains/config/default", &admin).await.expect(200);
        assert_eq!(defaults["config"]["ldap"]["user_id_attribute"], "cn");
        assert!(defaults["config"]["ldap"].get("password").is_none());
        assert_eq!(cloud.get("/v3/domains/config/ldap/password/default", &admin).await.status, 403);
        let one = cloud.get("/v3/domains/config/ldap/query_scope/default", &admin).await.expect(200);
        assert_eq!(one["config"], json!({"query_scope": "one"}));

        // Another process follows: the domain has its own users again, and those of the directory are gone.
        let of_ann = async |on: &Cloud| on.auth(named("ann", "ann-pw"), Value::Null).await.status.as_u16();
        let own = token(&cloud.auth(named("ann", "ann-pw"), Value::Null).await);
        let ann = public(&id, "user", "u1");
        let member = cloud.role("member").await;
        let grant = format!("/v3/domains/{id}/users/{ann}/roles/{member}");
        cloud.call("PUT", &grant, &admin, Value::Null).await.expect(204);
        assert_eq!(of_ann(&other).await, 201);
        call("DELETE", "/identity", Value::Null).await.expect(204);
        assert_eq!(
            (of_ann(&cloud).await, cloud.token("HEAD", &admin, &own).await.status.as_u16()),
            (401, 404)
        );
        soon("elsewhere too", async || {
            of_ann(&other).await == 401 && other.token("HEAD", &admin, &own).await.status == 404
        })
        .await;
        assert_eq!(
            listed(&cloud, &admin, &format!("/v3/users?domain_id={id}"), "users").await,
            Vec::<String>::new()
        );
        let made = json!({"user": {"name": "ann", "domain_id": id, "password": "local-pw"}});
        cloud.call("POST", "/v3/users", &admin, made).await.expect(201);
        assert_eq!(cloud.auth(named("ann", "local-pw"), Value::Null).await.status, 201);
        // And back: they have their ids and roles again, and the names that were given away meanwhile are the directory's.
        call("PATCH", "", json!({"config": {"identity": {"driver": "ldap"}}})).await.expect(200);
        assert_eq!(cloud.auth(named("ann", "local-pw"), Value::Null).await.status, 401);
        let scope = json!({"domain": {"id": id}});
        let reply = cloud.auth(named("ann", "ann-pw"), scope).await;
        assert_eq!((reply.status.as_u16(), &reply.body["token"]["user"]["id"]), (201, &json!(ann)));
        soon("there too", async || of_ann(&other).await == 201).await;
        call("DELETE", "", Value::Null).await.expect(204);
        assert_eq!(call("GET", "", Value::Null).await.status, 404);
    }
}
