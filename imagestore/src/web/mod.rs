//! What is fetched over HTTP: images from the web, for `web-download`, and those of other image services.
//!
//! Whoever may import may name a URL, so what is asked is asked with care: the URL must pass the operator's lists, each
//! redirect too; a name is resolved once, and only an address that came of it and is public (or in a network that the
//! operator allows) is connected to. So neither a name that changes its address nor a redirect leads inside.
//! Credentials, cookies and proxies of the environment are never used.

mod fetch;
mod filter;

pub(crate) use fetch::{Web, WebError};
pub use filter::ImportFilter;
