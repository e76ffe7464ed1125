//! Debian's slapd, one for each test that wants one, on free ports with a folder of its own, and short ways to talk of
//! its users.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use crate::common::{Cloud, Reply};
use identity::Config;
use ldap3::{Ldap, LdapConnAsync, Mod, SearchEntry};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fmt::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const SUFFIX: &str = "dc=corp,dc=example";
pub const ROOT: &str = "cn=root,dc=corp,dc=example";
pub const READER: &str = "cn=reader,dc=corp,dc=example";
pub const READERS_PASSWORD: &str = "re%ad(er";

pub struct Slapd {
    pub dir: tempfile::TempDir,
    pub port: u16,
    pub tls_port: u16,
    child: Option<Child>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Slapd {
    /// With the users ann (u1, password `ann-pw`), bob (u2, disabled) and cy (u3), and the groups staff (ann and cy) and
    /// empty. Whoever searches may have 500 entries at a time.
    pub async fn start() -> Slapd {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("db")).unwrap();
        // A profile of AppArmor is bound to the path, and would keep it out of this folder.
        std::fs::copy("/usr/sbin/slapd", dir.path().join("slapd")).expect("Debian's package slapd");
        crate::common::certificates(dir.path());
        let at = dir.path().display();
        let mut conf = String::new();
        for schema in ["core", "cosine", "inetorgperson", "nis"] {
            writeln!(conf, "include /etc/ldap/schema/{schema}.schema").unwrap();
        }
        // Binding with a name and no password succeeds, as it does in many a directory.
        write!(
            conf,
            "modulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {at}/pid\nargsfile {at}/args\n\
             allow bind_anon_cred bind_anon_dn\nsizelimit size=500 size.prtotal=unlimited\n\
             TLSCACertificateFile {at}/ca.pem\nTLSCertificateFile {at}/cert.pem\nTLSCertificateKeyFile {at}/key.pem\n\
             database mdb\nsuffix {SUFFIX}\nrootdn {ROOT}\nrootpw root\ndirectory {at}/db\nmaxsize 268435456\n\
             dbnosync\nindex objectClass,uid,cn eq\n\
             access to attrs=userPassword by anonymous auth by * none\naccess to * by users read by * none\n"
        )
        .unwrap();
        std::fs::write(dir.path().join("slapd.conf"), conf).unwrap();
        let mut slapd = Slapd { dir, port: free_port(), tls_port: free_port(), child: None };
        slapd.run().await;
        slapd.fill().await;
        slapd
    }

    pub async fn run(&mut self) {
        let listen = format!(
            "ldap://127.0.0.1:{} ldaps://127.0.0.1:{} {}",
            self.port,
            self.tls_port,
            self.socket_url()
        );
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let child = Command::new(self.dir.path().join("slapd"))
            .args(["-d", "0", "-h", &listen, "-f"])
            .arg(self.dir.path().join("slapd.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let up = async {
            while LdapConnAsync::new(&self.url()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let up = tokio::time::timeout(Duration::from_secs(20), up).await;
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
        up.unwrap_or_else(|_| panic!("slapd does not listen: {log}"));
    }

    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    pub fn tls_url(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.tls_port)
    }

    pub fn socket_url(&self) -> String {
        let path = self.dir.path().join("socket");
        format!("ldapi://{}", path.to_str().unwrap().replace('/', "%2F"))
    }

    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// It goes on listening and answers nothing.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub async fn root(&self) -> Ldap {
        let (connection, mut ldap) = LdapConnAsync::new(&self.url()).await.unwrap();
        tokio::spawn(connection.drive());
        ldap.simple_bind(ROOT, "root").await.unwrap().success().unwrap();
        ldap
    }

    async fn fill(&self) {
        let mut ldap = self.root().await;
        add(&mut ldap, SUFFIX, &[("objectClass", "domain"), ("dc", "corp")]).await;
        for ou in ["Users", "UserGroups", "Others"] {
            let dn = format!("ou={ou},{SUFFIX}");
            add(&mut ldap, &dn, &[("objectClass", "organizationalUnit"), ("ou", ou)]).await;
        }
        let reader = [("objectClass", "person"), ("sn", "reader"), ("userPassword", READERS_PASSWORD)];
        add(&mut ldap, READER, &reader).await;
        for (id, name, enabled) in [("u1", "ann", "TRUE"), ("u2", "bob", "FALSE"), ("u3", "cy", "TRUE")] {
            self.add_user(&mut ldap, id, name, &[("employeeType", enabled)]).await;
        }
        for (name, member) in [("staff", "u1"), ("empty", "nobody")] {
            let member = user_dn(member);
            add(&mut ldap, &group_dn(name), &[("objectClass", "groupOfNames"), ("member", &member)]).await;
        }
        self.change("staff", Mod::Add("member".to_owned(), HashSet::from([user_dn("u3")]))).await;
    }

    /// The password is `NAME-pw`.
    pub async fn add_user(&self, ldap: &mut Ldap, id: &str, name: &str, more: &[(&str, &str)]) {
        let (mail, password) = (format!("{id}@corp.example"), format!("{name}-pw"));
        let mut attributes = vec![
            ("objectClass", "inetOrgPerson"),
            ("cn", name),
            ("sn", name),
            ("mail", mail.as_str()),
            ("userPassword", password.as_str()),
        ];
        attributes.extend_from_slice(more);
        add(ldap, &user_dn(id), &attributes).await;
    }

    /// Changes a group.
    pub async fn change(&self, group: &str, change: Mod<String>) {
        self.modify(&group_dn(group), change).await;
    }

    pub async fn set(&self, id: &str, attribute: &str, value: &str) {
        let values = HashSet::from([value.to_owned()]);
        self.modify(&user_dn(id), Mod::Replace(attribute.to_owned(), values)).await;
    }

    pub async fn modify(&self, dn: &str, change: Mod<String>) {
        self.root().await.modify(dn, vec![change]).await.unwrap().success().unwrap();
    }

    pub async fn remove(&self, dn: &str) {
        self.root().await.delete(dn).await.unwrap().success().unwrap();
    }

    pub async fn entry(&self, dn: &str) -> SearchEntry {
        let found = self.root().await.search(dn, ldap3::Scope::Base, "(objectClass=*)", vec!["*"]).await;
        SearchEntry::construct(found.unwrap().success().unwrap().0.remove(0))
    }

    /// A domain's configuration that leads here.
    pub fn config(&self) -> Value {
        json!({"identity": {"driver": "ldap"}, "ldap": {
            "url": self.url(), "user": READER, "password": READERS_PASSWORD, "suffix": SUFFIX,
            "user_id_attribute": "uid", "user_name_attribute": "cn", "user_enabled_attribute": "employeeType",
            "group_name_attribute": "cn", "connection_timeout": 1}})
    }

    pub fn config_with(&self, more: Value) -> Value {
        let mut config = self.config();
        let ldap = config["ldap"].as_object_mut().unwrap();
        ldap.extend(more.as_object().unwrap().clone());
        config
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.stop();
        }
    }
}

