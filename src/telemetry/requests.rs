//! The requests of an instance by route, method and status, with their latency.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Unit;

/// The upper bounds of the buckets of response times, in seconds: from a fast round trip to the time-out.
pub(super) const LATENCY_BUCKETS: [f64; 11] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0,
];

/// The histograms have no exemplars.
type NoExemplars = HashMap<usize, Exemplar<[(&'static str, &'static str); 0], f64>>;

/// The counts of all workers.
#[derive(Debug, Default)]
pub(super) struct Requests(Mutex<Vec<Arc<WorkerRequests>>>);

/// The counts of one worker. Other threads only read them, when the metrics are asked for, so that the workers do not
/// wait for each other. A count needs no allocation, except for the first request with its labels.
#[derive(Debug, Default)]
pub(crate) struct WorkerRequests {
    routes: Arc<[String]>,
    counts: Mutex<HashMap<Labels, Latencies, RandomState>>,
}

/// What a request is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Labels {
    /// The place of the route in the list of the worker.
    pub(crate) route: u16,
    /// The method.
    pub(crate) method: &'static str,
    /// The status of the response.
    pub(crate) status: u16,
}

/// The latencies of requests with the same labels.
#[derive(Clone, Debug, Default)]
struct Latencies {
    sum: Duration,
    /// The requests in each bucket, and those above the last one.
    buckets: [u64; LATENCY_BUCKETS.len() + 1],
}

impl WorkerRequests {
    /// Counts a request that was answered after `latency`.
    pub(crate) fn answered(&self, labels: Labels, latency: Duration) {
        let seconds = latency.as_secs_f64();
        let mut bounds = LATENCY_BUCKETS.iter();
        let bucket = bounds.position(|bound| seconds <= *bound);
        let mut counts = self.counts.lock();
        let latencies = counts.entry(labels).or_default();
        latencies.sum += latency;
        latencies.buckets[bucket.unwrap_or(LATENCY_BUCKETS.len())] += 1;
    }
}

impl Latencies {
    fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += count;
        }
    }
}

impl Requests {
    /// The counts of a new worker whose requests have these routes.
    pub(super) fn of_worker(&self, routes: Arc<[String]>) -> Arc<WorkerRequests> {
        let worker = Arc::new(WorkerRequests {
            routes,
            counts: Mutex::default(),
        });
        self.0.lock().push(Arc::clone(&worker));
        worker
    }

    /// The latencies of all workers by route, method and status.
    fn total(&self) -> BTreeMap<(String, &'static str, u16), Latencies> {
        let mut total: BTreeMap<_, Latencies> = BTreeMap::new();
        for worker in self.0.lock().iter() {
            let counts = worker.counts.lock().clone();
            for (labels, latencies) in counts {
                let route = worker.routes.get(usize::from(labels.route));
                let route = route.cloned().unwrap_or_default();
                let labels = (route, labels.method, labels.status);
                total.entry(labels).or_default().add(&latencies);
            }
        }
        total
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(
            "request_duration",
            "Time from the head of a request to the head of its response.",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for ((route, method, status), latencies) in self.total() {
            let status = status.to_string();
            let labels = [
                ("route", route.as_str()),
                ("method", method),
                ("status", &status),
            ];
            let bounds = LATENCY_BUCKETS.into_iter().chain([f64::MAX]);
            let buckets: Vec<_> = bounds.zip(latencies.buckets).collect();
            let count = latencies.buckets.iter().sum();
            let sum = latencies.sum.as_secs_f64();
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_histogram(sum, count, &buckets, None::<&NoExemplars>)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_of_all_workers_are_added_up() {
        let requests = Requests::default();
        let routes: Arc<[String]> = ["none".to_owned(), "/livez".to_owned()].into();
        let other_routes: Arc<[String]> = ["/livez".to_owned()].into();
        let workers = [routes, other_routes].map(|routes| requests.of_worker(routes));
        let labels = |route| Labels {
            route,
            method: "GET",
            status: 200,
        };
        workers[0].answered(labels(1), Duration::from_micros(250));
        workers[0].answered(labels(0), Duration::from_micros(251));
        workers[1].answered(labels(0), Duration::from_secs(3));
        let total = requests.total();
        let of = |route: &str| total[&(route.to_owned(), "GET", 200)].clone();
        assert_eq!(of("none").buckets[1], 1);
        let (first, last) = (0, LATENCY_BUCKETS.len());
        assert_eq!(
            (of("/livez").buckets[first], of("/livez").buckets[last]),
            (1, 1)
        );
        assert_eq!(of("/livez").sum, Duration::from_micros(3_000_250));
    }
}
