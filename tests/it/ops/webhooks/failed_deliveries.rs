//! Receivers that refuse, redirect, answer late or have an untrusted certificate.

use std::time::Duration;

use harness::deployment::{Deployment, Store};
use harness::instance::{Instance, Settings};
use harness::redis_server::RedisServer;
use harness::serial::run_quietly;
use harness::wait::eventually_true;

use super::receiver::{Conduct, Receiver};
use super::{SECRET, delivery_key, each_store, is_registered, settings};
use crate::auth::jwks_tls::untrusted;

#[tokio::test]
async fn a_failed_batch_is_sent_again_unchanged_after_a_pause() {
    each_store(async |deployment, receiver| {
        receiver.now(Conduct::Answer(500));
        let client = deployment.client();
        client.connect("alice").await;
        receiver.attempts(1).await;
        client.connect("bob").await;
        let failed = receiver.attempts(2).await;
        receiver.now(Conduct::Answer(204));
        assert_eq!(
            receiver.accepted(2).await,
            ["user.online alice", "user.online bob"]
        );
        let accepted = receiver.received();
        for attempt in &accepted[1..3] {
            assert_eq!(
                (attempt.id(), &attempt.body),
                (failed[0].id(), &failed[0].body)
            );
        }
        let pause = failed[1].at - failed[0].at;
        assert!(pause >= Duration::from_millis(950), "{pause:?}");
        let log = deployment.instances[0].log();
        assert_eq!(
            log.matches("a webhook was not delivered").count(),
            1,
            "{log}"
        );
        assert!(
            log.contains("status 500") && log.contains("delivered again"),
            "{log}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_receiver_that_asks_for_the_next_attempt_at_once_gets_it_after_the_usual_pause() {
    each_store(async |deployment, receiver| {
        receiver.now(Conduct::RetryAfter(0));
        deployment.client().connect("alice").await;
        let failed = receiver.attempts(2).await;
        let pause = failed[1].at - failed[0].at;
        assert!(pause >= Duration::from_millis(950), "{pause:?}");
    })
    .await;
}

#[tokio::test]
async fn a_pause_does_not_grow_when_the_clock_of_redis_is_set_back() {
    run_quietly();
    let receiver = Receiver::start(Conduct::Answer(500)).await;
    let redis = RedisServer::start_with_clock().await;
    let settings = settings(&receiver).with("REDIS_URL", &redis.url());
    let instance = Instance::start(&settings).await;
    is_registered(&instance.client()).await;
    instance.client().connect("alice").await;
    receiver.attempts(1).await;
    redis.set_clock_ahead(-3_600_000);
    receiver.now(Conduct::Answer(204));
    assert_eq!(receiver.accepted(1).await, ["user.online alice"]);
}

#[tokio::test]
async fn a_receiver_decides_how_long_it_is_left_alone() {
    let receiver = Receiver::start(Conduct::RetryAfter(600)).await;
    let deployment = Deployment::on_one_server(1, settings(&receiver)).await;
    is_registered(&deployment.client()).await;
    for (conduct, least, most) in [
        (Conduct::RetryAfter(600), 590_000, 720_000),
        (Conduct::Answer(410), 3_590_000, 4_320_000),
    ] {
        receiver.now(conduct);
        let before = receiver.received().len();
        deployment
            .redis()
            .command::<i64>(&["HSET", &delivery_key(&deployment), "retry", "0"])
            .await;
        deployment.client().connect(&format!("{conduct:?}")).await;
        receiver.attempts(before + 1).await;
        eventually_true("the pause is in the store", async || {
            let retry: u64 = deployment
                .redis()
                .command(&["HGET", &delivery_key(&deployment), "retry"])
                .await;
            let time: (u64, u64) = deployment.redis().command(&["TIME"]).await;
            let pause = retry.saturating_sub(time.0 * 1_000);
            (least..most).contains(&pause)
        })
        .await;
    }
}

#[tokio::test]
async fn a_bad_answer_is_a_failed_delivery_and_harms_nothing_else() {
    for conduct in [Conduct::Redirect, Conduct::Flood, Conduct::Drip] {
        let bad = Receiver::start(conduct).await;
        let good = Receiver::start(Conduct::Answer(204)).await;
        let receivers = format!("bad:{},good:{}", bad.url(), good.url());
        let secrets = format!("bad:{SECRET},good:{SECRET}");
        let settings = Settings::new()
            .with("PRESENCE_WEBHOOKS", &receivers)
            .with("PRESENCE_WEBHOOK_SECRETS", &secrets);
        let deployment = Deployment::with(Store::Embedded, settings).await;
        is_registered(&deployment.client()).await;
        let client = deployment.client();
        client.connect("alice").await;
        assert_eq!(good.accepted(1).await, ["user.online alice"]);
        let failed = r#"presence_webhook_deliveries_total{receiver="bad",outcome="failed"} "#;
        eventually_true("the delivery fails", async || {
            client.get("/metrics").await.body.contains(failed)
        })
        .await;
        eventually_true("the failure is logged", async || {
            let log = deployment.instances[0].log();
            log.contains("a webhook was not delivered")
        })
        .await;
        client.connect("bob").await;
        assert_eq!(good.accepted(2).await.len(), 2);
    }
}

#[tokio::test]
async fn a_receiver_with_a_certificate_of_an_unknown_authority_gets_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("https://{}/", listener.local_addr().expect("an address"));
    let settings = Settings::new()
        .with("PRESENCE_WEBHOOKS", &format!("crm:{url}"))
        .with("PRESENCE_WEBHOOK_SECRETS", &format!("crm:{SECRET}"));
    let tls = untrusted();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let refused = tls.accept(stream).await;
            assert!(refused.is_err(), "the service must refuse the certificate");
        }
    });
    let deployment = Deployment::with(Store::Embedded, settings).await;
    is_registered(&deployment.client()).await;
    deployment.client().connect("alice").await;
    eventually_true("the failure is logged", async || {
        deployment.instances[0].log().contains("certificate")
    })
    .await;
}

#[tokio::test]
async fn a_slow_receiver_delays_no_other_receiver() {
    let slow = Receiver::start(Conduct::Late(5_000)).await;
    let good = Receiver::start(Conduct::Answer(204)).await;
    let receivers = format!("slow:{},good:{}", slow.url(), good.url());
    let settings = Settings::new().with("PRESENCE_WEBHOOKS", &receivers).with(
        "PRESENCE_WEBHOOK_SECRETS",
        &format!("slow:{SECRET},good:{SECRET}"),
    );
    let deployment = Deployment::with(Store::Redis, settings).await;
    is_registered(&deployment.client()).await;
    deployment.client().connect("alice").await;
    slow.attempts(1).await;
    deployment.client().connect("bob").await;
    assert_eq!(good.accepted(2).await.len(), 2);
    assert_eq!(slow.received().len(), 1);
}
