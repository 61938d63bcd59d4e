//! What a receiver of webhooks is told.

use harness::instance::Settings;
use harness::wait::eventually;
use serde_json::Value;

use crate::ops::webhooks::receiver::Receiver;

pub(super) fn with_receiver(settings: Settings, receiver: &Receiver) -> Settings {
    let secret = "crm:whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    settings
        .with("PRESENCE_WEBHOOKS", &format!("crm:{}", receiver.url()))
        .with("PRESENCE_WEBHOOK_SECRETS", secret)
}

/// Waits for an event, and returns all so far, as `name subject`.
pub(super) async fn is_told(receiver: &Receiver, event: &str) -> Vec<String> {
    eventually(event, async || {
        let told = told(receiver);
        told.iter().any(|each| each == event).then_some(told)
    })
    .await
}

fn told(receiver: &Receiver) -> Vec<String> {
    let mut told = Vec::new();
    for webhook in receiver.received() {
        let body: Value = serde_json::from_str(&webhook.body).expect("JSON");
        for event in body["data"]["events"].as_array().expect("a list") {
            let subjects =
                ["userId", "groupId", "reason"].map(|field| event["data"][field].as_str());
            let subject = subjects.into_iter().flatten().next();
            let name = event["event"].as_str().expect("a name");
            told.push(format!("{name} {}", subject.expect("a subject")));
        }
    }
    told
}
