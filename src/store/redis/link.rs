//! How commands get to Redis and their answers back.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, Script, ScriptInvocation,
    ServerErrorKind, Value,
};

use super::main_connection::MainConnection;
use super::own_connection::OwnConnection;
use super::route::Route;
use crate::store::StoreError;

/// A way to Redis: the main connection, or one beside it while that stands.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) main: Arc<MainConnection>,
    own: Option<OwnConnection>,
}

/// A connection for one command, and which it is of whose.
struct Lent<'a> {
    connection: MultiplexedConnection,
    number: u64,
    lender: Lender<'a>,
}

enum Lender<'a> {
    Main(&'a MainConnection),
    Own(&'a OwnConnection),
}

impl Lent<'_> {
    fn failed(&self, error: RedisError) -> StoreError {
        match self.lender {
            Lender::Main(main) => main.failed(self.number, error),
            Lender::Own(own) => own.failed(self.number, error),
        }
    }
}

impl Link {
    /// A link by the main connection, which [`Link::supervise`] makes.
    pub(super) fn new(route: Route) -> Self {
        Self {
            main: Arc::new(MainConnection::new(route)),
            own: None,
        }
    }

    /// A link by a connection of its own beside the main one; each has to be supervised.
    pub(super) fn beside(&self) -> Self {
        Self {
            main: Arc::clone(&self.main),
            own: Some(OwnConnection::new()),
        }
    }

    /// Makes the connection, and again whenever it breaks, for as long as it is polled.
    pub(super) async fn supervise(&self) {
        match &self.own {
            Some(own) => own.supervise(&self.main).await,
            None => self.main.supervise().await,
        }
    }

    /// Runs one command.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut lent = self.connection().await?;
        let answer = command.query_async(&mut lent.connection).await;
        answer.map_err(|error| lent.failed(error))
    }

    /// Runs one command that may run twice: when the connection breaks under it, on the next one.
    pub(super) async fn query_again<T: FromRedisValue>(
        &self,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        let mut lent = self.connection().await?;
        match command.query_async(&mut lent.connection).await {
            Ok(answer) => Ok(answer),
            Err(error) if error.is_connection_dropped() => {
                lent.failed(error);
                self.query(command).await
            }
            Err(error) => Err(lent.failed(error)),
        }
    }

    /// Runs commands that may run twice, in one round trip, and answers each. The outer error says
    /// that none was answered.
    pub(super) async fn each_again(
        &self,
        commands: &Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let (lent, answers) = self.raw_again(commands).await?;
        Ok(checked(&lent, answers))
    }

    async fn raw_again(&self, commands: &Pipeline) -> Result<(Lent<'_>, Vec<Value>), StoreError> {
        let mut lent = self.connection().await?;
        let count = commands.len();
        let answers = match lent
            .connection
            .send_packed_commands(commands, 0, count)
            .await
        {
            Err(error) if error.is_connection_dropped() => {
                lent.failed(error);
                lent = self.connection().await?;
                lent.connection
                    .send_packed_commands(commands, 0, count)
                    .await
            }
            answers => answers,
        };
        let answers = answers.map_err(|error| lent.failed(error))?;
        Ok((lent, answers))
    }

    /// Runs `script` by its digest in each of `commands`, which may run twice, in one round trip.
    /// Where Redis forgot the script, it is loaded and they run again.
    pub(super) async fn scripts_again(
        &self,
        commands: &Pipeline,
        script: &Script,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        match self.raw_again(commands).await? {
            (mut lent, answers) if answers.iter().any(is_unknown_script) => {
                let loaded = script.load_async(&mut lent.connection).await;
                loaded.map_err(|error| lent.failed(error))?;
                self.each_again(commands).await
            }
            (lent, answers) => Ok(checked(&lent, answers)),
        }
    }

    /// Runs commands in one atomic step.
    pub(super) async fn transaction(&self, commands: &Pipeline) -> Result<(), StoreError> {
        let mut lent = self.connection().await?;
        // MULTI, what is said of each command as it queues, and EXEC. Where a command may not even
        // queue, EXEC only says that it was refused; why, stands before it.
        let count = commands.len() + 2;
        let answers = lent.connection.send_packed_commands(commands, 0, count);
        let answers = answers.await.map(Value::Array);
        let answers = answers.and_then(Value::extract_error);
        answers.map(drop).map_err(|error| lent.failed(error))
    }

    /// Runs a script, by its digest where Redis still knows it.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let mut lent = self.connection().await?;
        let answer = invocation.invoke_async(&mut lent.connection).await;
        answer.map_err(|error| lent.failed(error))
    }

    async fn connection(&self) -> Result<Lent<'_>, StoreError> {
        if let (Some(own), Some(main)) = (&self.own, self.main.generation())
            && let Some((number, connection)) = own.beside(main)
        {
            return Ok(Lent {
                connection,
                number,
                lender: Lender::Own(own),
            });
        }
        let (number, connection) = self.main.connection().await?;
        Ok(Lent {
            connection,
            number,
            lender: Lender::Main(&self.main),
        })
    }
}

fn checked(lent: &Lent<'_>, answers: Vec<Value>) -> Vec<Result<Value, StoreError>> {
    let checked = answers.into_iter().map(|value| {
        let value = value.extract_error();
        value.map_err(|error| lent.failed(error))
    });
    checked.collect()
}

fn is_unknown_script(answer: &Value) -> bool {
    let Value::ServerError(error) = answer else {
        return false;
    };
    let error = RedisError::from(error.clone());
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
