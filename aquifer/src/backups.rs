//! The object store as a place for volumes' backups: in the project's own account, as upstream's.

use api::{Context, ProjectRef};
use async_trait::async_trait;
use axum::body::Bytes;
use blockstore::{BackupStore, Repository, StoreError};
use futures::TryStreamExt;
use objectstore::index::{Item, ListQuery};
use objectstore::{
    Access, Body, Condition, Container, Need, NewContainer, NewObject, ObjectError, ObjectStore, Span,
};
use std::sync::Arc;

/// Names in one request of a listing.
const PAGE: usize = 10_000;

pub(crate) struct Objects(pub(crate) ObjectStore);

fn failed(e: ObjectError) -> StoreError {
    match e {
        ObjectError::OverQuota(_) => {
            StoreError::Refused("The project's quota of object storage does not hold the backup.".into())
        }
        ObjectError::Forbidden | ObjectError::Locked | ObjectError::BadName(_) | ObjectError::Invalid(_) => {
            StoreError::Refused(format!("The backup's container cannot be used: {e}."))
        }
        other => StoreError::Unavailable(Box::new(other)),
    }
}

/// What is not there is nothing.
fn absent<T: Default>(e: ObjectError) -> Result<T, StoreError> {
    match e {
        ObjectError::NoSuchObject | ObjectError::NoSuchContainer => Ok(T::default()),
        other => Err(failed(other)),
    }
}

/// The cloud acting in the project.
fn access(at: &Repository) -> Access {
    let id = at.project_id.clone();
    let project = ProjectRef { name: id.clone(), id, ..ProjectRef::default() };
    Access::of(Context::service_in("volume-backups", project).caller)
}

impl Objects {
    async fn container(&self, at: &Repository) -> Result<Arc<Container>, ObjectError> {
        self.0.container(&access(at), &at.project_id, &at.container, Need::Own).await
    }

    async fn container_made(&self, at: &Repository) -> Result<Arc<Container>, ObjectError> {
        match self.container(at).await {
            Err(ObjectError::NoSuchContainer) => {
                let new = NewContainer { policy: None, as_bucket: false };
                let (access, project) = (access(at), &at.project_id);
                let made = self.0.make_container(&access, project, &at.container, &new, &|_| Ok(()));
                made.await?;
                self.container(at).await
            }
            found => found,
        }
    }

    async fn read(&self, at: &Repository, name: &str) -> Result<Bytes, ObjectError> {
        let object = self.0.open_object(&self.container(at).await?, name, 0).await?;
        let size = object.meta.size;
        let pieces = self.0.source(object).await?.stream(Span { start: 0, end: size });
        let parts: Vec<Bytes> = pieces.try_collect().await?;
        Ok(parts.concat().into())
    }
}

#[async_trait]
impl BackupStore for Objects {
    async fn put(&self, at: &Repository, name: &str, data: Bytes) -> Result<(), StoreError> {
        let container = self.container_made(at).await.map_err(failed)?;
        let content_type = "application/octet-stream".into();
        let owner = at.project_id.clone();
        let new = NewObject { name: name.to_owned(), content_type, owner, ..NewObject::default() };
        let put = self.0.put_object(&container, new, Body::of(data), Condition::Always).await;
        put.map(drop).map_err(failed)
    }

    async fn get(&self, at: &Repository, name: &str) -> Result<Option<Bytes>, StoreError> {
        self.read(at, name).await.map(Some).or_else(absent)
    }

    async fn has(&self, at: &Repository, name: &str) -> Result<bool, StoreError> {
        let look = async { self.0.open_object(&self.container(at).await?, name, 0).await };
        look.await.map(|_| true).or_else(absent)
    }

    async fn remove(&self, at: &Repository, name: &str) -> Result<(), StoreError> {
        let remove = async {
            let container = self.container(at).await?;
            self.0.delete_object(&container, name, Condition::Always).await.map(drop)
        };
        remove.await.or_else(absent)
    }

    async fn list(&self, at: &Repository, prefix: &str) -> Result<Vec<String>, StoreError> {
        let container = match self.container(at).await {
            Ok(container) => container,
            Err(e) => return absent(e),
        };
        let mut query = ListQuery { prefix: prefix.to_owned(), limit: PAGE, ..ListQuery::default() };
        let mut names = Vec::new();
        loop {
            let page = self.0.list_objects(&container, &query).await.map_err(failed)?;
            names.extend(page.items.into_iter().filter_map(|item| match item {
                Item::Object(name, _) => Some(name),
                Item::Prefix(_) => None,
            }));
            match names.last() {
                Some(last) if page.truncated => query.marker.clone_from(last),
                _ => return Ok(names),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Caller, Error, TokenValidator};
    use objectstore::{Config, Credential, Credentials, PolicyConfig};
    use pool::{ClusterConfig, Clusters, TierConfig, Tiers};

    /// Nobody comes in through a door.
    struct Nobody;

    #[async_trait]
    impl TokenValidator for Nobody {
        async fn validate(&self, _: &str) -> Result<Arc<Caller>, Error> {
            Err(Error::unauthenticated())
        }
    }

    #[async_trait]
    impl Credentials for Nobody {
        async fn credential(&self, _: &str) -> Result<Option<Credential>, ObjectError> {
            Ok(None)
        }
    }

    #[tokio::test]
    async fn objects_of_a_project() {
        let clusters = Clusters::connect(&[ClusterConfig::new("main", &testbed::ceph().conf)]).await.unwrap();
        let tier = TierConfig {
            name: "objects".into(),
            cluster: "main".into(),
            pool: "rbd".into(),
            data_pool: None,
            namespace: Some(testbed::unique("backups")),
        };
        let tiers = Tiers::new(&clusters, &[tier]).unwrap();
        let policy = PolicyConfig {
            name: "only".into(),
            tier: "objects".into(),
            index_tier: None,
            storage_class: "STANDARD".into(),
            aliases: Vec::new(),
            deprecated: false,
        };
        let config = Config { policies: vec![policy], ..Config::default() };
        let db = testbed::databases().await.remove(0);
        let store = ObjectStore::new(db, &tiers, Arc::new(Nobody), Arc::new(Nobody), config).await.unwrap();
        let store = Objects(store);
        let at = Repository { project_id: "p1".into(), container: "volumebackups".into() };
        let other = Repository { project_id: "p2".into(), ..at.clone() };
        assert!(store.list(&at, "a/").await.unwrap().is_empty());
        assert!(store.get(&at, "a/b").await.unwrap().is_none() && !store.has(&at, "a/b").await.unwrap());
        store.remove(&at, "a/b").await.unwrap();
        let large = Bytes::from(vec![7; 5 << 20]);
        store.put(&at, "a/b", "x".into()).await.unwrap();
        store.put(&at, "a/b", large.clone()).await.unwrap();
        store.put(&at, "b/c", "y".into()).await.unwrap();
        assert_eq!(store.get(&at, "a/b").await.unwrap().unwrap(), large);
        assert!(store.has(&at, "a/b").await.unwrap() && !store.has(&other, "a/b").await.unwrap());
        assert_eq!(store.list(&at, "a/").await.unwrap(), ["a/b"]);
        for _ in 0..2 {
            store.remove(&at, "a/b").await.unwrap();
        }
        assert!(store.get(&at, "a/b").await.unwrap().is_none());
    }
}
