//! `aquifer serve`: the same program over engines that somebody else runs, with rows in PostgreSQL, the roles
//! spread over three processes, and a host agent that was registered by hand.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod cloud;

use cloud::{Program, Session};
use engines::{Endpoints, Engines, EnginesConfig, Silent};
use serde_json::{Value, json};
use std::path::Path;

const TIERS: [&str; 5] = ["images", "volumes", "vms", "objects", "objects.index"];

#[tokio::test(flavor = "multi_thread")]
async fn roles_serve_from_several_processes_over_existing_engines() {
    let dir = tempfile::Builder::new().prefix("aquifer-serve-").tempdir().unwrap();
    let wanted = EnginesConfig { osd_size: Some(20 << 30), ..EnginesConfig::default() };
    let running = Engines::up(&dir.path().join("engines"), &wanted, &Silent).await.unwrap();
    let outcome = tokio::spawn(walk(dir.path().to_owned(), running.endpoints().clone())).await;
    running.stop().await.unwrap();
    outcome.unwrap();
}

async fn walk(dir: std::path::PathBuf, engines: Endpoints) {
    let database = testbed::database_url().await;
    std::fs::write(dir.join("password"), "secret-of-the-test\n").unwrap();
    let ports = [cloud::free_port(), cloud::free_port(), cloud::free_port()];
    let config = |node: &str, api: u16, s3: u16| {
        let file = dir.join(format!("{node}.toml"));
        std::fs::write(&file, configuration(&dir, &engines, &database, node, api, s3, ports[0])).unwrap();
        file
    };
    let (first, second) = (config("first", ports[0], ports[2]), config("second", ports[1], ports[2]));
    let roles = "api,image,volume,network,compute";
    let _first = Program::serve(&first, roles, ports[0]).await;
    let _second = Program::serve(&second, "object", ports[1]).await;
    let secret = cloud::run(&["register-host", "--config", first.to_str().unwrap(), &engines.chassis]);
    std::fs::write(dir.join("agent.secret"), secret).unwrap();
    let _agent = Program::agent(&first);

    let base = format!("http://127.0.0.1:{}", ports[0]);
    let admin = Session::login(&base, "admin", "secret-of-the-test").await;
    boots_a_server(&admin, engines.test_image.as_deref().unwrap()).await;
    let objects = format!("http://127.0.0.1:{}/v1/AUTH_{}", ports[1], admin.project().await);
    admin.put(&format!("{objects}/box"), b"").await;
    admin.put(&format!("{objects}/box/thing"), b"content").await;
    assert_eq!(admin.bytes(&format!("{objects}/box/thing")).await, b"content");
}

async fn boots_a_server(admin: &Session, image_file: &Path) {
    let body = json!({"name": "i", "disk_format": "qcow2", "container_format": "bare"});
    let image = id(&admin.ok("POST", "/image/v2/images", Some(body)).await);
    let bytes = std::fs::read(image_file).unwrap();
    admin.put(&admin.url(&format!("/image/v2/images/{image}/file")), &bytes).await;
    admin.until(&format!("/image/v2/images/{image}"), "/status", "active").await;
    let network = admin.ok("POST", "/network/v2.0/networks", Some(json!({"network": {"name": "n"}}))).await;
    let network = id(&network["network"]);
    let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.33.0.0/24"}});
    admin.ok("POST", "/network/v2.0/subnets", Some(subnet)).await;
    let server = json!({"server": {"name": "s", "imageRef": image, "flavorRef": "1", "networks": [{"uuid": network}]}});
    let server = id(&admin.ok("POST", "/compute/v2.1/servers", Some(server)).await["server"]);
    let path = format!("/compute/v2.1/servers/{server}");
    admin.until(&path, "/server/status", "ACTIVE").await;
    admin.ok("DELETE", &path, None).await;
    admin.until_gone(&path).await;
}

fn id(of: &Value) -> String {
    of["id"].as_str().unwrap().to_owned()
}

fn configuration(
    dir: &Path,
    engines: &Endpoints,
    database: &str,
    node: &str,
    api: u16,
    s3: u16,
    public: u16,
) -> String {
    let (conf, keyring, user) =
        (engines.ceph_conf.display(), engines.ceph_keyring.display(), &engines.ceph_user);
    let tiers: String = TIERS
        .iter()
        .map(|t| format!("[[tier]]\nname = \"{t}\"\ncluster = \"main\"\npool = \"{t}\"\n"))
        .collect();
    let d = dir.display();
    format!(
        r#"
node = "{node}"
database = "{database}"
[listen]
api = "127.0.0.1:{api}"
s3 = "127.0.0.1:{s3}"
public_url = "http://127.0.0.1:{public}"
[[cluster]]
name = "main"
conf = "{conf}"
user = "{user}"
keyring = "{keyring}"
{tiers}
[bootstrap]
admin_password_file = "{d}/password"
[identity]
token_keys = "{d}/token-keys"
credential_keys = "{d}/credential-keys"
password_hash_rounds = 4
[network]
ovn_nb = "unix:{nb}"
ovn_sb = "unix:{sb}"
[agent]
controller = "http://127.0.0.1:{public}"
host = "{host}"
secret_file = "{d}/agent.secret"
libvirt_uri = "{libvirt}"
state_dir = "{d}/agent"
ovs = "unix:{ovs}"
network_namespace = "{netns}"
[[agent.ceph]]
name = "main"
conf = "{conf}"
user = "{user}"
keyring = "{keyring}"
"#,
        nb = engines.nb_socket.display(),
        sb = engines.sb_socket.display(),
        host = engines.chassis,
        libvirt = engines.libvirt_uri,
        ovs = engines.ovs_socket.display(),
        netns = engines.netns,
    )
}
