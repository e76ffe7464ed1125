//! What `up` leaves for clients: `clouds.yaml` and `s3.env`, readable by their owner alone.

use crate::error::AquiferError;
use crate::secrets::{Secrets, write_private};
use std::path::Path;

/// Writes both; `url` is the API's address as clients see it, `s3_url` that of S3.
pub(super) fn write(
    dir: &Path,
    secrets: &Secrets,
    region: &str,
    url: &str,
    s3_url: &str,
) -> Result<(), AquiferError> {
    let cloud = |name: &str, user: &str, password: &str, project: &str| {
        format!(
            "  {name}:\n    auth:\n      auth_url: {url}/identity/v3\n      username: {user}\n      password: {password}\n      \
             project_name: {project}\n      user_domain_id: default\n      project_domain_id: default\n    \
             region_name: {region}\n    identity_api_version: \"3\"\n"
        )
    };
    let clouds = format!(
        "clouds:\n{}{}",
        cloud("aquifer", "demo", &secrets.demo_password, "demo"),
        cloud("aquifer-admin", "admin", &secrets.admin_password, "admin")
    );
    write_private(&dir.join("clouds.yaml"), &clouds)?;
    let s3 = format!(
        "AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}\nAWS_ENDPOINT_URL={s3_url}\n",
        secrets.s3_access_key, secrets.s3_secret_key
    );
    write_private(&dir.join("s3.env"), &s3)
}
