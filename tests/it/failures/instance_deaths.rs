//! Instances that are killed.

use std::time::Duration;

use harness::client::crowd;
use harness::deployment::Deployment;
use harness::instance::Settings;
use harness::sse::{Stream, alternating};
use harness::timestamp::Timestamp;
use harness::wait::eventually_true;

use crate::failures::announced;
use crate::failures::traffic::Traffic;

#[tokio::test]
async fn two_instances_killed_in_mid_traffic_leave_the_events_alternating() {
    let mut deployment = Deployment::of(3, Settings::mortal()).await;
    let clients = deployment.clients();
    let survivor = clients[2].clone();
    let mut stream = Stream::open(&survivor, "").await;
    let doomed = Stream::open(&clients[0], "").await;
    let users = crowd("user", 20);
    let traffic = Traffic::start(8, &users, &clients);
    for victim in 0..2 {
        Timestamp::now().plus(Duration::from_secs(1)).pass().await;
        deployment.instances[victim].kill();
    }
    Timestamp::now().plus(Duration::from_secs(1)).pass().await;
    assert!(traffic.some_unanswered(), "the deaths were noticed");
    let told = traffic.stop().await;
    // A user is offline from its deadline on, but the next sweep announces it.
    eventually_true("all remaining users expire", async || {
        announced(&deployment).await == 0
    })
    .await;
    let events = stream.events_before_now(&survivor, "marker").await;
    assert!(events.len() > 100, "there was traffic");
    let histories = alternating(&events);
    for (user, history) in &histories {
        assert!(
            history.len().is_multiple_of(2),
            "{user} left in the end: {history:?}"
        );
        let (online, offline) = told.get(user).copied().unwrap_or_default();
        let count = |what: &str| history.iter().filter(|event| *event == what).count();
        // The caller of a transition gets no answer if the instance dies before it answers.
        assert!(count("online") >= online, "{user}: {history:?} {told:?}");
        assert!(
            count("disconnected") >= offline,
            "{user}: {history:?} {told:?}"
        );
    }
    let cursor = doomed.last_id();
    let mut resumed = Stream::resume(&survivor, "", &cursor).await;
    let rest = resumed.events_before_now(&survivor, "second-marker").await;
    let after = events.iter().position(|event| event.id == cursor);
    let after = after.map_or(0, |position| position + 1);
    let missed: Vec<_> = events[after..].iter().map(|event| &event.id).collect();
    let told_later: Vec<_> = rest.iter().map(|event| &event.id).collect();
    assert_eq!(
        told_later[..missed.len()],
        missed,
        "its readers resume elsewhere"
    );
}

#[tokio::test]
async fn after_all_instances_were_down_only_silent_users_are_announced_offline() {
    let mut deployment =
        Deployment::of(2, Settings::mortal().with("PRESENCE_PING_INTERVAL", "1s")).await;
    let watched = Stream::open(&deployment.client(), "").await;
    let cursor_before = watched.last_id();
    let users = crowd("user", 40);
    let (living, gone) = users.split_at(20);
    let alive = deployment.client().connect_each(&users).await;
    let deadline = alive.iter().map(|alive| alive.expires_at).max();
    for instance in &mut deployment.instances {
        instance.kill();
    }
    let deadline = deadline.expect("forty users");
    deadline.plus(Duration::from_secs(2)).pass().await;
    deployment.instances.clear();
    deployment.add_instance().await;
    let client = deployment.client();
    let mut stream = Stream::resume(&client, "", &cursor_before).await;
    let back = client.connect_each(living).await;
    assert!(
        back.iter().all(|alive| !alive.became_online),
        "the users have not left"
    );
    let mut events = stream.changes(users.len()).await;
    while events.len() < users.len() + gone.len() {
        for user in living {
            client.ping(user).await;
        }
        events.extend(stream.unread());
        Timestamp::now()
            .plus(Duration::from_millis(200))
            .pass()
            .await;
    }
    let mut left: Vec<String> = events[users.len()..]
        .iter()
        .map(|event| event.user())
        .collect();
    left.sort_unstable();
    assert_eq!(left, gone, "each of the gone once, none of the living");
    let online = client.everyone().await;
    assert_eq!(online.len(), living.len(), "{online:?}");
}
