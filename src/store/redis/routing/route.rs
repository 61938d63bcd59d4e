//! Sends commands about one partition to the node that serves it, wherever that is now.

use futures_util::future::join_all;
use redis::{
    Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Script, ScriptInvocation, Value,
};

use super::lanes::Lanes;
use super::pursuit::{Next, Pursuit};
use crate::model::Partition;
use crate::store::error::StoreError;
use crate::store::redis::cluster::redirect::Refused;
use crate::store::redis::connection::{Checkout, store_error};
use crate::store::redis::format::replies::unexpected;

/// The way to a partition for the calls of one worker.
///
/// A node that refused a command did not run it, so the command is sent again: to the node to which the first one
/// redirects, or after a pause. A command that was not written when its connection broke did not run either. Any other
/// command without a reply may have run, so it is sent again only if it is idempotent.
#[derive(Clone, Copy)]
pub(in crate::store::redis) struct Route<'a> {
    lanes: &'a Lanes,
    partition: Partition,
    is_patient: bool,
}

/// What is sent in one write.
#[derive(Clone, Copy)]
enum Request<'a> {
    Command(&'a Cmd, Option<&'a Script>),
    Script(&'a ScriptInvocation<'a>),
    Transaction(&'a Pipeline, Option<&'a Script>),
}

/// The answer to a command with several keys.
#[derive(Clone, Debug)]
pub(in crate::store::redis) enum Answer {
    /// To the command.
    Whole(Result<Value, StoreError>),
    /// To the commands for each of its keys.
    Apart(Vec<Result<Value, StoreError>>),
}

/// The answers to commands that were sent together.
enum Sent {
    /// No answer is a refusal by a node of a cluster.
    Judged(Vec<Answer>),
    /// Some answers are refusals.
    Refused(Vec<RedisResult<Value>>),
}

/// Whether a request may run twice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Idempotent,
    Once,
}

impl Lanes {
    /// The way to a partition.
    pub(in crate::store::redis) fn to(&self, partition: Partition) -> Route<'_> {
        Route {
            lanes: self,
            partition,
            is_patient: true,
        }
    }
}

impl Request<'_> {
    /// Sends the request and returns its reply. With `asking`, the node also serves a slot that is on its way to it.
    async fn send(self, checkout: &mut Checkout<'_>, asking: bool) -> RedisResult<Value> {
        if asking {
            return Box::pin(self.send_asking(checkout)).await;
        }
        match self {
            Self::Command(command, _) => {
                checked(checkout.socket.send_packed_command(command).await?)
            }
            Self::Script(invocation) => {
                let mut command = Pipeline::with_capacity(1);
                command.invoke_script(invocation);
                last(checkout.send(&command, 1).await?)
            }
            // The replies to MULTI, to each queued command and to EXEC. If Redis refuses to queue a command, the reply
            // to EXEC does not give the reason, but the reply to the command does.
            Self::Transaction(commands, _) => {
                all(checkout.send(commands, commands.len() + 2).await?)
            }
        }
    }

    async fn send_asking(self, checkout: &mut Checkout<'_>) -> RedisResult<Value> {
        let mut commands = redis::pipe();
        commands.cmd("ASKING");
        match self {
            Self::Command(command, _) => {
                commands.add_command(command.clone());
            }
            Self::Script(invocation) => {
                commands.invoke_script(invocation);
            }
            Self::Transaction(queued, _) => {
                // MULTI keeps the effect of ASKING until EXEC.
                commands.cmd("MULTI");
                for command in queued.cmd_iter() {
                    commands.add_command(command.clone());
                }
                commands.cmd("EXEC");
            }
        }
        let replies = checkout.send(&commands, commands.len()).await?;
        match self {
            Self::Transaction(..) => all(replies),
            _ => last(replies),
        }
    }

    /// Loads the script of the request into the node.
    async fn load_script(self, checkout: &mut Checkout<'_>) -> RedisResult<()> {
        match self {
            Self::Command(_, Some(script)) | Self::Transaction(_, Some(script)) => {
                script.load_async(&mut checkout.socket).await.map(drop)
            }
            Self::Script(invocation) => invocation.load_async(&mut checkout.socket).await.map(drop),
            _ => Ok(()),
        }
    }
}

