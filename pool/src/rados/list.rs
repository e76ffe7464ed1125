//! Listing the objects of a pool and namespace. In the order of their hashes: no order to rely on.

use futures::Stream;
use futures::stream;

use super::Pool;
use crate::cluster::Work;
use crate::error::{Errno, Error, errno};
use crate::ffi;

/// A place in a listing; fit for [`Pool::list_page`] of the same pool.
pub struct ListCursor(ffi::list::Cursor);

impl std::fmt::Debug for ListCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ListCursor")
    }
}

impl Pool {
    /// Up to `max` (at most 10,000) object names from a place on (`None`: from the start), and where to go on
    /// (`None`: that was all). A page may be short, or even empty, and not be the last.
    pub async fn list_page(
        &self,
        from: Option<ListCursor>,
        max: usize,
    ) -> Result<(Vec<String>, Option<ListCursor>), Error> {
        let what = || self.path("list", "");
        let cursor = match from {
            Some(c) => c.0,
            None => ffi::list::Cursor::begin(&self.io().await?),
        };
        let max = max.clamp(1, 10_000);
        let page = move || cursor.page(max);
        let (names, next) = self.cluster().blocking(Work::Short, self.deadline(), what, page).await?;
        Ok((names, next.map(ListCursor)))
    }

    /// All object names, page after page. Ends after an error.
    pub fn list(&self) -> impl Stream<Item = Result<String, Error>> + Send + use<> {
        struct At {
            pool: Pool,
            names: std::vec::IntoIter<String>,
            next: Option<Option<ListCursor>>, // None: at the end; Some(None): at the start
        }
        let at = At { pool: self.clone(), names: Vec::new().into_iter(), next: Some(None) };
        stream::unfold(at, |mut at| async move {
            loop {
                if let Some(name) = at.names.next() {
                    return Some((Ok(name), at));
                }
                match at.pool.list_page(at.next.take()?, 1024).await {
                    Ok((names, next)) => {
                        at.names = names.into_iter();
                        at.next = next.map(Some);
                    }
                    Err(e) => return Some((Err(e), at)),
                }
            }
        })
    }

    /// Removes every object of this namespace. Refused (`Invalid`) for the default namespace: the way to
    /// remove everything in a pool is to delete the pool.
    pub async fn remove_all(&self) -> Result<u64, Error> {
        use futures::{StreamExt, TryStreamExt};
        if self.namespace().is_empty() {
            return Err(Error::from_errno(Errno(errno::EINVAL).0, self.path("remove all of", "")));
        }
        let mut removed = 0;
        let names = self.list();
        let removals = names.map_ok(|oid| async move {
            match self.remove(&oid).await {
                Err(e) if !e.is_not_found() => Err(e),
                _ => Ok(()),
            }
        });
        let mut removals = std::pin::pin!(removals.try_buffer_unordered(32));
        while let Some(done) = removals.next().await {
            done?;
            removed += 1;
        }
        Ok(removed)
    }
}
