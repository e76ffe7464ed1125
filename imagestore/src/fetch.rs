//! Images from elsewhere, for imports: from the web (`web-download`), and from the image service of a region
//! (`glance-download`), which is asked with the token of whoever wants the image.
//!
//! Such a token is kept in the memory of the process that was given it, and nowhere else: what is durable would outlive
//! its purpose, and be in backups. So that process fetches, and where it has died, the import fails.

use crate::model::{Digest, Image};
use crate::store::uploads;
use crate::web::{Web, WebError};
use crate::{Body, ImageError, Images};
use api::Secret;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An image of a region's image service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remote {
    pub(crate) region: String,
    pub(crate) interface: String,
    pub(crate) image: String,
}

/// What an image service says of an image, as far as it is taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Described {
    disk_format: Option<String>,
    container_format: Option<String>,
    properties: BTreeMap<String, String>,
}

impl Described {
    pub(crate) fn apply(&self, image: &mut Image) {
        for (to, from) in [
            (&mut image.disk_format, &self.disk_format),
            (&mut image.container_format, &self.container_format),
        ] {
            if from.is_some() {
                to.clone_from(from);
            }
        }
        image.properties.extend(self.properties.clone());
    }
}

/// The tokens of imports that wait to be carried out, by their tasks.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<HashMap<String, (Instant, Secret)>>);

impl Tokens {
    /// How long a token waits for its task; it also bounds how many there are.
    pub(crate) const KEPT: Duration = Duration::from_secs(24 * 3600);

    pub(crate) fn keep(&self, task: &str, token: Secret) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (since, _)| since.elapsed() < Self::KEPT);
        all.insert(task.to_owned(), (Instant::now(), token));
    }

    pub(crate) fn get(&self, task: &str) -> Option<Secret> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(task).map(|(_, token)| token.clone())
    }

    pub(crate) fn forget(&self, task: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
    }
}

/// The most bytes that an image's description may have.
const DESCRIPTION: usize = 1 << 20;

impl Images {
    /// Fetches an image's bytes from the web, in bounded time, and no longer than the image is there.
    pub(crate) async fn fetch(self: &Arc<Self>, image: &Image, uri: &str) -> Result<Digest, ImageError> {
        let filter = self.config.import_filter.clone();
        let web = tokio::task::spawn_blocking(move || Web::filtered(&filter)).await??;
        self.fetched(image, uri, web.get(uri)).await
    }

    /// Fetches an image's bytes, and what is said of them, from an image service.
    pub(crate) async fn fetch_remote(
        self: &Arc<Self>,
        image: &Image,
        remote: &Remote,
        token: &Secret,
    ) -> Result<(Described, Digest), ImageError> {
        let Remote { region, interface, image: id } = remote;
        let endpoint = match self.around.get() {
            Some(around) => around.image_service(region, interface).await?,
            None => None,
        };
        let endpoint = endpoint.ok_or_else(|| {
            ImageError::Invalid(format!("No {interface} endpoint of images is known in the region {region}."))
        })?;
        let base = endpoint.trim_end_matches('/');
        let url = format!("{}/v2/images/{id}", base.strip_suffix("/v2").unwrap_or(base));
        let web = tokio::task::spawn_blocking(Web::trusted).await??;
        let (_, body) = web.get_as(&url, token).await?;
        let described = self.described(&whole(body, &url).await?)?;
        let file = format!("{url}/file");
        Ok((described, self.fetched(image, &file, web.get_as(&file, token)).await?))
    }

    /// What is taken over of another image service's image, which must be active.
    fn described(&self, said: &Map<String, Value>) -> Result<Described, ImageError> {
        let word = |name: &str| said.get(name).and_then(Value::as_str);
        let status = word("status").unwrap_or_default();
        if status != "active" {
            return Err(ImageError::Invalid(format!(
                "Source image status should be active instead of {status}."
            )));
        }
        let known = |name: &str, formats: &[String]| match word(name) {
            Some(format) if formats.iter().any(|f| f == format) => Ok(Some(format.to_owned())),
            other => Err(ImageError::Invalid(format!(
                "The source image's {name} is {other:?}, which is not taken here."
            ))),
        };
        let wanted =
            |name: &str| self.config.download_properties.iter().any(|p| name.starts_with(p.as_str()));
        let properties: BTreeMap<String, String> = said
            .iter()
            .filter(|(name, _)| wanted(name) && !crate::patch::is_attribute(name))
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect();
        if properties.len() > self.config.property_quota {
            return Err(ImageError::TooLarge("The source image has too many properties.".into()));
        }
        Ok(Described {
            disk_format: known("disk_format", &self.config.disk_formats)?,
            container_format: known("container_format", &self.config.container_formats)?,
            properties,
        })
    }

    /// Puts aside what an answer brings.
    ///
    /// What ends it early ends the body, not this call: an RBD image that is just being made is made before anybody
    /// removes it.
    async fn fetched(
        self: &Arc<Self>,
        image: &Image,
        uri: &str,
        answer: impl Future<Output = Result<(Option<u64>, Body), WebError>>,
    ) -> Result<Digest, ImageError> {
        let cap = self.room(&mut self.db.begin().await?, image).await?;
        let mut over = self.clone().over(image.id.clone(), uri.to_owned());
        let (announced, body) = tokio::select! {
            answer = answer => answer?,
            why = &mut over => return Err(why),
        };
        if announced.is_some_and(|n| n > cap) {
            return Err(ImageError::TooLarge(format!("Image exceeds the limit of {cap} bytes.")));
        }
        let mut body = stream::unfold(Some((body, over)), |open| async move {
            let (mut body, mut over) = open?;
            tokio::select! {
                frame = body.next() => frame.map(|f| (f, Some((body, over)))),
                why = &mut over => Some((Err(why), None)),
            }
        })
        .boxed();
        self.put_aside(image, cap, announced, &mut body).await
    }

    /// Ends when a fetch must: its time is up, or the image is deleted.
    fn over(self: Arc<Self>, id: String, uri: String) -> BoxFuture<'static, ImageError> {
        let limit = Duration::from_secs(self.config.import_filter.timeout_s);
        async move {
            tokio::select! {
                () = tokio::time::sleep(limit) => WebError::TimedOut(uri).into(),
                gone = uploads::until_deleted(&self.db, &id) => {
                    gone.err().map_or(ImageError::NotFound(id), ImageError::from)
                }
            }
        }
        .boxed()
    }
}

/// An answer's JSON object.
async fn whole(mut body: Body, url: &str) -> Result<Map<String, Value>, ImageError> {
    let mut all = Vec::new();
    while let Some(frame) = body.next().await {
        all.extend_from_slice(&frame?);
        if all.len() > DESCRIPTION {
            return Err(ImageError::Invalid(format!("{url} says too much.")));
        }
    }
    serde_json::from_slice(&all)
        .map_err(|_| ImageError::Invalid(format!("{url} does not describe an image.")))
}