impl Route<'_> {
    /// The same way for commands that are repeated soon anyway. A command that needs a pause fails instead.
    pub(in crate::store::redis) fn without_pauses(self) -> Self {
        Self {
            is_patient: false,
            ..self
        }
    }

    /// Runs one command.
    pub(in crate::store::redis) async fn query<T: FromRedisValue>(
        self,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        self.run(Request::Command(command, None), Repeat::Once)
            .await
    }

    /// Runs one idempotent command. If the connection breaks, the command is sent again on the next connection.
    pub(in crate::store::redis) async fn query_idempotent<T: FromRedisValue>(
        self,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        self.run(Request::Command(command, None), Repeat::Idempotent)
            .await
    }

    /// Runs a script by its digest. A script that Redis does not know is loaded first.
    pub(in crate::store::redis) async fn script<T: FromRedisValue>(
        self,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.run(Request::Script(invocation), Repeat::Once).await
    }

    /// Runs a script like [`Route::script`], whose reply has an answer for each of some calls. The outer error means
    /// that no call was answered.
    pub(in crate::store::redis) async fn script_calls(
        self,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let answer = self.answer(Request::Script(invocation), Repeat::Once, None);
        let Value::Array(answers) = answer.await? else {
            return Err(unexpected("no list of answers"));
        };
        let answers: Vec<_> = answers.into_iter().map(Value::extract_error).collect();
        let lane = self.lanes.of(self.partition).ok();
        let checkout = lane.as_ref().and_then(|lane| lane.checkout_now());
        let failed = |error| match &checkout {
            Some(checkout) => checkout.failed(error),
            None => store_error(error),
        };
        let answers = answers.into_iter();
        Ok(answers.map(|answer| answer.map_err(failed)).collect())
    }

    /// Runs commands in one transaction, and returns the reply to each. They may call `script` by its digest.
    pub(in crate::store::redis) async fn transaction(
        self,
        commands: &Pipeline,
        script: Option<&Script>,
    ) -> Result<Vec<Value>, StoreError> {
        let request = Request::Transaction(commands, script);
        let mut replies = match self.answer(request, Repeat::Once, None).await? {
            Value::Array(replies) => replies,
            _ => Vec::new(),
        };
        match replies.pop() {
            Some(Value::Array(replies)) => Ok(replies),
            _ => Err(unexpected("no reply to EXEC")),
        }
    }

    /// Runs idempotent commands in one round trip and returns the reply to each. The outer error means that no command
    /// was answered.
    pub(in crate::store::redis) async fn pipeline_idempotent(
        self,
        commands: &Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let answers = self.commands(commands, None, &|_| Pipeline::new()).await?;
        let whole = |answer| match answer {
            Answer::Whole(answer) => Some(answer),
            Answer::Apart(_) => None,
        };
        Ok(answers.into_iter().filter_map(whole).collect())
    }

    /// Runs an idempotent command that reads several keys. While a slot moves, the keys may be on two nodes; then the
    /// commands of `apart` read one key each.
    pub(in crate::store::redis) async fn values(
        self,
        command: Cmd,
        apart: &(dyn Fn() -> Vec<Cmd> + Sync),
    ) -> Result<Vec<Value>, StoreError> {
        let mut commands = Pipeline::with_capacity(1);
        commands.add_command(command);
        let apart = |_| {
            let mut commands = redis::pipe();
            for each in apart() {
                commands.add_command(each);
            }
            commands
        };
        match self.commands(&commands, None, &apart).await?.pop() {
            Some(Answer::Whole(values)) => Vec::from_redis_value(values?).map_err(unexpected),
            Some(Answer::Apart(values)) => values.into_iter().collect(),
            None => Err(unexpected("no answer")),
        }
    }

    /// Runs idempotent commands that call `script` by its digest, in one round trip, and returns the answer to each.
    /// The outer error means that no command was answered.
    ///
    /// While a slot moves, a command with several keys is refused if one of them is on the other node. Then `apart`
    /// makes a command for each key of the command at a place, and each of them goes to the node that has its key.
    pub(in crate::store::redis) async fn scripts_idempotent(
        self,
        commands: &Pipeline,
        script: &Script,
        apart: impl Fn(usize) -> Pipeline + Sync,
    ) -> Result<Vec<Answer>, StoreError> {
        self.commands(commands, Some(script), &apart).await
    }

    async fn commands(
        self,
        commands: &Pipeline,
        script: Option<&Script>,
        apart: &(dyn Fn(usize) -> Pipeline + Sync),
    ) -> Result<Vec<Answer>, StoreError> {
        let answers = match self.sent(commands).await? {
            Sent::Judged(answers) => return Ok(answers),
            Sent::Refused(answers) => answers,
        };
        let each = commands.cmd_iter().zip(answers).enumerate();
        let each = each.map(|(place, (command, answer))| async move {
            if let Some(Refused::TryAgain | Refused::Ask(_)) = refusal(&answer) {
                let parts = apart(place);
                if parts.len() > 1 {
                    return Answer::Apart(self.each(&parts, script).await);
                }
            }
            let request = Request::Command(command, script);
            Answer::Whole(match answer {
                Err(error) => self.answer(request, Repeat::Idempotent, Some(error)).await,
                Ok(answer) => Ok(answer),
            })
        });
        Ok(Box::pin(join_all(each)).await)
    }

    /// Sends idempotent commands. If the connection breaks, they are sent again, maybe to another node.
    async fn sent(self, commands: &Pipeline) -> Result<Sent, StoreError> {
        let mut pursuit = Pursuit::new(self.lanes, self.partition, true, self.is_patient);
        loop {
            let lane = pursuit.lane()?;
            let mut checkout = match lane.checkout().await {
                Ok(checkout) => checkout,
                Err(_) if pursuit.follow_move_from(&lane) => continue,
                Err(error) => return Err(error),
            };
            let answers = match checkout.send(commands, commands.len()).await {
                Ok(answers) => answers,
                Err(error) => {
                    let was_sent = checkout.has_sent();
                    let next = pursuit.follow_failure(&error, was_sent, &lane.node);
                    let failed = checkout.failed(error);
                    match next {
                        Next::Reconnect => continue,
                        _ => return Err(failed),
                    }
                }
            };
            let answers: Vec<_> = answers.into_iter().map(Value::extract_error).collect();
            if answers.iter().any(|answer| refusal(answer).is_some()) {
                return Ok(Sent::Refused(answers));
            }
            let judged = |answer: RedisResult<Value>| {
                Answer::Whole(answer.map_err(|error| checkout.failed(error)))
            };
            return Ok(Sent::Judged(answers.into_iter().map(judged).collect()));
        }
    }

    /// Runs idempotent commands, each on its own.
    async fn each(
        self,
        commands: &Pipeline,
        script: Option<&Script>,
    ) -> Vec<Result<Value, StoreError>> {
        let requests = commands
            .cmd_iter()
            .map(|each| Request::Command(each, script));
        join_all(requests.map(|each| self.answer(each, Repeat::Idempotent, None))).await
    }

    async fn run<T: FromRedisValue>(
        self,
        request: Request<'_>,
        repeat: Repeat,
    ) -> Result<T, StoreError> {
        let answer = self.answer(request, repeat, None).await?;
        let answer = answer.extract_error().map_err(store_error)?;
        T::from_redis_value(answer).map_err(unexpected)
    }

    /// The reply to a request, which may have failed before with `error`.
    async fn answer(
        self,
        request: Request<'_>,
        repeat: Repeat,
        mut error: Option<RedisError>,
    ) -> Result<Value, StoreError> {
        let is_idempotent = repeat == Repeat::Idempotent;
        let mut pursuit = Pursuit::new(self.lanes, self.partition, is_idempotent, self.is_patient);
        loop {
            let lane = pursuit.lane()?;
            let mut checkout = match lane.checkout().await {
                Ok(checkout) => checkout,
                Err(_) if pursuit.follow_move_from(&lane) => continue,
                Err(error) => return Err(error),
            };
            let (failed, was_sent) = match error.take() {
                Some(error) => (error, true),
                None => match request.send(&mut checkout, pursuit.is_asking()).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => (error, checkout.has_sent()),
                },
            };
            match Box::pin(pursuit.follow(&failed, was_sent, &lane.node)).await {
                Next::Send => {}
                Next::Reconnect => drop(checkout.failed(failed)),
                Next::LoadScript => {
                    let loaded = request.load_script(&mut checkout).await;
                    loaded.map_err(|error| checkout.failed(error))?;
                }
                Next::Fail => return Err(checkout.failed(failed)),
            }
        }
    }
}

/// Why a cluster refused a command, if it did.
fn refusal(answer: &RedisResult<Value>) -> Option<Refused> {
    // The host that was asked completes an address, which does not matter here.
    Refused::of(answer.as_ref().err()?, "asked")
}

/// The reply, unless it is an error. Errors within a list are no errors of the command.
fn checked(reply: Value) -> RedisResult<Value> {
    match reply {
        Value::ServerError(error) => Err(error.into()),
        reply => Ok(reply),
    }
}

fn last(mut replies: Vec<Value>) -> RedisResult<Value> {
    checked(replies.pop().unwrap_or(Value::Nil))
}

/// All replies, unless one is an error or has one.
fn all(replies: Vec<Value>) -> RedisResult<Value> {
    Value::Array(replies).extract_error()
}
