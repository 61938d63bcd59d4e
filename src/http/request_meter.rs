//! Counts the requests of a front by route, method and status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};

use crate::telemetry::{Labels, Metrics, WorkerRequests};

/// The route of a request that reached no route.
const NO_ROUTE: &str = "none";

/// Paths outside of the OpenAPI document, and the routes as which they count.
const OTHER_ROUTES: [(&str, &str); 6] = [
    ("/", "/"),
    ("/dashboard", "/dashboard"),
    ("/openapi.json", "/openapi.json"),
    ("/docs", "/docs"),
    ("/docs/", "/docs"),
    ("/docs/{*file}", "/docs"),
];

/// The routes by path.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteTable {
    places: Arc<matchit::Router<u16>>,
    /// The first one is [`NO_ROUTE`].
    names: Arc<[String]>,
}

/// Counts the requests of a front.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestMeter {
    table: RouteTable,
    requests: Arc<WorkerRequests>,
}

/// A request that is being answered. It is not counted if its client leaves before the response.
#[derive(Debug)]
pub(super) struct MeteredRequest {
    requests: Arc<WorkerRequests>,
    route: u16,
    method: &'static str,
    began: Instant,
}

impl RouteTable {
    /// The routes with these path templates, and those outside of the OpenAPI document.
    pub(super) fn of<'a>(paths: impl Iterator<Item = &'a String>) -> Self {
        let mut places = matchit::Router::new();
        let mut names = vec![NO_ROUTE.to_owned()];
        let documented = paths.map(|path| (path.as_str(), path.as_str()));
        for (path, name) in documented.chain(OTHER_ROUTES) {
            let known = names.iter().position(|known| known == name);
            let place = known.unwrap_or(names.len());
            // A path that cannot be inserted counts as no route.
            if let Ok(id) = u16::try_from(place)
                && places.insert(path, id).is_ok()
                && known.is_none()
            {
                names.push(name.to_owned());
            }
        }
        Self {
            places: Arc::new(places),
            names: names.into(),
        }
    }

    fn place(&self, path: &str) -> u16 {
        self.places.at(path).map_or(0, |found| *found.value)
    }
}

impl RequestMeter {
    /// Counts requests with the routes of `table` in `metrics`.
    pub(super) fn new(table: &RouteTable, metrics: &Metrics) -> Self {
        Self {
            table: table.clone(),
            requests: metrics.requests_of_worker(Arc::clone(&table.names)),
        }
    }

    /// Begins to answer a request.
    pub(super) fn begin(&self, method: &Method, path: &str) -> MeteredRequest {
        MeteredRequest {
            requests: Arc::clone(&self.requests),
            route: self.table.place(path),
            method: name_of(method),
            began: Instant::now(),
        }
    }

    /// Counts a request that was refused before its route was known.
    pub(super) fn refused(&self, status: StatusCode) {
        let labels = Labels {
            route: 0,
            method: "none",
            status: status.as_u16(),
        };
        self.requests.answered(labels, Duration::ZERO);
    }
}

impl MeteredRequest {
    /// Counts the request.
    pub(super) fn answered(self, status: StatusCode) {
        let labels = Labels {
            route: self.route,
            method: self.method,
            status: status.as_u16(),
        };
        self.requests.answered(labels, self.began.elapsed());
    }
}

/// The label of a method. A client cannot add labels with methods of its own.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_counts_as_its_template_and_an_unknown_path_as_no_route() {
        let documented = ["/v1/users/{userId}", "/v1/users/{userId}/ping"].map(str::to_owned);
        let table = RouteTable::of(documented.iter());
        let name = |path: &str| table.names[usize::from(table.place(path))].as_str();
        assert_eq!(name("/v1/users/alice"), "/v1/users/{userId}");
        assert_eq!(name("/v1/users/a%2Fb/ping"), "/v1/users/{userId}/ping");
        assert_eq!(name("/docs/swagger-ui.css"), "/docs");
        assert_eq!(name("/docs"), "/docs");
        assert_eq!(name("/"), "/");
        for unknown in ["", "/v1/users", "/v1/users/alice/ping/", "/favicon.ico"] {
            assert_eq!(name(unknown), "none", "{unknown}");
        }
    }
}
