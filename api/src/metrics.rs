//! Metrics in Prometheus' form, and the access log line of every request.

use axum::response::Response;
use http::Method;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::sync::LazyLock;
use std::time::Duration;

/// Which service answered; put into responses by the service's layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served(pub(crate) &'static str);

static RECORDER: LazyLock<Option<PrometheusHandle>> = LazyLock::new(|| {
    let buckets = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
    let builder = PrometheusBuilder::new().set_buckets(&buckets).ok()?;
    builder.install_recorder().ok()
});

/// Starts recording; call it once, before the first request. Without it metrics cost nothing.
pub fn install() {
    if RECORDER.is_some() {
        tokio::spawn(async {
            let mut tick = tokio::time::interval(Duration::from_secs(10));
            loop {
                tick.tick().await;
                if let Some(recorder) = &*RECORDER {
                    recorder.run_upkeep();
                }
            }
        });
    }
}

/// The text of `/metrics`.
pub fn text() -> String {
    RECORDER.as_ref().map(PrometheusHandle::render).unwrap_or_default()
}

/// Counts and logs one served request. The query is left out of the log: it may carry a signature.
pub(crate) fn served(method: &Method, path: &str, request_id: &str, response: &Response, took: Duration) {
    let service = response.extensions().get::<Served>().map_or("-", |s| s.0);
    let status = response.status().as_u16();
    tracing::debug!(target: "access", %request_id, service, %method, path, status, ms = took.as_millis() as u64);
    let labels =
        [("service", service.to_owned()), ("method", method.to_string()), ("status", status.to_string())];
    metrics::counter!("aquifer_http_requests_total", &labels).increment(1);
    metrics::histogram!("aquifer_http_request_seconds", "service" => service).record(took.as_secs_f64());
}
