//! The board for Grafana and the alerts for Prometheus in `infra/`: their names exist, and Prometheus accepts them.

mod promql;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use harness::client::Client;
use harness::deployment::{Deployment, Store};
use harness::instance::{Instance, Settings};
use harness::process::Process;
use harness::redis_cluster::RedisCluster;
use harness::redis_server::free_port;
use harness::sse::Stream;
use harness::wait::eventually;
use reqwest::{Method, Url};
use serde_json::Value;

use self::promql::names_in;
use super::metrics::metrics;
use super::webhooks::receiver::{Conduct, Receiver};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The labels that Prometheus adds.
const LABELS_OF_TARGETS: [&str; 2] = ["instance", "job"];

/// The labels of each metric by its name.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// A Prometheus server that reads the metrics of one instance each second, with the alerts of the service.
struct Prometheus {
    _process: Process,
    _folder: tempfile::TempDir,
    client: Client,
}

impl Prometheus {
    fn start(address: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!(
            "global: {{scrape_interval: 1s}}\n\
             rule_files: [\"{ROOT}/infra/prometheus/alerts.yml\"]\n\
             scrape_configs:\n\
             - job_name: presence\n\
             \x20 static_configs: [{{targets: [\"{address}\"]}}]\n"
        );
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).expect("a file");
        let listen = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().display()))
            .arg(format!("--web.listen-address={listen}"));
        Self {
            _process: Process::spawn("prometheus", &mut command),
            _folder: folder,
            client: Client::new(&format!("http://{listen}")),
        }
    }

    /// The `data` of a successful call of the API; `None` if the server is not ready.
    async fn data(&self, path: &str, parameters: &[(&str, &str)]) -> Option<Value> {
        let base = format!("{}{path}", self.client.base());
        let url = Url::parse_with_params(&base, parameters).expect("a URL");
        let path = format!("{path}?{}", url.query().unwrap_or_default());
        let request = self.client.request(Method::GET, &path);
        let response = request.send().await.ok()?;
        let body: Value = response.json().await.ok()?;
        (body["status"] == "success").then(|| body["data"].clone())
    }

    /// The expressions of the alerts.
    async fn alerts(&self) -> Vec<(String, String)> {
        let data = eventually("the rules", async || self.data("/api/v1/rules", &[]).await).await;
        let groups = data["groups"].as_array().expect("groups").iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
        rules
            .map(|rule| (text(&rule["name"]), text(&rule["query"])))
            .collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn file(path: &str) -> String {
    fs::read_to_string(format!("{ROOT}/{path}")).expect("a file of the repository")
}

fn board() -> Value {
    serde_json::from_str(&file("infra/grafana/presence.json")).expect("JSON")
}

/// The expressions of the board, each with the title of its panel, and the selectors of its variables.
fn expressions(board: &Value) -> Vec<(String, String)> {
    let panels = board["panels"].as_array().expect("panels").iter();
    let mut all = Vec::new();
    for panel in panels.filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{panel}");
        let title = text(&panel["title"]);
        all.extend(
            targets
                .iter()
                .map(|target| (title.clone(), text(&target["expr"]))),
        );
    }
    let variables = board["templating"]["list"].as_array().expect("variables");
    for variable in variables {
        if let Some(query) = variable["query"]["query"].as_str() {
            let values = query.strip_prefix("label_values(").expect("label_values");
            let selector = values.rsplit_once(", ").expect("a label").0;
            all.push((text(&variable["name"]), selector.to_owned()));
        }
    }
    all
}

/// `expression` with values in place of the variables of Grafana.
fn filled(expression: &str) -> String {
    let filled = expression
        .replace("$job", "presence")
        .replace("$instance", ".*")
        .replace("$__rate_interval", "1m");
    assert!(!filled.contains('$'), "{filled}");
    filled
}

/// The labels of all metrics in a text in the classic format.
fn labels_in(text: &str) -> Labels {
    let mut all = Labels::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (sample, _) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let labels = labels
            .split("\",")
            .filter_map(|label| label.split_once('='));
        let names = labels.map(|(name, _)| name.to_owned());
        all.entry(name.to_owned()).or_default().extend(names);
    }
    all
}

/// The name of a metric without the part of a histogram.
fn family(name: &str) -> &str {
    let parts = ["_bucket", "_sum", "_count"];
    let family = parts.iter().find_map(|part| name.strip_suffix(part));
    family.unwrap_or(name)
}

fn assert_names_exist(place: &str, expression: &str, known: &Labels) {
    let names = names_in(expression);
    assert!(!names.selectors.is_empty(), "{place}: {expression}");
    let mut of_all: BTreeSet<&str> = LABELS_OF_TARGETS.into();
    for (metric, matched) in &names.selectors {
        let labels = known.get(metric);
        let labels = labels.unwrap_or_else(|| panic!("{place}: no metric {metric}"));
        of_all.extend(labels.iter().map(String::as_str));
        for label in matched {
            let exists = labels.contains(label) || LABELS_OF_TARGETS.contains(&&**label);
            assert!(exists, "{place}: {metric} has no label {label}");
        }
    }
    for label in &names.labels {
        let exists = of_all.contains(&**label);
        assert!(
            exists,
            "{place}: no metric of {expression} has a label {label}"
        );
    }
}

