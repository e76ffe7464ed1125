//! The routes of a service, as a table that tests can read: every one needs a token unless it says otherwise.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteInfo {
    pub method: &'static str,
    pub path: &'static str,
    /// Served without a token.
    pub open: bool,
}

/// Collects a service's routes; [`crate::Service::router`] makes the router of them.
pub struct Routes<S> {
    pub(crate) guarded: Router<S>,
    pub(crate) open: Router<S>,
    table: Vec<RouteInfo>,
    opening: bool,
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Routes { guarded: Router::new(), open: Router::new(), table: Vec::new(), opening: false }
    }
}

macro_rules! methods {
    ($($name:ident $filter:ident)*) => {$(
        #[doc = concat!("Serves ", stringify!($filter), " of a path.")]
        #[must_use]
        pub fn $name<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H) -> Self {
            self.add(stringify!($filter), path, on(MethodFilter::$filter, handler))
        }
    )*};
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    pub fn new() -> Self {
        Self::default()
    }

    methods! { get GET put PUT post POST patch PATCH delete DELETE head HEAD }

    /// The routes that `declare` adds are served without a token.
    #[must_use]
    pub fn open(mut self, declare: impl FnOnce(Self) -> Self) -> Self {
        self.opening = true;
        let mut done = declare(self);
        done.opening = false;
        done
    }

    /// Adds another file's routes.
    #[must_use]
    pub fn with(self, declare: impl FnOnce(Self) -> Self) -> Self {
        declare(self)
    }

    /// Every route, for the table of unauthorised access.
    pub fn table(&self) -> &[RouteInfo] {
        &self.table
    }

    fn add(mut self, method: &'static str, path: &'static str, handler: MethodRouter<S>) -> Self {
        self.table.push(RouteInfo { method, path, open: self.opening });
        if self.opening {
            self.open = self.open.route(path, handler);
        } else {
            self.guarded = self.guarded.route(path, handler);
        }
        self
    }
}
