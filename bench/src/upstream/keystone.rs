//! Keystone: Fernet tokens, memcached, bcrypt at the same cost as the other side's.

use super::{PASSWORD, Service, Told, Upstream};
use crate::Result;

pub(crate) const KEYSTONE: Service = Service {
    name: "keystone",
    port: 2,
    module: "keystone.wsgi.api:application",
    file: "keystone.conf",
    told: Told::File("OS_KEYSTONE_CONFIG_FILES"),
    sync: &["db_sync"],
};

impl Upstream {
    pub(super) fn set_up_keystone(&self) -> Result<()> {
        let config = format!(
            "[token]\nprovider = fernet\n[fernet_tokens]\nkey_repository = {fernet}\n\
             [fernet_receipts]\nkey_repository = {fernet}\n[credential]\nkey_repository = {credential}\n\
             [cache]\nenabled = true\nbackend = dogpile.cache.pymemcache\nmemcache_servers = {cache}\n\
             [identity]\npassword_hash_algorithm = bcrypt\npassword_hash_rounds = {cost}\n",
            fernet = self.path("fernet"),
            credential = self.path("credential"),
            cache = self.cache(),
            cost = crate::identity::COST,
        );
        self.prepare(&KEYSTONE, &config)?;
        let owner = ["--keystone-user", "root", "--keystone-group", "root"];
        self.manage(&KEYSTONE, &[&["fernet_setup"], &owner[..]].concat())?;
        self.manage(&KEYSTONE, &[&["credential_setup"], &owner[..]].concat())?;
        let url = self.identity();
        let mut bootstrap = vec!["bootstrap", "--bootstrap-password", PASSWORD];
        bootstrap.extend(["--bootstrap-region-id", "RegionOne"]);
        for interface in ["--bootstrap-public-url", "--bootstrap-internal-url", "--bootstrap-admin-url"] {
            bootstrap.extend([interface, &url]);
        }
        self.manage(&KEYSTONE, &bootstrap)
    }

    /// The address of the API.
    pub(crate) fn identity(&self) -> String {
        format!("{}/v3", self.url(&KEYSTONE))
    }
}
