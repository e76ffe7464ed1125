//! Every URL that a client is shown, built from the one configured public base URL.

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Links(std::sync::Arc<str>);

impl Links {
    /// `base` is the API's public address without a path, such as `http://cloud.example:5000`.
    pub fn new(base: &str) -> Self {
        Links(base.trim_end_matches('/').into())
    }

    pub fn base(&self) -> &str {
        &self.0
    }

    /// `path` begins with the service's own path, such as `/volume/v3/…`.
    pub fn to(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}
