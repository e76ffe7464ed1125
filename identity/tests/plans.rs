//! What PostgreSQL does for the requests that are made often, among a hundred thousand of everything: it looks rows up
//! and never reads a table through. The server itself says so, by its module `auto_explain`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api::TokenValidator;
use common::{Cloud, by_password, on_project};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor};
use state::Db;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::MakeWriter;

/// Rows that a look-up may read in vain.
const IN_VAIN: u64 = 2_000;
const LARGE: [&str; 13] = [
    "identity_expiring_members",
    "identity_federated_users",
    "identity_users",
    "identity_projects",
    "identity_groups",
    "identity_members",
    "identity_assignments",
    "identity_credentials",
    "identity_app_credentials",
    "identity_trusts",
    "identity_revoked",
    "identity_limits",
    "identity_id_mappings",
];

#[derive(Clone, Default)]
struct Plans(Arc<Mutex<Vec<u8>>>);

impl Plans {
    /// The plans since the last time.
    fn take(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        text.split("Query Text:").skip(1).map(str::to_owned).collect()
    }

    /// As [`Plans::take`], once there are some. The server says them behind the answer: a connection may read them only
    /// on its way back to the pool.
    async fn of(&self, what: &str) -> Vec<String> {
        let asked = Instant::now();
        loop {
            match self.take() {
                seen if !seen.is_empty() => return seen,
                _ => assert!(asked.elapsed() < Duration::from_secs(10), "{what}: nothing was asked"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Write for Plans {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Plans {
    type Writer = Plans;
    fn make_writer(&'a self) -> Plans {
        self.clone()
    }
}

/// Why a plan is a bad one.
fn fault(plan: &str) -> Option<String> {
    let scanned = LARGE.iter().find(|t| {
        plan.contains(&format!("Seq Scan on {t} ")) || plan.contains(&format!("Seq Scan on public.{t} "))
    });
    if let Some(table) = scanned {
        return Some(format!("{table} is read through"));
    }
    let removed = plan.lines().filter_map(|l| l.split_once("Rows Removed by Filter: "));
    let most = removed.filter_map(|(_, n)| n.trim().parse::<u64>().ok()).max().unwrap_or_default();
    (most > IN_VAIN).then(|| format!("{most} rows are read in vain"))
}

async fn fill(pg: &mut sqlx::PgConnection) {
    let many = "FROM generate_series(1, 100000) n";
    for sql in [
        "INSERT INTO identity_projects (id, domain_id, parent_id, name, description, enabled, is_domain, options, \
             tags, extra) SELECT 'x' || n, '', NULL, 'domain' || n, '', TRUE, TRUE, '{}', '[]', '{}' \
             FROM generate_series(1, 100) n"
            .to_owned(),
        format!(
            "INSERT INTO identity_projects (id, domain_id, parent_id, name, description, enabled, is_domain, options, \
             tags, extra) SELECT 'p' || n, 'x' || n % 100 + 1, 'x' || n % 100 + 1, 'project' || n, '', TRUE, FALSE, \
             '{{}}', '[]', '{{}}' {many}"
        ),
        format!(
            "INSERT INTO identity_users (id, domain_id, name, enabled, options, extra) \
             SELECT 'u' || n, 'x' || n % 100 + 1, 'user' || n, TRUE, '{{}}', '{{}}' {many}"
        ),
        format!(
            "INSERT INTO identity_groups (id, domain_id, name, description, extra) \
             SELECT 'g' || n, 'x' || n % 100 + 1, 'group' || n, '', '{{}}' {many}"
        ),
        format!("INSERT INTO identity_members (group_id, user_id) SELECT 'g' || n / 10 + 1, 'u' || n {many}"),
        format!(
            "INSERT INTO identity_assignments SELECT 'user', 'u' || n, 'project', 'p' || n, \
             (SELECT id FROM identity_roles WHERE name = 'member'), FALSE {many}"
        ),
        format!(
            "INSERT INTO identity_assignments SELECT 'group', 'g' || n, 'project', 'p' || n, \
             (SELECT id FROM identity_roles WHERE name = 'reader'), FALSE {many}"
        ),
        format!(
            "INSERT INTO identity_credentials (id, user_id, project_id, type, blob, access_hash, extra) \
             SELECT 'c' || n, 'u' || n, 'p' || n, 'cert', '', 'a' || n, '{{}}' {many}"
        ),
        format!(
            "INSERT INTO identity_app_credentials (id, user_id, project_id, name, unrestricted, roles, extra) \
             SELECT 'a' || n, 'u' || n, 'p' || n, 'robot', FALSE, '[]', '{{}}' {many}"
        ),
        format!(
            "INSERT INTO identity_trusts (id, trustor_user_id, trustee_user_id, project_id, impersonation, \
             redelegation_count, roles, extra) \
             SELECT 't' || n, 'u' || n, 'u' || n + 1, 'p' || n, FALSE, 0, '[]', '{{}}' {many}"
        ),
        format!("INSERT INTO identity_revoked SELECT 'r' || n, 'token', 1, 4000000000000000 {many}"),
        format!(
            "INSERT INTO identity_limits (id, project_id, domain_id, service_id, region_id, resource_name, \
             resource_limit, extra) SELECT 'l' || n, 'p' || n, '', 's', '', 'r', 1, '{{}}' {many}"
        ),
        format!(
            "INSERT INTO identity_id_mappings SELECT 'm' || n, 'x' || n % 100 + 1, 'x' || n, 'user' {many}"
        ),
        format!(
            "INSERT INTO identity_expiring_members (user_id, group_id, idp_id, verified_at, expires_at) \
             SELECT 'u' || n, 'g' || n, 'idp', 0, 4000000000000000 {many}"
        ),
        format!("INSERT INTO identity_federated_users SELECT 'idp', 'openid', 'x' || n, 'u' || n {many}"),
        "ANALYZE".to_owned(),
    ] {
        pg.execute(AssertSqlSafe(sql.clone())).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
}

#[tokio::test]
async fn nothing_is_read_through() {
    if std::env::var_os("AQUIFER_TEST_PG").is_none() {
        return;
    }
    let url = testbed::database_url().await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let first = Cloud::start(Db::open(&url).await.unwrap(), dir.clone(), |c| c).await;
    let _ = first.tenant("ann", &["member"]).await;
    let token = first.tenant_token("ann").await;
    let mut pg = sqlx::PgConnection::connect(&url).await.unwrap();
    fill(&mut pg).await;
    let name = url.rsplit_once('/').unwrap().1.to_owned();
    for (option, value) in [
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_level", "notice"),
    ] {
        // Known once the module is there.
        pg.execute("LOAD 'auto_explain'").await.unwrap();
        pg.execute(AssertSqlSafe(format!("ALTER DATABASE {name} SET {option} = '{value}'"))).await.unwrap();
    }
    let plans = Plans::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(plans.clone())
        .with_ansi(false)
        .with_env_filter("sqlx::postgres::notice=trace")
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    // A process that remembers nothing.
    let cloud = Cloud::start(Db::open(&url).await.unwrap(), dir, |c| c).await;
    let admin = cloud.admin().await;
    plans.take();

    let mut bad = Vec::new();
    let mut judge = async |what: &str| {
        let seen = plans.of(what).await;
        bad.extend(seen.iter().filter_map(|p| fault(p).map(|f| format!("{what}: {f}\n{p}"))));
    };
    cloud.identity.validate(&token).await.unwrap();
    judge("validate").await;
    for scope in [Value::Null, on_project("ann-p")] {
        assert_eq!(cloud.auth(by_password("ann", "pw"), scope).await.status, 201);
        judge("login").await;
    }
    assert_eq!(cloud.auth(by_password("nobody", "pw"), Value::Null).await.status, 401);
    judge("login of nobody").await;
    for path in [
        "/v3/users?name=user7",
        "/v3/users?name=user7&domain_id=x8",
        "/v3/users?domain_id=x8&limit=10",
        "/v3/users?limit=10",
        "/v3/users/u7",
        "/v3/users/u7/groups",
        "/v3/users/u7/projects",
        "/v3/groups?name=group7",
        "/v3/groups?domain_id=x8&limit=10",
        "/v3/groups/g7/users",
        "/v3/projects?name=project7",
        "/v3/projects?domain_id=x8&name=project7",
        "/v3/projects?domain_id=x8&limit=10",
        "/v3/projects?parent_id=p7",
        "/v3/projects/p7?subtree_as_list&parents_as_list",
        "/v3/domains?name=domain7",
        "/v3/domains?limit=10",
        "/v3/role_assignments?user.id=u7",
        "/v3/role_assignments?group.id=g7",
        "/v3/role_assignments?user.id=u7&effective&include_names",
        "/v3/role_assignments?scope.project.id=p7&effective",
        "/v3/role_assignments?scope.project.id=p7&include_subtree",
        "/v3/role_assignments?scope.domain.id=x8",
        "/v3/projects/p7/users/u7/roles",
        "/v3/credentials?user_id=u7&type=totp",
        "/v3/users/u7/credentials/OS-EC2",
        "/v3/users/u7/application_credentials",
        "/v3/OS-TRUST/trusts?trustor_user_id=u7",
        "/v3/OS-TRUST/trusts?trustee_user_id=u7",
        "/v3/limits?project_id=p7",
        "/v3/auth/projects",
        "/v3/auth/domains",
    ] {
        let reply = cloud.get(path, &admin).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        judge(path).await;
    }
    for (method, path, body) in [
        ("PATCH", "/v3/users/u9", json!({"user": {"enabled": false}})),
        ("DELETE", "/v3/users/u9", Value::Null),
        ("DELETE", "/v3/groups/g9", Value::Null),
        ("PATCH", "/v3/projects/p9", json!({"project": {"enabled": false}})),
        ("DELETE", "/v3/projects/p9", Value::Null),
        ("POST", "/v3/users", json!({"user": {"name": "new", "password": "pw"}})),
        ("POST", "/v3/projects", json!({"project": {"name": "new"}})),
    ] {
        let reply = cloud.call(method, path, &admin, body).await;
        assert!(reply.status.is_success(), "{method} {path}: {}", reply.body);
        judge(&format!("{method} {path}")).await;
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
