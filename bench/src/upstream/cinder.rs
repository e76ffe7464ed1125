//! Cinder's API. What makes volumes does not run: a list is made of rows, and those are written as they are after
//! a scheduler and a driver have done their work.

use super::{Service, Told, Upstream};
use crate::Result;

pub(crate) const CINDER: Service = Service {
    name: "cinder",
    port: 4,
    module: "cinder.wsgi.api:application",
    file: "cinder.conf",
    told: Told::Argument,
    sync: &["db", "sync"],
};

impl Upstream {
    pub(crate) fn set_up_cinder(&self) -> Result<()> {
        let etc = self.venv.join("etc/cinder").display().to_string();
        let config = format!(
            "[DEFAULT]\nauth_strategy = keystone\ntransport_url = fake:/\nenabled_backends = rbd\n\
             osapi_max_limit = 1000\nstate_path = {state}\napi_paste_config = {etc}/api-paste.ini\n\
             resource_query_filters_file = {etc}/resource_filters.json\n{validation}",
            state = self.path("cinder"),
            validation = self.validation(),
        );
        self.prepare(&CINDER, &config)
    }

    /// So many available volumes of 1 GiB, of a project.
    pub(crate) fn add_volumes(&self, volumes: usize, user: &str, project: &str) -> Result<()> {
        self.sql(&format!(
            "INSERT INTO cinder.volumes (created_at, updated_at, scheduled_at, launched_at, deleted, id, user_id, \
             project_id, volume_type_id, host, size, availability_zone, status, attach_status, bootable, \
             multiattach, shared_targets, use_quota) \
             SELECT NOW(), NOW(), NOW(), NOW(), 0, UUID(), '{user}', '{project}', (SELECT id FROM \
             cinder.volume_types WHERE name = '__DEFAULT__'), 'bench@rbd#rbd', 1, 'nova', 'available', \
             'detached', 0, 0, 0, 1 FROM cinder.seq_1_to_{volumes};"
        ))
    }
}
