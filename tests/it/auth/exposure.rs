//! The start with and without credentials, access to the metrics, and the origins of web pages.

use harness::client::{Answer, Client, send};
use harness::instance::{Instance, Settings};
use harness::redis_server::free_port;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    API_KEYS, READ_KEY, SECRET, WRITE_KEY, assert_refused, call, claims, instance_with_credentials,
    token,
};

/// The variables of credentials, limits and web pages.
const VARIABLES: [&str; 12] = [
    "PRESENCE_ALLOW_ANONYMOUS",
    "PRESENCE_JWT_SECRET",
    "PRESENCE_JWT_PUBLIC_KEY",
    "PRESENCE_JWKS_URL",
    "PRESENCE_JWT_ISSUER",
    "PRESENCE_JWT_AUDIENCE",
    "PRESENCE_API_KEYS",
    "PRESENCE_METRICS_LISTEN",
    "PRESENCE_CORS_ORIGINS",
    "PRESENCE_RATE_LIMIT",
    "PRESENCE_STREAMS_PER_CALLER",
    "PRESENCE_STREAMS",
];

#[tokio::test]
async fn without_credentials_only_loopback_is_allowed() {
    let port = free_port().to_string();
    let everywhere = Settings::new()
        .without("PRESENCE_LISTEN")
        .with("PORT", &port);
    for settings in [
        everywhere.clone(),
        Settings::new().with("PRESENCE_LISTEN", "0.0.0.0:0"),
        Settings::new().with("PRESENCE_LISTEN", "[::]:0"),
        everywhere.clone().with("PRESENCE_ALLOW_ANONYMOUS", "false"),
        everywhere
            .clone()
            .with("PRESENCE_JWT_ISSUER", "https://id.example.com"),
    ] {
        let ended = Instance::run_to_its_end(&settings, &[]).await;
        assert!(!ended.status.success(), "{settings:?}");
        assert!(
            ended.log.contains("PRESENCE_ALLOW_ANONYMOUS"),
            "{}",
            ended.log
        );
        assert!(ended.output.is_empty(), "no connection is accepted");
    }
    let anonymous = everywhere.clone().with("PRESENCE_ALLOW_ANONYMOUS", "true");
    let instance = Instance::start(&anonymous).await;
    assert!(instance.client().ping("alice").await.online);
    drop(instance);
    let keyed = everywhere.with("PRESENCE_API_KEYS", API_KEYS);
    let instance = Instance::start(&keyed).await;
    let client = instance.client();
    assert_refused(&client.get("/v1/online").await, 401, "no credential");
}

#[tokio::test]
async fn an_error_names_the_variable_and_does_not_show_the_value() {
    for (variable, value) in [
        ("PRESENCE_ALLOW_ANONYMOUS", "maybe"),
        ("PRESENCE_JWT_SECRET", "hunter2-is-short"),
        ("PRESENCE_JWT_SECRET", ""),
        ("PRESENCE_JWT_PUBLIC_KEY", "no/such/file.pem"),
        ("PRESENCE_JWKS_URL", "http://hunter2.example.com/keys"),
        ("PRESENCE_JWKS_URL", "https://user:hunter2@example.com/keys"),
        ("PRESENCE_JWT_ISSUER", ""),
        ("PRESENCE_JWT_AUDIENCE", ""),
        ("PRESENCE_API_KEYS", ""),
        ("PRESENCE_API_KEYS", "hunter2"),
        ("PRESENCE_API_KEYS", "a:presence.admin:hunter2"),
        ("PRESENCE_METRICS_LISTEN", "everywhere"),
        ("PRESENCE_CORS_ORIGINS", "app.example.com"),
        ("PRESENCE_RATE_LIMIT", "often"),
        ("PRESENCE_STREAMS", "0"),
        ("PRESENCE_STREAMS_PER_CALLER", "-1"),
    ] {
        let settings = Settings::new().with(variable, value);
        let ended = Instance::run_to_its_end(&settings, &[]).await;
        assert_eq!(
            ended.status.code(),
            Some(2),
            "{variable}={value}: {}",
            ended.log
        );
        assert!(ended.log.contains(variable), "{variable}: {}", ended.log);
        assert!(!ended.log.contains("hunter2"), "{}", ended.log);
        assert!(ended.output.is_empty(), "no connection is accepted");
    }
    let help = Instance::run_to_its_end(&super::settings_with_credentials(), &["--help"]).await;
    for secret in [SECRET, READ_KEY, WRITE_KEY] {
        assert!(!help.output.contains(secret), "{}", help.output);
    }
    for variable in VARIABLES {
        assert!(help.output.contains(variable), "{variable}");
    }
}

