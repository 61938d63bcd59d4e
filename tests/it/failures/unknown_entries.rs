//! History entries of kinds that a newer version may write.

use harness::deployment::Deployment;
use harness::instance::Settings;
use harness::sse::{Stream, briefs};

/// Appends and publishes an entry as `announce.lua` does, with any text after the predecessor. The keys are those of
/// the history and of the epoch.
const ANNOUNCE: &str = "
    local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
    local entry = (last[1] and last[1][1] or '0-0') .. ' ' .. ARGV[1]
    local id = redis.call('XADD', KEYS[1], '*', 'e', entry)
    local published = redis.call('GET', KEYS[2]) .. '\\n' .. id .. ' ' .. entry
    return redis.call(ARGV[2], ARGV[3], published)";

/// Entries of kinds that do not exist.
const UNKNOWN: [&str; 4] = [
    "away 1795507200123 0 alice",
    "joined",
    "w {\"of\": \"another form\"}  x",
    "x ",
];

/// Announces the entry in the partition of bob.
async fn announce(deployment: &Deployment, entry: &str, channel: &str) {
    let names = deployment.names();
    let of_bob = |name| names.key(name, "bob");
    let (events, epoch, channel) = (of_bob("events"), of_bob("epoch"), of_bob(channel));
    let keys = ["EVAL", ANNOUNCE, "2", &events, &epoch];
    let words = [&keys[..], &[entry, names.publish(), &channel]].concat();
    let _heard: usize = deployment.command(&words).await;
}

/// Tests the entries on the bus, after a gap, and at the start of an instance. With another `channel` the bus does not
/// carry them.
async fn unknown_kinds_show_nothing(channel: &str) {
    let mut deployment = Deployment::of(1, Settings::new()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let cursor = stream.last_id();
    client.connect("alice").await;
    for entry in UNKNOWN {
        announce(&deployment, entry, channel).await;
    }
    client.connect("bob").await;
    let expected = ["online alice", "online bob"];
    assert_eq!(briefs(&stream.changes(2).await), expected);
    let mut resumed = Stream::resume(&client, "", &cursor).await;
    let events = resumed.events_before_now(&client, "marker").await;
    let reset = |name: &str| events.iter().any(|event| event.name == name);
    assert!(!reset("presence.reset"), "{events:?}");
    deployment.add_instance().await;
    let fresh = deployment.clients()[1].clone();
    let mut resumed = Stream::resume(&fresh, "?snapshot=true", &cursor).await;
    assert_eq!(briefs(&resumed.changes(2).await), expected);
    let mut snapshot = Stream::open(&fresh, "?snapshot=true").await;
    assert_eq!(snapshot.snapshot().await, ["alice", "bob", "marker"]);
}

#[tokio::test]
async fn an_entry_of_an_unknown_kind_on_the_bus_is_skipped() {
    unknown_kinds_show_nothing("bus").await;
}

#[tokio::test]
async fn an_entry_of_an_unknown_kind_in_the_history_is_skipped() {
    unknown_kinds_show_nothing("elsewhere").await;
}

/// A foreign entry breaks the chain of predecessors. Streams are reset and go on after it.
#[tokio::test]
async fn a_foreign_entry_in_the_history_stops_no_stream() {
    let deployment = Deployment::of(1, Settings::new()).await;
    let client = deployment.client();
    let mut stream = Stream::open(&client, "").await;
    let history = deployment.names().key("events", "alice");
    let add = ["XADD", &history, "*", "hello", "world", "a", "b"];
    let _id: String = deployment.command(&add).await;
    client.connect("alice").await;
    // The streams go on at the end of the history, which may be after the event of alice.
    assert_eq!(stream.next().await.name, "presence.reset");
    client.connect("bob").await;
    stream.collect_until(|event| event.user() == "bob").await;
}
