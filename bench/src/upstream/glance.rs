//! Glance with a store of files.

use super::{Service, Told, Upstream};
use crate::Result;

pub(crate) const GLANCE: Service = Service {
    name: "glance",
    port: 3,
    module: "glance.wsgi.api:application",
    file: "glance-api.conf",
    told: Told::Folder("OS_GLANCE_CONFIG_DIR"),
    sync: &["db_sync"],
};

impl Upstream {
    pub(crate) fn set_up_glance(&self) -> Result<()> {
        let mut config = format!(
            "[DEFAULT]\nenabled_backends = files:file\n[glance_store]\ndefault_backend = files\n\
             [paste_deploy]\nflavor = keystone\nconfig_file = {paste}\n{validation}",
            paste = self.venv.join("etc/glance/glance-api-paste.ini").display(),
            validation = self.validation(),
        );
        for store in ["files", "os_glance_staging_store", "os_glance_tasks_store"] {
            let folder = self.path(&format!("images/{store}"));
            std::fs::create_dir_all(&folder)?;
            config.push_str(&format!("[{store}]\nfilesystem_store_datadir = {folder}\n"));
        }
        self.prepare(&GLANCE, &config)
    }
}
