//! Sends concurrent calls of one script together.

use std::mem;

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::{ScriptInvocation, Value};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::model::UserId;
use crate::store::error::StoreError;
use crate::store::redis::format::replies::unexpected;
use crate::store::redis::node::load_shedder::CALL_TIMEOUT;
use crate::store::redis::routing::route::Route;

/// The maximum number of calls of one script call, which blocks Redis for about half a millisecond, or for about two if
/// each user has the maximum number of connections.
pub(in crate::store::redis) const SCRIPT_CALLS: usize = 32;

/// The calls that wait to be sent together.
#[derive(Debug, Default)]
pub(in crate::store::redis) struct CallBatcher {
    next: Mutex<Vec<Call>>,
}

/// One call about a user, with its other arguments.
#[derive(Debug)]
pub(in crate::store::redis) struct Call {
    pub(in crate::store::redis) user: UserId,
    pub(in crate::store::redis) arguments: Vec<String>,
    answer: oneshot::Sender<Result<Value, StoreError>>,
}

impl CallBatcher {
    /// Adds a call to the next batch and waits for its answer. The first call of a batch runs `send`, which has to send
    /// the batch.
    pub(in crate::store::redis) async fn call<S>(
        &self,
        user: &UserId,
        arguments: Vec<String>,
        send: impl FnOnce() -> S,
    ) -> Result<Value, StoreError>
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let (answered, is_first) = self.join(user, arguments);
        if is_first {
            // A separate task, because the client of the first call may disconnect before the others.
            tokio::spawn(send());
        }
        let not_sent = |_| StoreError::Unreachable("the call was not sent".to_owned());
        answered.await.map_err(not_sent)?
    }

    /// Adds a call to the next batch. The first caller has to send the batch: the second value is true.
    pub(in crate::store::redis) fn join(
        &self,
        user: &UserId,
        arguments: Vec<String>,
    ) -> (oneshot::Receiver<Result<Value, StoreError>>, bool) {
        let (answer, answered) = oneshot::channel();
        let mut next = self.next.lock();
        next.push(Call {
            user: user.clone(),
            arguments,
            answer,
        });
        (answered, next.len() == 1)
    }

    /// Removes and returns the calls that wait.
    pub(in crate::store::redis) fn take(&self) -> Vec<Call> {
        mem::take(&mut *self.next.lock())
    }

    /// Yields once so that more calls join, and sends all of them by `route`. `invocation` makes a script call of at
    /// most [`SCRIPT_CALLS`] calls, whose reply has an answer for each.
    pub(in crate::store::redis) async fn send<'a>(
        &self,
        route: Route<'_>,
        invocation: impl Fn(&[Call]) -> ScriptInvocation<'a>,
    ) {
        // The calls that other tasks of this worker are about to make join the batch meanwhile.
        yield_now().await;
        let mut rest = self.take();
        let mut sent = Vec::with_capacity(rest.len().div_ceil(SCRIPT_CALLS));
        while !rest.is_empty() {
            let calls: Vec<Call> = rest.drain(..rest.len().min(SCRIPT_CALLS)).collect();
            let script = invocation(&calls);
            sent.push(async move {
                let answers = timeout(CALL_TIMEOUT, route.script_calls(&script)).await;
                answer(
                    calls,
                    answers.unwrap_or_else(|_| Err(StoreError::too_slow())),
                );
            });
        }
        join_all(sent).await;
    }
}

/// Answers each call of a script call.
fn answer(calls: Vec<Call>, answers: Result<Vec<Result<Value, StoreError>>, StoreError>) {
    let (mut answers, error) = match answers {
        Ok(answers) => (answers.into_iter(), unexpected("an incomplete reply")),
        Err(error) => (Vec::new().into_iter(), error),
    };
    for call in calls {
        let answer = answers.next().unwrap_or_else(|| Err(error.clone()));
        // This fails if the client of the call has disconnected.
        let _ = call.answer.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_of_one_call_does_not_fail_the_others() {
        let batcher = CallBatcher::default();
        let user = UserId::new("alice").expect("an id");
        let joined: Vec<_> = (0..3).map(|_| batcher.join(&user, Vec::new())).collect();
        let firsts: Vec<bool> = joined.iter().map(|(_, is_first)| *is_first).collect();
        assert_eq!(firsts, [true, false, false]);
        let calls = batcher.take();
        let refused = Err(StoreError::Failed("refused".into()));
        // The third answer is missing.
        answer(calls, Ok(vec![Ok(Value::Int(1)), refused]));
        let mut answers = Vec::new();
        for (answered, _) in joined {
            answers.push(answered.await.expect("answered"));
        }
        assert!(matches!(&answers[0], Ok(Value::Int(1))));
        assert!(answers[1..].iter().all(Result::is_err), "{answers:?}");
    }
}
