//! Environment variables that look like settings.

use harness::instance::{Instance, Settings};

#[tokio::test]
async fn an_unknown_variable_stops_the_start_and_is_named() {
    for (name, meant) in [
        ("PRESENCE_REDIS_URL", "did you mean REDIS_URL?"),
        ("PRESENCE_TTLL", "did you mean PRESENCE_TTL?"),
        ("PRESENCE_API_KEY", "did you mean PRESENCE_API_KEYS?"),
        ("PRESENCE_COLOUR", ""),
    ] {
        let settings = Settings::new().with(name, "redis://:hunter2@127.0.0.1:1/");
        let ended = Instance::run_to_its_end(&settings, &[]).await;
        assert_eq!(ended.status.code(), Some(2), "{name}: {}", ended.log);
        assert!(
            ended.log.contains(&format!("error: {name}: ")),
            "{}",
            ended.log
        );
        assert!(ended.log.contains(meant), "{name}: {}", ended.log);
        assert!(!ended.log.contains("hunter2"), "{}", ended.log);
        assert!(ended.output.is_empty(), "the instance started");
    }
}

/// The required setting was misspelt or forgotten. Without it the service would run in open mode, or on the embedded
/// store.
#[tokio::test]
async fn a_setting_without_its_required_setting_stops_the_start() {
    let keys = "board:presence.read:a-key-of-thirty-two-characters-ok";
    for (name, value, needed) in [
        (
            "PRESENCE_JWT_ISSUER",
            "https://id.example.com",
            "PRESENCE_JWT_SECRET",
        ),
        ("PRESENCE_JWT_AUDIENCE", "presence", "PRESENCE_JWT_SECRET"),
        ("PRESENCE_JWKS_CA_FILE", "Cargo.toml", "PRESENCE_JWKS_URL"),
        ("PRESENCE_REDIS_CA_FILE", "Cargo.toml", "REDIS_URL"),
    ] {
        let alone = Settings::new().with(name, value);
        for settings in [alone.clone(), alone.with("PRESENCE_API_KEYS", keys)] {
            let ended = Instance::run_to_its_end(&settings, &[]).await;
            assert_eq!(ended.status.code(), Some(2), "{name}: {}", ended.log);
            let names_both =
                ended.log.contains(&format!("error: {name}: ")) && ended.log.contains(needed);
            assert!(names_both, "{}", ended.log);
        }
    }
}

#[tokio::test]
async fn variables_that_kubernetes_sets_are_ignored() {
    let settings = Settings::new()
        .with("PRESENCE_PORT", "tcp://10.0.0.1:80")
        .with("PRESENCE_PORT_80_TCP_ADDR", "10.0.0.1")
        .with("PRESENCE_SERVICE_HOST", "10.0.0.1")
        .with("PRESENCE_SERVICE_PORT_HTTP", "80");
    let instance = Instance::start(&settings).await;
    assert_eq!(instance.client().get("/livez").await.status, 200);
    assert!(
        !instance.log().contains("PRESENCE_PORT is"),
        "{}",
        instance.log()
    );
    let instance = Instance::start(&Settings::new().with("PRESENCE_PORT", "9000")).await;
    assert!(
        instance.log().contains("PRESENCE_PORT is"),
        "{}",
        instance.log()
    );
}

#[tokio::test]
async fn the_health_check_and_the_openapi_document_ignore_bad_settings() {
    let settings = Settings::new().with("PRESENCE_COLOUR", "blue");
    let printed = Instance::run_to_its_end(&settings, &["--print-openapi"]).await;
    assert!(printed.status.success(), "{}", printed.log);
}
