//! The rights that the service needs on a server with an access control list.

use redis::Cmd;
use redis::aio::MultiplexedConnection;

use super::errors::{breaks_the_connection, lacks_a_right, store_error};
use crate::store::error::StoreError;
use crate::store::redis::format::keys::Keys;

/// What the scripts and the other calls send, with the fewest arguments; `K` stands for a key. Redis 7.0 crashes if it
/// is asked about a command with fewer. Commands that the service can do without are not here.
const COMMANDS: [&str; 63] = [
    "DEL K",
    "EVAL s 0",
    "EVALSHA s 0",
    "EXEC",
    "EXISTS K",
    "EXPIRE K 1",
    "GET K",
    "HDEL K f",
    "HEXISTS K f",
    "HGET K f",
    "HGETALL K",
    "HINCRBY K f 1",
    "HKEYS K",
    "HLEN K",
    "HMGET K f",
    "HSCAN K 0",
    "HSET K f v",
    "HSETNX K f v",
    "LINDEX K 0",
    "LPUSH K v",
    "LRANGE K 0 0",
    "MGET K",
    "MSET K v",
    "MULTI",
    "PERSIST K",
    "PEXPIRE K 1",
    "PEXPIREAT K 1",
    "PEXPIRETIME K",
    "RENAME K K",
    "RPOP K",
    "SADD K m",
    "SCAN 0",
    "SCARD K",
    "SCRIPT LOAD s",
    "SET K v",
    "SETRANGE K 0 v",
    "SISMEMBER K m",
    "SMEMBERS K",
    "SMISMEMBER K m",
    "SPOP K",
    "SREM K m",
    "SUNION K",
    "TIME",
    "UNLINK K",
    "XADD K * f v",
    "XLEN K",
    "XRANGE K - +",
    "XREVRANGE K + -",
    "XTRIM K MAXLEN 0",
    "ZADD K 0 m",
    "ZCARD K",
    "ZCOUNT K 0 0",
    "ZMSCORE K m",
    "ZRANGE K 0 0",
    "ZRANGEBYSCORE K 0 0",
    "ZRANK K m",
    "ZREM K m",
    "ZREMRANGEBYRANK K 0 0",
    "ZREMRANGEBYSCORE K 0 0",
    "ZREVRANGEBYSCORE K 0 0",
    "ZSCAN K 0",
    "ZSCORE K m",
    "ZUNIONSTORE K 1 K",
];

/// How many commands an error names.
const NAMED: usize = 5;

/// Asks which of the commands the Redis user may not run on the keys of a partition.
pub(in crate::store::redis) fn asks_for_rights(keys: &Keys) -> Cmd {
    let mut ask = redis::cmd("EVAL");
    ask.arg(include_str!("../scripts/rights.lua")).arg(1);
    ask.arg(&keys.absent).arg(&keys.bus).arg(&COMMANDS);
    ask
}

/// Fails if the Redis user may not run `missing`, the reply to [`asks_for_rights`].
pub(in crate::store::redis) fn check_reply(missing: &[String]) -> Result<(), StoreError> {
    if missing.is_empty() {
        return Ok(());
    }
    let named = missing.iter().take(NAMED);
    let named: Vec<&str> = named.filter_map(|each| each.split(' ').next()).collect();
    let mut named = named.join(", ");
    if missing.len() > NAMED {
        named += &format!(" and {} more", missing.len() - NAMED);
    }
    Err(StoreError::Unfit(format!(
        "the Redis user may not run these commands on the keys and channels of the service: {named}"
    )))
}

/// Fails if the Redis user may not run a command that the service needs.
pub(super) async fn check_rights(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
) -> Result<(), StoreError> {
    match asks_for_rights(keys)
        .query_async::<Vec<String>>(connection)
        .await
    {
        Ok(missing) => check_reply(&missing),
        Err(error) if lacks_a_right(&error) => check_reply(&["EVAL".to_owned()]),
        Err(error) if breaks_the_connection(&error) => Err(store_error(error)),
        // The slot of the key may be on another server.
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The texts of all files below `folder` with this ending.
    fn texts(folder: &Path, ending: &str) -> String {
        let mut all = String::new();
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                all += &texts(&path, ending);
            } else if path.to_string_lossy().ends_with(ending) {
                all += &fs::read_to_string(&path).expect("a file");
            }
        }
        all
    }

    /// What follows each `before` in `text`, up to one of `ends`.
    fn after<'a>(text: &'a str, before: &str, ends: &[char]) -> impl Iterator<Item = &'a str> {
        let rests = text.split(before).skip(1);
        rests.filter_map(move |rest| rest.split(ends).next())
    }

    #[test]
    fn every_command_of_the_scripts_and_calls_is_checked() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/redis");
        let (scripts, calls) = (texts(&folder, ".lua"), texts(&folder, ".rs"));
        let mut sent: BTreeSet<&str> = after(&scripts, "redis.call('", &['\'']).collect();
        sent.extend(after(&calls, "cmd(\"", &['"']));
        // This function of a script takes the command among its arguments.
        let arguments = after(&scripts, "call_for(", &[')']);
        sent.extend(arguments.filter_map(|arguments| arguments.split('\'').nth(1)));
        assert!(sent.contains("SMISMEMBER"), "{sent:?}");
        // Every server allows these, or the service does without, or another check finds them.
        for other in [
            "ASKING",
            "CLUSTER",
            "CONFIG",
            "INFO",
            "PING",
            "SCRIPT",
            "SENTINEL",
            "SUBSCRIBE",
            "SSUBSCRIBE",
        ] {
            sent.remove(other);
        }
        let checked = COMMANDS.iter().filter_map(|each| each.split(' ').next());
        let checked: BTreeSet<&str> = checked.collect();
        let missing: Vec<_> = sent.difference(&checked).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(COMMANDS.is_sorted());
    }
}
