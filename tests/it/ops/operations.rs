//! Health, readiness and documents.

use harness::client::{media_type, send};
use harness::deployment::{Deployment, Store, on_both_stores};
use harness::instance::{Instance, Settings};
use harness::redis_server::{RedisServer, free_port};

async fn an_instance_is_live_and_ready(store: Store) {
    let deployment = Deployment::start(store).await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(deployment.client().get(path).await.status, 200, "{path}");
    }
}

async fn the_documents_are_served_from_the_binary(store: Store) {
    let deployment = Deployment::start(store).await;
    let client = deployment.client();
    let document = client.get("/openapi.json").await;
    assert_eq!(media_type(&document.headers), "application/json");
    let document: serde_json::Value = document.ok();
    assert!(document["paths"]["/v1/events"]["get"].is_object());
    let page = client.get("/docs/").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("swagger-ui"), "{}", page.body);
    for asset in ["swagger-ui-bundle.js", "swagger-ui.css"] {
        let asset = client.get(&format!("/docs/{asset}")).await;
        assert_eq!(asset.status, 200);
    }
}

#[tokio::test]
async fn without_redis_an_instance_is_live_and_not_ready() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let settings = Settings::new().with("REDIS_URL", &url);
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    assert_eq!(client.get("/livez").await.status, 200);
    let ready = client.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(!ready.header("retry-after").is_empty());
    let help = Instance::run_to_its_end(&settings, &["--healthcheck"]).await;
    assert_eq!(help.status.code(), Some(1), "nothing listens at port 0");
    let listen = instance.address().to_string();
    let settings = settings.with("PRESENCE_LISTEN", &listen);
    let health = Instance::run_to_its_end(&settings, &["--healthcheck"]).await;
    assert_eq!(health.status.code(), Some(0));
}

/// A right and a wrong password appear neither in answers nor in the log.
#[tokio::test]
async fn the_password_of_redis_is_not_shown() {
    let redis = RedisServer::start().await;
    let settings = ["CONFIG", "SET", "requirepass", "open-sesame"];
    redis.command::<()>(&settings).await;
    let url = |password| redis.url().replace("//", &format!("//:{password}@"));
    let with = |password| Settings::new().with("REDIS_URL", &url(password));
    let welcome = Instance::start(&with("open-sesame")).await;
    welcome.client().connect("alice").await;
    let refused = Instance::start(&with("open-barley")).await;
    let ready = refused.client().get("/readyz").await;
    assert_eq!(ready.status, 503);
    let ping = send(refused.client().of_user("alice", "ping")).await;
    assert_eq!(ping.status, 503);
    for text in [&welcome.log(), &refused.log(), &ready.body, &ping.body] {
        assert!(!text.contains("open-"), "{text}");
    }
}

on_both_stores!(
    an_instance_is_live_and_ready,
    the_documents_are_served_from_the_binary,
);
