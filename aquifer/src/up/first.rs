//! What a new cloud begins with: the catalogue, a demo project, flavors, the network `public`, a test image.
//! All of it is looked at on every start and only made where it is missing.

use crate::cloud::Cloud;
use crate::config::Config;
use crate::error::AquiferError;
use crate::secrets::Secrets;
use api::{Context, ProjectRef, Secret};
use engines::Endpoints;
use identity::{Bootstrap, CatalogueEntry};
use std::collections::BTreeMap;
use std::time::Duration;

/// The test image's name, as the welcome and the README use it.
const TEST_IMAGE: &str = "testimg";

/// Service type, name, description, path below the public base URL.
const CATALOGUE: [(&str, &str, &str, &str); 7] = [
    ("identity", "keystone", "Identity", "/identity/v3"),
    ("image", "glance", "Images", "/image"),
    ("volumev3", "cinderv3", "Block storage", "/volume/v3/$(project_id)s"),
    ("block-storage", "cinder", "Block storage", "/volume/v3"),
    ("network", "neutron", "Networks", "/network"),
    ("compute", "nova", "Servers", "/compute/v2.1"),
    ("placement", "placement", "Placement", "/placement"),
];

/// Swift is apart: its account is in its path.
const OBJECT_STORE: (&str, &str, &str, &str) =
    ("object-store", "swift", "Objects", "/v1/AUTH_$(project_id)s");

/// The catalogue and the administrator; also what `serve` makes sure of.
pub(crate) async fn catalogue(
    cloud: &Cloud,
    admin_password: &str,
    config: &Config,
) -> Result<(), AquiferError> {
    let wanted = wanted(admin_password, &config.region);
    cloud.identity.bootstrap(wanted).await.map_err(AquiferError::service("the catalogue"))?;
    cloud.compute.bootstrap().await.map_err(AquiferError::service("flavors"))
}

/// What identity begins with.
pub(crate) fn wanted(admin_password: &str, region: &str) -> Bootstrap {
    let services = CATALOGUE.iter().chain([&OBJECT_STORE]).map(|(service_type, name, description, path)| {
        CatalogueEntry {
            service_type: (*service_type).into(),
            name: (*name).into(),
            description: (*description).into(),
            path: (*path).into(),
        }
    });
    Bootstrap {
        admin_password: Secret(admin_password.into()),
        region: region.into(),
        services: services.collect(),
    }
}

pub(super) async fn ensure(
    cloud: &Cloud,
    secrets: &Secrets,
    config: &Config,
    engines: &Endpoints,
) -> Result<(), AquiferError> {
    catalogue(cloud, &secrets.admin_password, config).await?;
    let identity = &cloud.identity;
    let failed = || AquiferError::service("the demo project");
    let project = identity.ensure_project("demo").await.map_err(failed())?;
    let password = Secret(secrets.demo_password.clone());
    let user = identity.ensure_user("demo", &password, &project, &["member"]).await.map_err(failed())?;
    let key = Secret(secrets.s3_secret_key.clone());
    identity.ensure_ec2_credential(&user, &project, &secrets.s3_access_key, &key).await.map_err(failed())?;
    public_network(cloud, engines).await?;
    test_image(cloud, engines).await
}

async fn public_network(cloud: &Cloud, engines: &Endpoints) -> Result<(), AquiferError> {
    let public = netagent::PublicNetwork {
        name: "public".into(),
        physical_network: "public".into(),
        cidr: engines.public.cidr.into(),
        gateway: engines.public.gateway.into(),
        pool: (engines.public.allocation.0.into(), engines.public.allocation.1.into()),
    };
    let ctx = admin(cloud).await?;
    cloud.networks.ready(Duration::from_secs(20)).await.map_err(AquiferError::service("OVN"))?;
    cloud
        .networks
        .bootstrap_public(&ctx, &public)
        .await
        .map_err(AquiferError::service("the network `public`"))?;
    Ok(())
}

async fn test_image(cloud: &Cloud, engines: &Endpoints) -> Result<(), AquiferError> {
    let Some(file) = &engines.test_image else { return Ok(()) };
    let owner = admin(cloud).await?;
    let owner = owner.project().map(|p| p.id.as_str());
    let made = cloud.images.ensure(TEST_IMAGE, file, "qcow2", BTreeMap::new(), owner).await;
    made.map(drop).map_err(AquiferError::service("the test image"))
}

/// The cloud itself, in the project `admin`.
async fn admin(cloud: &Cloud) -> Result<Context, AquiferError> {
    let failed = || AquiferError::service("the project `admin`");
    let id = cloud.identity.ensure_project("admin").await.map_err(failed())?;
    let project = cloud
        .identity
        .project(&id)
        .await
        .map_err(failed())?
        .unwrap_or_else(|| ProjectRef { id, ..ProjectRef::default() });
    Ok(Context::service_in("aquifer", project))
}

/// Returns when this machine's agent has reported.
pub(super) async fn settled(cloud: &Cloud, engines: &Endpoints) -> Result<(), AquiferError> {
    cloud.compute.host_is_up(&engines.chassis).await.map_err(AquiferError::service("the host agent"))
}
