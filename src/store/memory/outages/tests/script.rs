//! The scripts of the Redis store compute the same end of a hold.

use harness::redis_server::RedisServer;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use redis::RedisResult;

use super::*;

const STORIES: usize = 3_000;

/// The end of the hold of a connection after all outages.
const HOLD: &str = concat!(
    include_str!("../../../redis/scripts/outages.lua"),
    "
    local now, deadline, ttl, interval = unpack(ARGV, 6, 9)
    for i = 10, #ARGV do
      redis.call('ZADD', KEYS[7], ARGV[i]:match('^%d+ (%d+)'), ARGV[i])
    end
    local hold = held_until(tonumber(now), tonumber(deadline), tonumber(ttl), tonumber(interval))
    redis.call('DEL', KEYS[7])
    return string.format('%.0f', math.max(hold, deadline))
    "
);

impl Story {
    /// The outages as the Redis store keeps them.
    fn recorded(&self) -> Vec<String> {
        let stalls = self.stalls().into_iter().zip(&self.turns).enumerate();
        let recorded = stalls.map(|(place, ((from, to), (ran_for, _)))| {
            let is_short = place > 0 && *ran_for < millis(OUTAGE);
            let mark = if is_short { " throttled" } else { "" };
            format!("{} {}{mark}", START + from, START + to)
        });
        recorded.collect()
    }
}

fn evaluation(pipeline: &mut redis::Pipeline, story: &Story) {
    let evaluation = pipeline.cmd("EVAL").arg(HOLD).arg(7);
    for key in ["1", "2", "3", "4", "5", "swept", "outages"] {
        evaluation.arg(key);
    }
    for unused in ["1", "2", "3", "4"] {
        evaluation.arg(unused);
    }
    let long_after = 100 * START;
    evaluation
        .arg(format!("{} 0", millis(SHORTEST_OUTAGE)))
        .arg(long_after)
        .arg(START + story.deadline())
        .arg(story.ttl)
        .arg(story.interval)
        .arg(story.recorded());
}

#[tokio::test]
async fn both_stores_end_a_hold_at_the_same_time() {
    let redis = RedisServer::start().await;
    let mut connection = redis.connection().await.expect("a running server");
    let mut runner = TestRunner::default();
    let mut one = || {
        let tree = story().new_tree(&mut runner).expect("a story");
        let mut story = tree.current();
        // The scripts calculate in whole milliseconds.
        story.interval = (story.interval / 5 * 5).max(5);
        story
    };
    let stories: Vec<Story> = std::iter::repeat_with(&mut one).take(STORIES).collect();
    let mut held = 0;
    for some in stories.chunks(250) {
        let mut pipeline = redis::pipe();
        some.iter()
            .for_each(|story| evaluation(&mut pipeline, story));
        let ends: RedisResult<Vec<u64>> = pipeline.query_async(&mut connection).await;
        for (story, end) in some.iter().zip(ends.expect("the script runs")) {
            let expected = story.end_after(&story.stalls());
            assert_eq!(end - START, expected, "{story:?}");
            held += usize::from(expected > story.deadline());
        }
    }
    assert!(held > STORIES / 10, "{held} departures were held");
}