#[tokio::test]
async fn beyond_loopback_metrics_require_a_key_or_a_listener_of_their_own() {
    let (port, metrics_port) = (free_port().to_string(), free_port());
    let settings = super::settings_with_credentials()
        .without("PRESENCE_LISTEN")
        .with("PORT", &port)
        .with(
            "PRESENCE_METRICS_LISTEN",
            &format!("127.0.0.1:{metrics_port}"),
        );
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    assert_refused(&client.get("/metrics").await, 401, "no credential");
    for credential in [WRITE_KEY, &token(&claims("alice"))] {
        let answer = call(&client, Method::GET, "/metrics", credential).await;
        assert_refused(&answer, 403, "the wrong scope");
    }
    let answer = call(&client, Method::GET, "/metrics", READ_KEY).await;
    assert!(answer.body.contains("presence_pings"), "{}", answer.body);
    let apart = Client::new(&format!("http://127.0.0.1:{metrics_port}"));
    let answer = apart.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("presence_pings"), "{}", answer.body);
    for path in ["/livez", "/readyz"] {
        assert_eq!(apart.get(path).await.status, 200, "{path}");
    }
    for path in ["/v1/online", "/", "/docs/"] {
        assert_eq!(
            call(&apart, Method::GET, path, READ_KEY).await.status,
            404,
            "{path}"
        );
    }
}

#[tokio::test]
async fn only_pages_of_the_configured_origins_may_call() {
    let origin = "https://app.example.com";
    let settings = super::settings_with_credentials().with(
        "PRESENCE_CORS_ORIGINS",
        "https://a.example.com,https://app.example.com",
    );
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let preflight = |origin: &str, path: &str| {
        client
            .request(Method::OPTIONS, path)
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "POST")
            .header(
                "Access-Control-Request-Headers",
                "authorization,content-type,last-event-id",
            )
    };
    for path in ["/v1/users/alice/ping", "/v1/events", "/v1/online"] {
        let answer = send(preflight(origin, path)).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.status);
        assert_eq!(answer.header("access-control-allow-origin"), origin);
        let connection = answer.headers.get("connection");
        assert!(
            connection.is_none(),
            "the connection stays open for the request itself"
        );
        assert_preflight_allows_the_api(&answer);
        let stranger = send(preflight("https://evil.example.com", path)).await;
        assert_eq!(stranger.header("access-control-allow-origin"), "");
    }
    let instance = Instance::start(&super::settings_with_credentials()).await;
    let request = instance.client().request(Method::GET, "/livez");
    let answer = send(request.header("Origin", origin)).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

fn assert_preflight_allows_the_api(answer: &Answer) {
    let headers = answer.header("access-control-allow-headers");
    let headers = headers.to_ascii_lowercase();
    for header in ["authorization", "content-type", "last-event-id"] {
        assert!(headers.contains(header), "{headers}");
    }
    let methods = answer.header("access-control-allow-methods");
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        assert!(methods.split(',').any(|each| each == method), "{methods}");
    }
    let max_age = answer.header("access-control-max-age").parse::<u32>();
    assert!(max_age.is_ok());
}