pub fn user_dn(id: &str) -> String {
    format!("uid={id},ou=Users,{SUFFIX}")
}

pub fn group_dn(name: &str) -> String {
    format!("cn={name},ou=UserGroups,{SUFFIX}")
}

pub async fn add(ldap: &mut Ldap, dn: &str, attributes: &[(&str, &str)]) {
    let bytes: Vec<(&str, &[u8])> = attributes.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
    add_bytes(ldap, dn, &bytes).await;
}

pub async fn add_bytes(ldap: &mut Ldap, dn: &str, attributes: &[(&str, &[u8])]) {
    let one = |(n, v): &(&str, &[u8])| (n.as_bytes().to_vec(), HashSet::from([v.to_vec()]));
    ldap.add(dn, attributes.iter().map(one).collect()).await.unwrap().success().unwrap();
}

/// What was read is believed for a second.
pub fn short(config: Config) -> Config {
    Config { directory_age_seconds: 1, ..config }
}

/// A domain with this configuration: its id.
pub async fn domain(cloud: &Cloud, name: &str, config: &Value) -> String {
    let admin = cloud.admin().await;
    let made = cloud.call("POST", "/v3/domains", &admin, json!({"domain": {"name": name}})).await.expect(201);
    let id = made["domain"]["id"].as_str().unwrap().to_owned();
    cloud
        .call("PUT", &format!("/v3/domains/{id}/config"), &admin, json!({"config": config}))
        .await
        .expect(201);
    id
}

pub fn named(name: &str, password: &str) -> Value {
    json!({"methods": ["password"],
        "password": {"user": {"name": name, "domain": {"name": "corp"}, "password": password}}})
}

pub fn by_id(id: &str, password: &str) -> Value {
    json!({"methods": ["password"], "password": {"user": {"id": id, "password": password}}})
}

pub fn token(reply: &Reply) -> String {
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.headers["x-subject-token"].to_str().unwrap().to_owned()
}

pub fn public(domain: &str, kind: &str, local: &str) -> String {
    hex::encode(Sha256::new().chain_update(domain).chain_update(kind).chain_update(local).finalize())
}

pub fn names(list: &Value, of: &str) -> Vec<String> {
    let mut all: Vec<String> =
        list[of].as_array().unwrap().iter().map(|u| u["name"].as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

pub async fn listed(cloud: &Cloud, admin: &str, path: &str, of: &str) -> Vec<String> {
    names(&cloud.get(path, admin).await.expect(200), of)
}

/// Waits for what must come true within the age that is believed, and the look at the epoch.
pub async fn soon(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let all = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_millis(2500), all).await.unwrap_or_else(|_| panic!("{what}"));
}
