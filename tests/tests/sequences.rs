//! What programs of the field do to a cloud, call by call: cinder-csi-plugin, Terraform's OpenStack provider (both
//! through gophercloud) and openstacksdk's cloud layer. One cloud serves them all at once, as it would in a company.
//!
//! The first two are written after what gophercloud sends and accepts: paths, headers, microversions, bodies, and the
//! status codes that are no error to it. The third is the real library, by `sequences/sdk.py`.

#![allow(clippy::unwrap_used, clippy::print_stderr, unreachable_pub)]

mod cloud;
#[path = "sequences/csi.rs"]
mod csi;
#[path = "sequences/gopher.rs"]
mod gopher;
#[path = "sequences/terraform/mod.rs"]
mod terraform;

use cloud::Cloud;
use gopher::{Era, Gopher};
use serde_json::json;
use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_the_field_find_what_they_expect() {
    // Images come from the web by the cloud's own object store, so the operator lets imports fetch from this machine.
    let settings = tempfile::NamedTempFile::new().unwrap();
    let filter = "[image.import_filter]\nallowed_ports = []\nallowed_networks = [\"127.0.0.0/8\"]\n";
    std::fs::write(settings.path(), filter).unwrap();
    let mut cloud = Cloud::up_with(&["--config", settings.path().to_str().unwrap()]);
    let admin = Gopher::login(&cloud, "admin", "admin", Era::V1).await;
    project_for_csi(&admin).await;
    let csi = Gopher::login(&cloud, "demo", "csi", Era::V2).await;
    let demo = Gopher::login(&cloud, "demo", "demo", Era::V1).await;
    let servers = tokio::join!(node(&csi, "node"), node(&demo, "sdk"), node(&admin, "terraform"));
    let (for_csi, for_sdk, for_terraform) = &servers;
    tokio::join!(
        csi::sequence(&cloud, &csi, for_csi),
        sdk(&cloud, for_sdk),
        terraform::sequence(&cloud, &admin, for_terraform),
    );
    for (who, server) in [(&csi, for_csi), (&demo, for_sdk), (&admin, for_terraform)] {
        who.compute().call("DELETE", &format!("servers/{server}"), None, 204).await;
        who.compute().until_gone(&format!("servers/{server}")).await;
        assert_eq!(who.block().get("volumes/detail").await["volumes"], json!([]), "volumes are left");
        assert_eq!(who.block().get("snapshots/detail").await["snapshots"], json!([]), "snapshots are left");
    }
    assert!(cloud.stop().success(), "{}", cloud.output());
}

/// A project of its own in which `demo` may work, so that its listings are its own.
async fn project_for_csi(admin: &Gopher) {
    let identity = admin.identity();
    let body = json!({"project": {"name": "csi", "domain_id": "default"}});
    let project = identity.call("POST", "projects", Some(body), 201).await["project"]["id"].clone();
    let user = identity.get("users?name=demo").await["users"][0]["id"].clone();
    let role = identity.get("roles?name=member").await["roles"][0]["id"].clone();
    let [project, user, role] = [&project, &user, &role].map(|v| v.as_str().unwrap());
    let path = format!("projects/{project}/users/{user}/roles/{role}");
    identity.call("PUT", &path, None, 204).await;
}

/// A server that volumes can be attached to.
async fn node(demo: &Gopher, name: &str) -> String {
    let image = demo.image().get("images").await["images"][0]["id"].clone();
    let server = json!({"name": name, "imageRef": image, "flavorRef": "1", "networks": "none"});
    let compute = demo.compute_at("2.37");
    let made = compute.call("POST", "servers", Some(json!({"server": server})), 202).await;
    let id = made["server"]["id"].as_str().unwrap().to_owned();
    compute.until(&format!("servers/{id}"), "/server/status", "ACTIVE").await;
    id
}

/// openstacksdk, unmodified.
async fn sdk(cloud: &Cloud, server: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../.clients/bin/python");
    let out = tokio::process::Command::new(python)
        .arg(root.join("tests/sequences/sdk.py"))
        .arg(cloud.path("test-image.qcow2"))
        .arg(server)
        .env("OS_CLIENT_CONFIG_FILE", cloud.path("clouds.yaml"))
        .output()
        .await
        .unwrap();
    let (told, why) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{told}\n{why}");
}
