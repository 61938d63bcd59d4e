//! The Redis Cluster that the tests share.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisResult, cmd};

use crate::names::cluster_of_tests;
use crate::wait::PATIENCE;

/// A command that is redirected more often than this has no server.
const MOST_REDIRECTIONS: usize = 5;

/// Runs commands at the masters of their keys.
pub(crate) struct SharedCluster {
    /// The connection to the master of the last command. The next key is likely to be there too.
    connection: MultiplexedConnection,
}

impl SharedCluster {
    /// Connects to a node of the cluster.
    pub(crate) async fn connect() -> Self {
        let url = cluster_of_tests().expect("a shared cluster");
        let seeds = url.split_once("://").expect("a URL").1;
        let seed = seeds.split([',', '/']).next().expect("a node");
        Self {
            connection: connect(seed).await.expect("a running node"),
        }
    }

    /// Runs one command, wherever its keys are in it. Panics if the command fails.
    pub(crate) async fn command<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        for _ in 0..MOST_REDIRECTIONS {
            let mut command = cmd(words[0]);
            command.arg(&words[1..]);
            let error = match command.query_async(&mut self.connection).await {
                Ok(reply) => return reply,
                Err(error) => error,
            };
            let Some((master, _)) = error.redirect_node() else {
                panic!("{words:?} failed: {error}");
            };
            self.connection = connect(master).await.expect("a running master");
        }
        panic!("{words:?} was redirected {MOST_REDIRECTIONS} times");
    }
}

async fn connect(address: &str) -> RedisResult<MultiplexedConnection> {
    let patient = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let client = Client::open(format!("redis://{address}/"))?;
    client
        .get_multiplexed_async_connection_with_config(&patient)
        .await
}
