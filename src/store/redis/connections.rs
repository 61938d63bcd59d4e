//! How commands get to Redis and their answers back.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, Script, ScriptInvocation,
    ServerErrorKind, Value,
};

use super::connection::{Endpoint, MainConnection, OwnConnection};
use crate::store::StoreError;

/// A way to Redis: the main connection, or one beside it while that stands.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) main: Arc<MainConnection>,
    own: Option<OwnConnection>,
}

/// A connection for one command, and which it is of whose.
struct Checkout<'a> {
    connection: MultiplexedConnection,
    number: u64,
    lender: Lender<'a>,
}

enum Lender<'a> {
    Main(&'a MainConnection),
    Own(&'a OwnConnection),
}

impl Checkout<'_> {
    fn failed(&self, error: RedisError) -> StoreError {
        match self.lender {
            Lender::Main(main) => main.failed(self.number, error),
            Lender::Own(own) => own.failed(self.number, error),
        }
    }
}

impl Connections {
    /// A connections by the main connection, which [`Connections::supervise`] makes.
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self {
            main: Arc::new(MainConnection::new(endpoint)),
            own: None,
        }
    }

    /// A connections by a connection of its own beside the main one; each has to be supervised.
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
        let mut checkout = self.connection().await?;
        let answer = command.query_async(&mut checkout.connection).await;
        answer.map_err(|error| checkout.failed(error))
    }

    /// Runs one command that may run twice: when the connection breaks under it, on the next one.
    pub(super) async fn query_idempotent<T: FromRedisValue>(
        &self,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        let mut checkout = self.connection().await?;
        match command.query_async(&mut checkout.connection).await {
            Ok(answer) => Ok(answer),
            Err(error) if error.is_connection_dropped() => {
                checkout.failed(error);
                self.query(command).await
            }
            Err(error) => Err(checkout.failed(error)),
        }
    }

    /// Runs commands that may run twice, in one round trip, and answers each. The outer error says
    /// that none was answered.
    pub(super) async fn pipeline_idempotent(
        &self,
        commands: &Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let (checkout, answers) = self.raw_again(commands).await?;
        Ok(checked(&checkout, answers))
    }

    async fn raw_again(
        &self,
        commands: &Pipeline,
    ) -> Result<(Checkout<'_>, Vec<Value>), StoreError> {
        let mut checkout = self.connection().await?;
        let count = commands.len();
        let answers = match checkout
            .connection
            .send_packed_commands(commands, 0, count)
            .await
        {
            Err(error) if error.is_connection_dropped() => {
                checkout.failed(error);
                checkout = self.connection().await?;
                checkout
                    .connection
                    .send_packed_commands(commands, 0, count)
                    .await
            }
            answers => answers,
        };
        let answers = answers.map_err(|error| checkout.failed(error))?;
        Ok((checkout, answers))
    }

    /// Runs `script` by its digest in each of `commands`, which may run twice, in one round trip.
    /// Where Redis forgot the script, it is loaded and they run again.
    pub(super) async fn scripts_idempotent(
        &self,
        commands: &Pipeline,
        script: &Script,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        match self.raw_again(commands).await? {
            (mut checkout, answers) if answers.iter().any(is_unknown_script) => {
                let loaded = script.load_async(&mut checkout.connection).await;
                loaded.map_err(|error| checkout.failed(error))?;
                self.pipeline_idempotent(commands).await
            }
            (checkout, answers) => Ok(checked(&checkout, answers)),
        }
    }

    /// Runs commands in one atomic step.
    pub(super) async fn transaction(&self, commands: &Pipeline) -> Result<(), StoreError> {
        let mut checkout = self.connection().await?;
        // MULTI, what is said of each command as it queues, and EXEC. Where a command may not even
        // queue, EXEC only says that it was refused; why, stands before it.
        let count = commands.len() + 2;
        let answers = checkout.connection.send_packed_commands(commands, 0, count);
        let answers = answers.await.map(Value::Array);
        let answers = answers.and_then(Value::extract_error);
        answers.map(drop).map_err(|error| checkout.failed(error))
    }

    /// Runs a script, by its digest where Redis still knows it.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let mut checkout = self.connection().await?;
        let answer = invocation.invoke_async(&mut checkout.connection).await;
        answer.map_err(|error| checkout.failed(error))
    }

    async fn connection(&self) -> Result<Checkout<'_>, StoreError> {
        if let (Some(own), Some(main)) = (&self.own, self.main.generation())
            && let Some((number, connection)) = own.beside(main)
        {
            return Ok(Checkout {
                connection,
                number,
                lender: Lender::Own(own),
            });
        }
        let (number, connection) = self.main.connection().await?;
        Ok(Checkout {
            connection,
            number,
            lender: Lender::Main(&self.main),
        })
    }
}

fn checked(checkout: &Checkout<'_>, answers: Vec<Value>) -> Vec<Result<Value, StoreError>> {
    let checked = answers.into_iter().map(|value| {
        let value = value.extract_error();
        value.map_err(|error| checkout.failed(error))
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