/// The metrics of an instance after everything happened that has a metric of its own.
async fn eventful(deployment: &mut Deployment) -> Labels {
    let client = deployment.client();
    let mut stream = Stream::open(&client, "?lastEventId=no-cursor").await;
    client.connect("alice").await;
    client.ping("alice").await;
    client.disconnect("alice").await;
    client.connect("alice").await;
    stream.changes(4).await;
    eventually("a delivery", async || {
        let delivered = "presence_webhook_deliveries_total{receiver=\"crm\",outcome=\"delivered\"}";
        client.metric(delivered).await
    })
    .await;
    deployment.redis_mut().kill();
    assert_eq!(client.get("/v1/users/alice").await.status, 503);
    let mut known = labels_in(&metrics(&client, "text/plain").await.body);
    known.insert("up".to_owned(), BTreeSet::new());
    known
}

/// The metrics that only instances on a Redis Cluster have, and those with published keys.
async fn of_masters_and_keys() -> Labels {
    let redis = RedisCluster::start().await;
    let keys = format!("http://127.0.0.1:{}/keys", free_port());
    let settings = Settings::new()
        .with("REDIS_URL", &redis.url())
        .with("PRESENCE_JWKS_URL", &keys);
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    eventually("the metrics", async || {
        let mut all = labels_in(&metrics(&client, "text/plain").await.body);
        all.retain(|name, _| {
            ["presence_node_", "presence_jwks_"]
                .iter()
                .any(|part| name.starts_with(part))
        });
        (all.len() == 4).then_some(all)
    })
    .await
}

/// One test, because it starts several processes.
#[tokio::test]
async fn the_board_and_the_alerts_name_metrics_and_labels_that_exist() {
    let receiver = Receiver::start(Conduct::Answer(204)).await;
    let settings = receiver.registered_in(Settings::mortal());
    let mut deployment = Deployment::with(Store::Redis, settings).await;
    let base = deployment.client().base().to_owned();
    let prometheus = Prometheus::start(base.trim_start_matches("http://"));
    let mut known = eventful(&mut deployment).await;
    known.extend(of_masters_and_keys().await);
    let (alerts, board) = (prometheus.alerts().await, expressions(&board()));
    assert!(alerts.len() >= 15 && board.len() >= 30);
    assert_is_shown(&board, &known);
    for (place, expression) in board.iter().chain(&alerts) {
        let expression = filled(expression);
        assert_names_exist(place, &expression, &known);
        let query = [("query", &*expression)];
        let accepted = prometheus.data("/api/v1/query", &query).await;
        assert!(
            accepted.is_some(),
            "{place}: Prometheus refuses {expression}"
        );
    }
    // Only the OpenMetrics format has this type.
    let metric = [("metric", "presence_build")];
    let build = eventually("a read of the metrics", async || {
        let metadata = prometheus.data("/api/v1/metadata", &metric).await?;
        let build = metadata["presence_build"][0]["type"].clone();
        build.is_string().then_some(build)
    })
    .await;
    assert_eq!(build, "info");
    let up = prometheus.data("/api/v1/query", &[("query", "up")]).await;
    assert_eq!(up.expect("a result")["result"][0]["value"][1], "1");
    assert_is_documented(&alerts, &known);
}

/// The board has a panel for each metric of the service.
fn assert_is_shown(board: &[(String, String)], known: &Labels) {
    let shown: BTreeSet<String> = board
        .iter()
        .flat_map(|(_, expression)| names_in(&filled(expression)).selectors)
        .map(|(metric, _)| family(&metric).to_owned())
        .collect();
    for name in known.keys().filter(|name| name.starts_with("presence_")) {
        assert!(shown.contains(family(name)), "no panel shows {name}");
    }
}

/// Each alert and each metric has its place in the document.
fn assert_is_documented(alerts: &[(String, String)], known: &Labels) {
    let document = file("docs/monitoring.md");
    for (alert, _) in alerts {
        assert!(document.contains(&format!("### {alert}\n")), "{alert}");
    }
    for name in known.keys().filter(|name| *name != "up") {
        let family = family(name);
        let cell = [format!("| `{family}` |"), format!("| `{family}{{")];
        let is_documented = cell.iter().any(|cell| document.contains(cell));
        assert!(is_documented, "{family} is not in docs/monitoring.md");
    }
}

#[test]
fn promtool_accepts_the_alerts_and_their_tests() {
    for arguments in [
        ["check", "rules", "infra/prometheus/alerts.yml"],
        ["test", "rules", "infra/prometheus/alerts_test.yml"],
    ] {
        let mut promtool = Command::new("promtool");
        let output = promtool.current_dir(ROOT).args(arguments).output();
        let output = output.expect("promtool of tests/install");
        let shown = [output.stdout, output.stderr].concat();
        let shown = String::from_utf8_lossy(&shown);
        assert!(output.status.success(), "{shown}");
    }
    let (alerts, tests) = (
        file("infra/prometheus/alerts.yml"),
        file("infra/prometheus/alerts_test.yml"),
    );
    for line in alerts.lines() {
        if let Some(alert) = line.trim().strip_prefix("- alert: ") {
            let fires =
                format!("        alertname: {alert}\n        exp_alerts:\n          - exp_labels:");
            assert!(tests.contains(&fires), "no test in which {alert} fires");
        }
    }
}

/// What Grafana needs to import the board.
#[test]
fn the_panels_of_the_board_have_ids_titles_and_places_of_their_own() {
    let board = board();
    assert!(board["id"].is_null() && board["uid"].is_string() && board["title"].is_string());
    let panels = board["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        assert!(
            !panel["title"].as_str().expect("a title").is_empty(),
            "{panel}"
        );
        let place = |side: &str| panel["gridPos"][side].as_u64().expect("a number");
        assert!(place("x") + place("w") <= 24, "{panel}");
        for y in place("y")..place("y") + place("h") {
            for x in place("x")..place("x") + place("w") {
                assert!(taken.insert((x, y)), "{panel} covers another panel");
            }
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
            assert!(panel["description"].is_string(), "{panel}");
        }
    }
}
