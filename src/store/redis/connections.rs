//! Sends commands to Redis over the connection of a worker or the main connection.

use std::sync::Arc;

use redis::{Cmd, FromRedisValue, Pipeline, Script, ScriptInvocation, ServerErrorKind, Value};

use super::connection::{Channels, Checkout, Endpoint, Role, SupervisedConnection};
use super::replies::unexpected;
use crate::store::error::StoreError;

/// The connections to one Redis server: the main connection, the subscription, and the connection of a worker.
#[derive(Debug)]
pub(super) struct Connections {
    main: Arc<SupervisedConnection>,
    pub(super) subscription: Arc<SupervisedConnection>,
    worker: Option<SupervisedConnection>,
}

impl Connections {
    /// The main connection to `endpoint`, and a subscription to `channels`.
    pub(super) fn new(endpoint: Endpoint, channels: Channels) -> Self {
        let main = Arc::new(SupervisedConnection::new(Role::Main(Box::new(endpoint))));
        let subscription = Role::Subscription(Arc::clone(&main), channels);
        Self {
            main,
            subscription: Arc::new(SupervisedConnection::new(subscription)),
            worker: None,
        }
    }

    /// The same connections, and another one for a worker, which has to be supervised too.
    pub(super) fn with_own_connection(&self) -> Self {
        let worker = Role::Worker(Arc::clone(&self.main));
        Self {
            main: Arc::clone(&self.main),
            subscription: Arc::clone(&self.subscription),
            worker: Some(SupervisedConnection::new(worker)),
        }
    }

    /// Keeps the connection of the worker open, or else the main connection and the subscription, for as long as it
    /// is polled.
    pub(super) async fn supervise(&self) {
        match &self.worker {
            Some(worker) => worker.supervise().await,
            None => {
                tokio::join!(self.main.supervise(), self.subscription.supervise());
            }
        }
    }

    /// Runs one command.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut checkout = self.checkout().await?;
        let answer = command.query_async(&mut checkout.socket).await;
        answer.map_err(|error| checkout.failed(error))
    }

    /// Runs one idempotent command. If the connection breaks, the command is sent again on the next connection.
    pub(super) async fn query_idempotent<T: FromRedisValue>(
        &self,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        let mut checkout = self.checkout().await?;
        match command.query_async(&mut checkout.socket).await {
            Ok(answer) => Ok(answer),
            Err(error) if error.is_connection_dropped() => {
                checkout.failed(error);
                self.query(command).await
            }
            Err(error) => Err(checkout.failed(error)),
        }
    }

    /// Runs idempotent commands in one round trip and returns the reply to each. The outer error means that no command
    /// was answered.
    pub(super) async fn pipeline_idempotent(
        &self,
        commands: &Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let (checkout, answers) = self.raw_idempotent(commands).await?;
        Ok(checked(&checkout, answers))
    }

    async fn raw_idempotent(
        &self,
        commands: &Pipeline,
    ) -> Result<(Checkout<'_>, Vec<Value>), StoreError> {
        let mut checkout = self.checkout().await?;
        let count = commands.len();
        let answers = match checkout.send(commands, count).await {
            Err(error) if error.is_connection_dropped() => {
                checkout.failed(error);
                checkout = self.checkout().await?;
                checkout.send(commands, count).await
            }
            answers => answers,
        };
        let answers = answers.map_err(|error| checkout.failed(error))?;
        Ok((checkout, answers))
    }

    /// Runs idempotent commands that call `script` by its digest, in one round trip. If Redis does not know the script,
    /// the script is loaded and the commands are sent again.
    pub(super) async fn scripts_idempotent(
        &self,
        commands: &Pipeline,
        script: &Script,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        match self.raw_idempotent(commands).await? {
            (mut checkout, answers) if answers.iter().any(is_unknown_script) => {
                let loaded = script.load_async(&mut checkout.socket).await;
                loaded.map_err(|error| checkout.failed(error))?;
                self.pipeline_idempotent(commands).await
            }
            (checkout, answers) => Ok(checked(&checkout, answers)),
        }
    }

    /// Runs commands in one transaction.
    pub(super) async fn transaction(&self, commands: &Pipeline) -> Result<(), StoreError> {
        let mut checkout = self.checkout().await?;
        // The replies to MULTI, to each queued command and to EXEC. If Redis refuses to queue a command, the reply to
        // EXEC does not give the reason, but the reply to the command does.
        let answers = checkout.send(commands, commands.len() + 2).await;
        let answers = answers.map(Value::Array);
        let answers = answers.and_then(Value::extract_error);
        answers.map(drop).map_err(|error| checkout.failed(error))
    }

    /// Runs a script by its digest; a script that Redis does not know is loaded first.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let mut checkout = self.checkout().await?;
        let answer = invocation.invoke_async(&mut checkout.socket).await;
        answer.map_err(|error| checkout.failed(error))
    }

    /// Runs a script like [`Connections::script`], whose reply has an answer for each of some calls. The outer error means
    /// that no call was answered.
    pub(super) async fn script_calls(
        &self,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let mut checkout = self.checkout().await?;
        // As a pipeline, because the redis crate makes the error of one call the error of a single command.
        let mut command = redis::pipe();
        command.invoke_script(invocation);
        let mut answer = checkout.send(&command, 1).await;
        if matches!(&answer, Ok(answers) if answers.iter().any(is_unknown_script)) {
            let loaded = invocation.load_async(&mut checkout.socket).await;
            loaded.map_err(|error| checkout.failed(error))?;
            answer = checkout.send(&command, 1).await;
        }
        match answer.map_err(|error| checkout.failed(error))?.pop() {
            Some(Value::Array(answers)) => Ok(checked(&checkout, answers)),
            Some(answer) => {
                let error = answer.extract_error().err();
                let no_list = || unexpected("no list of answers");
                Err(error.map_or_else(no_list, |error| checkout.failed(error)))
            }
            None => Err(unexpected("no answer")),
        }
    }

    /// A socket of the worker's connection, or of the main one while the former is down.
    async fn checkout(&self) -> Result<Checkout<'_>, StoreError> {
        let worker = self.worker.as_ref();
        match worker.and_then(SupervisedConnection::checkout) {
            Some(checkout) => Ok(checkout),
            None => self.main.checkout_soon().await,
        }
    }
}

fn checked(checkout: &Checkout<'_>, answers: Vec<Value>) -> Vec<Result<Value, StoreError>> {
    let answers = answers.into_iter().map(Value::extract_error);
    answers
        .map(|answer| answer.map_err(|error| checkout.failed(error)))
        .collect()
}

fn is_unknown_script(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}
