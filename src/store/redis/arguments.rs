//! How long commands may be.

use redis::Pipeline;

/// The most words of a command, with its name. Some services refuse longer ones, such as Amazon ElastiCache Serverless.
const MAX_ARGUMENTS: usize = 3_999;

/// Whether every service accepts commands of this length.
pub(super) fn fit(commands: &Pipeline) -> bool {
    let mut commands = commands.cmd_iter();
    commands.all(|command| command.args_iter().count() <= MAX_ARGUMENTS)
}

#[cfg(test)]
mod tests {
    use redis::ScriptInvocation;

    use super::*;
    use crate::config::Config;
    use crate::model::{GroupId, MoveRole, Partition, UserId};
    use crate::store::policy::SWEEP_BATCH;
    use crate::store::redis::RedisStore;
    use crate::store::redis::batches::call_batcher::{CallBatcher, SCRIPT_CALLS};
    use crate::store::redis::calls::groups::GROUPS_AT_ONCE;
    use crate::store::redis::calls::lookups::MOST_KEYS;
    use crate::store::redis::calls::sweep::RECHECK_STEP;

    /// The arguments of a call about a user, after the id of the user.
    const CALL_ARGUMENTS: usize = 2;

    fn assert_fits(what: &str, invocation: &ScriptInvocation<'_>) {
        let mut commands = redis::pipe();
        commands.invoke_script(invocation);
        assert!(fit(&commands), "{what}");
    }

    #[tokio::test]
    async fn no_script_has_more_arguments_than_services_accept() {
        let url = "redis://127.0.0.1:1".parse().expect("a URL");
        let store = RedisStore::open(&Config::default(), &url, MoveRole::Only).expect("a store");
        let keys = store.layout.keys(Partition::FIRST);
        let users: Vec<_> = (0..MOST_KEYS)
            .map(|number| UserId::new(&format!("user-{number}")).expect("an id"))
            .collect();
        let several = |count: usize| users[..count].iter().collect::<Vec<_>>();
        let batcher = CallBatcher::default();
        for user in &users[..SCRIPT_CALLS] {
            batcher.join(user, vec![String::new(); CALL_ARGUMENTS]);
        }
        let calls = batcher.take();
        assert_fits("connects", &store.connect_calls(Partition::FIRST, &calls));
        assert_fits(
            "disconnects",
            &store.disconnect_calls(Partition::FIRST, &calls),
        );
        let due = several(SWEEP_BATCH);
        assert_fits("departures", &store.departures(keys, &due));
        let found = several(2 * RECHECK_STEP);
        assert_fits("a recheck", &store.rechecked(keys, 0, 0, &found));
        let places: Vec<_> = (0..MOST_KEYS).collect();
        assert_fits("a list", &store.announced_of(keys, &places, &users));
        let mut read = redis::pipe();
        read.add_command(store.look_up("MGET", Partition::FIRST, &places, &users));
        assert!(fit(&read), "a lookup");
        let groups = (0..GROUPS_AT_ONCE).map(|number| GroupId::new(&format!("group-{number}")));
        let groups: Vec<_> = groups.map(|group| group.expect("an id")).collect();
        let mut asked = redis::pipe();
        asked.add_command(store.asks_for_memberships(Partition::FIRST, &groups, &users[0]));
        assert!(fit(&asked), "the groups of a user");
    }
}
