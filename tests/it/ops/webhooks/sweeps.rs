//! `POST /v1/sweep` with webhooks, and during a hold.

use std::time::Duration;

use harness::deployment::{Deployment, Store};
use harness::instance::Settings;
use harness::process::Signal;
use harness::wait::eventually_true;
use reqwest::StatusCode;
use serde_json::json;

use super::is_registered;
use super::receiver::{Conduct, Receiver};

#[tokio::test]
async fn a_sweep_announces_what_is_due_and_sends_the_webhooks_before_it_answers() {
    for store in [Store::Embedded, Store::Redis] {
        let receiver = Receiver::start(Conduct::Answer(204)).await;
        let mortal = receiver.registered_in(Settings::mortal());
        let deployment = Deployment::with(store, mortal).await;
        is_registered(&deployment.client()).await;
        let client = deployment.client();
        client.connect("alice").await;
        let swept = client.post("/v1/sweep", &json!({})).await;
        assert_eq!(swept.status, StatusCode::OK, "{}", swept.body);
        assert_eq!(receiver.accepted(1).await, ["user.online alice"]);
        let swept: serde_json::Value = swept.ok();
        assert_eq!(
            (&swept["announced"], &swept["heldUntil"]),
            (&json!(0), &json!(null))
        );
        assert!(swept["delivered"].is_u64());
    }
}

/// No instance sweeps while all are frozen, so the departure is held, and a sweep says until when.
#[tokio::test]
async fn a_sweep_says_until_when_a_departure_is_held() {
    for store in [Store::Embedded, Store::Redis] {
        let deployment = Deployment::with(
            store,
            Settings::mortal().with("PRESENCE_PING_INTERVAL", "1500ms"),
        )
        .await;
        let client = deployment.client();
        client.connect("alice").await;
        deployment.instances[0].send(Signal::Stop);
        tokio::time::sleep(Duration::from_secs(3)).await;
        deployment.instances[0].send(Signal::Continue);
        let swept: serde_json::Value = client.post("/v1/sweep", &json!({})).await.ok();
        let until = swept["heldUntil"].as_str().map(str::to_owned);
        assert!(until.is_some(), "{swept}");
        eventually_true("the departure is announced after the hold", async || {
            let swept: serde_json::Value = client.post("/v1/sweep", &json!({})).await.ok();
            swept["heldUntil"].is_null()
        })
        .await;
    }
}