#[tokio::test]
async fn a_page_can_read_the_error_and_its_headers() {
    let origin = "https://app.example.com";
    let settings = super::settings_with_credentials().with("PRESENCE_CORS_ORIGINS", origin);
    let instance = Instance::start(&settings).await;
    let request = instance.client().request(Method::GET, "/v1/online");
    let refused = send(request.header("Origin", origin)).await;
    assert_refused(&refused, 401, "no credential");
    assert_eq!(refused.header("access-control-allow-origin"), origin);
    let exposed = refused
        .header("access-control-expose-headers")
        .to_ascii_lowercase();
    assert!(exposed.contains("retry-after") && exposed.contains("www-authenticate"));
}

/// Error reporters and tracers add headers to every call of a page.
#[tokio::test]
async fn pages_may_send_any_header() {
    for origins in ["https://app.example.com,https://*.example.org", "*"] {
        let settings = super::settings_with_credentials().with("PRESENCE_CORS_ORIGINS", origins);
        let instance = Instance::start(&settings).await;
        let client = instance.client();
        for (origin, method) in [
            ("https://app.example.com", "POST"),
            ("https://a.b.example.org", "GET"),
            ("https://shop.example.org", "DELETE"),
        ] {
            let asked = "authorization,baggage,sentry-trace,traceparent,x-anything-else";
            let request = client
                .request(Method::OPTIONS, "/v1/users/alice/ping")
                .header("Origin", origin)
                .header("Access-Control-Request-Method", method)
                .header("Access-Control-Request-Headers", asked);
            let answer = send(request).await;
            assert!(answer.status.is_success(), "{}", answer.status);
            assert_eq!(answer.header("access-control-allow-headers"), asked);
            let methods = answer.header("access-control-allow-methods");
            assert!(methods.contains(method), "{methods}");
            let allowed = answer.header("access-control-allow-origin");
            assert!(allowed == origin || allowed == origins, "{allowed}");
            let ping = client.of_user("alice", "ping").header("Origin", origin);
            let ping = send(
                ping.header("traceparent", "00-1-1-01")
                    .bearer_auth(WRITE_KEY),
            )
            .await;
            assert_eq!(ping.status, 200);
            assert!(!ping.header("access-control-allow-origin").is_empty());
        }
        let stranger = client
            .of_user("alice", "ping")
            .header("Origin", "https://example.org");
        let answer = send(stranger.bearer_auth(WRITE_KEY)).await;
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, if origins == "*" { "*" } else { "" });
    }
}

#[tokio::test]
async fn an_origin_that_no_browser_sends_stops_the_start() {
    for (origins, hint) in [
        ("https://app.example.com/", "https://app.example.com"),
        ("https://app.example.com/app", "https://app.example.com"),
        (
            "https://ok.example.com,app.example.com",
            "https://app.example.com",
        ),
        ("https://App.example.com", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("https://app.*.com", "https://*.example.com"),
    ] {
        let settings = Settings::new().with("PRESENCE_CORS_ORIGINS", origins);
        let ended = Instance::run_to_its_end(&settings, &[]).await;
        assert_eq!(ended.status.code(), Some(2), "{origins}: {}", ended.log);
        assert!(ended.log.contains("PRESENCE_CORS_ORIGINS"), "{}", ended.log);
        assert!(ended.log.contains(hint), "{origins}: {}", ended.log);
    }
}

#[tokio::test]
async fn the_openapi_document_describes_the_credentials() {
    let instance = instance_with_credentials().await;
    let document: Value = instance.client().get("/openapi.json").await.ok();
    let scheme = &document["components"]["securitySchemes"]["bearer"];
    assert_eq!(
        (&scheme["type"], &scheme["scheme"]),
        (&json!("http"), &json!("bearer"))
    );
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let what = format!("{method} {path}");
            let security = operation["security"].to_string();
            let in_query = security.contains("eventsQuery");
            assert_eq!(security.contains("bearer"), !path.ends_with('z'), "{what}");
            assert_eq!(in_query, path == "/v1/events", "{what}");
            for status in ["401", "403", "429"] {
                let described = operation["responses"][status].is_object();
                assert_eq!(described, !path.ends_with('z'), "{status} of {what}");
            }
        }
    }
}
