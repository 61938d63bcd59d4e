//! The door itself: when it may stand open, who sees the metrics, which pages may call.

use harness::client::{Client, send};
use harness::instance::{Instance, Settings};
use harness::redis_server::free_port;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    API_KEYS, READ_KEY, SECRET, WRITE_KEY, assert_refused, call, claims, closed_instance, token,
};

/// Every variable about access.
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
async fn nobody_configured_is_for_loopback_alone() {
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
        assert!(ended.output.is_empty(), "it never accepted");
    }
    let meant = everywhere.clone().with("PRESENCE_ALLOW_ANONYMOUS", "true");
    let instance = Instance::start(&meant).await;
    assert!(instance.client().ping("alice").await.online);
    drop(instance);
    let keyed = everywhere.with("PRESENCE_API_KEYS", API_KEYS);
    let instance = Instance::start(&keyed).await;
    let client = instance.client();
    assert_refused(&client.get("/v1/online").await, 401, "closed");
}

#[tokio::test]
async fn a_bad_value_is_named_and_never_shown() {
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
        assert!(ended.output.is_empty(), "it never accepted");
    }
    let help = Instance::run_to_its_end(&super::closed(), &["--help"]).await;
    for secret in [SECRET, READ_KEY, WRITE_KEY] {
        assert!(!help.output.contains(secret), "{}", help.output);
    }
    for variable in VARIABLES {
        assert!(help.output.contains(variable), "{variable}");
    }
}

#[tokio::test]
async fn beyond_loopback_the_metrics_take_a_key_or_their_own_listener() {
    let (port, metrics_port) = (free_port().to_string(), free_port());
    let settings = super::closed()
        .without("PRESENCE_LISTEN")
        .with("PORT", &port)
        .with(
            "PRESENCE_METRICS_LISTEN",
            &format!("127.0.0.1:{metrics_port}"),
        );
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    assert_refused(&client.get("/metrics").await, 401, "nobody");
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
    for path in ["/v1/online", "/", "/docs/"] {
        assert_eq!(
            call(&apart, Method::GET, path, READ_KEY).await.status,
            404,
            "{path}"
        );
    }
}

#[tokio::test]
async fn pages_of_the_named_origins_may_call_and_no_others() {
    let origin = "https://app.example.com";
    let settings = super::closed().with(
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
        assert!(connection.is_none(), "the request itself is to follow");
        let headers = answer
            .header("access-control-allow-headers")
            .to_ascii_lowercase();
        for header in ["authorization", "content-type", "last-event-id"] {
            assert!(headers.contains(header), "{headers}");
        }
        let methods = answer.header("access-control-allow-methods");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            assert!(methods.split(',').any(|each| each == method), "{methods}");
        }
        assert!(
            answer
                .header("access-control-max-age")
                .parse::<u32>()
                .is_ok()
        );
        let stranger = send(preflight("https://evil.example.com", path)).await;
        assert_eq!(stranger.header("access-control-allow-origin"), "");
    }
    let refused = client
        .request(Method::GET, "/v1/online")
        .header("Origin", origin);
    let refused = send(refused).await;
    assert_refused(&refused, 401, "a page may read why");
    assert_eq!(refused.header("access-control-allow-origin"), origin);
    let exposed = refused
        .header("access-control-expose-headers")
        .to_ascii_lowercase();
    assert!(exposed.contains("retry-after") && exposed.contains("www-authenticate"));
    let instance = Instance::start(&super::closed()).await;
    let none = instance
        .client()
        .request(Method::GET, "/livez")
        .header("Origin", origin);
    assert_eq!(send(none).await.header("access-control-allow-origin"), "");
}

/// Error reporters and tracers add headers of their own to every call of a page.
#[tokio::test]
async fn pages_may_send_any_header_that_they_ask_for() {
    for origins in ["https://app.example.com,https://*.example.org", "*"] {
        let settings = super::closed().with("PRESENCE_CORS_ORIGINS", origins);
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
async fn the_document_says_what_to_bring() {
    let instance = closed_instance().await;
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
