//! Sends concurrent calls of one script together.

use std::mem;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::{ScriptInvocation, Value};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::load_shedder::CALL_TIMEOUT;
use super::replies::unexpected;
use super::route::Route;
use crate::model::UserId;
use crate::store::error::StoreError;

/// The maximum number of calls of one script call, which blocks Redis for about half a millisecond, or for about two if
/// each user has the maximum number of connections.
pub(super) const SCRIPT_CALLS: usize = 32;

/// How long a batch waits at most for the answers to the batch before. A slow Redis delays a batch by no more than that.
const GATHERING: Duration = Duration::from_millis(2);

/// The calls that wait to be sent together.
#[derive(Debug)]
pub(super) struct CallBatcher {
    next: Mutex<Vec<Call>>,
    /// Has one permit, for the batch that is under way.
    under_way: Semaphore,
}

/// One call about a user, with its other arguments.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) user: UserId,
    pub(super) arguments: Vec<String>,
    answer: oneshot::Sender<Result<Value, StoreError>>,
}

impl Default for CallBatcher {
    fn default() -> Self {
        Self {
            next: Mutex::default(),
            under_way: Semaphore::new(1),
        }
    }
}

impl CallBatcher {
    /// Adds a call to the next batch. The first caller has to send the batch: the second value is true.
    pub(super) fn join(
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

    /// The calls that wait. They wait no longer.
    pub(super) fn take(&self) -> Vec<Call> {
        mem::take(&mut *self.next.lock())
    }

    /// Gathers the next batch: yields once, so that the calls that other tasks of this worker are about to make join, and
    /// waits for the answers to the batch before. Returns the calls, and the permit of a batch under way; none if the wait
    /// took [`GATHERING`].
    ///
    /// To begin a script costs Redis as much as two to three calls, so a call in a small batch costs up to twice as much as
    /// one in a large batch.
    async fn gather(&self) -> (Vec<Call>, Option<SemaphorePermit<'_>>) {
        yield_now().await;
        let permit = timeout(GATHERING, self.under_way.acquire()).await;
        (self.take(), permit.ok().and_then(Result::ok))
    }

    /// Gathers a batch and sends it by `route`. `invocation` makes a script call of at most [`SCRIPT_CALLS`] calls, whose
    /// reply has an answer for each.
    pub(super) async fn send<'a>(
        &self,
        route: Route<'_>,
        invocation: impl Fn(&[Call]) -> ScriptInvocation<'a>,
    ) {
        let (mut rest, permit) = self.gather().await;
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
        drop(permit);
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

    /// Calls that joined a batch.
    fn joined(batcher: &CallBatcher, count: usize) {
        let user = UserId::new("alice").expect("an id");
        for _ in 0..count {
            batcher.join(&user, Vec::new());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_gather_while_a_batch_is_under_way() {
        let batcher = CallBatcher::default();
        joined(&batcher, 1);
        let (first, under_way) = batcher.gather().await;
        assert_eq!(first.len(), 1);
        joined(&batcher, 1);
        let next = batcher.gather();
        tokio::pin!(next);
        assert!(timeout(GATHERING / 2, &mut next).await.is_err());
        joined(&batcher, 2);
        drop(under_way);
        let (second, under_way) = next.await;
        assert_eq!(second.len(), 3);
        assert!(under_way.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_batch_delays_the_next_one_by_a_bounded_time() {
        let batcher = CallBatcher::default();
        let (_, slow) = batcher.gather().await;
        joined(&batcher, 1);
        let began = tokio::time::Instant::now();
        let (next, under_way) = batcher.gather().await;
        assert_eq!(next.len(), 1);
        assert!(under_way.is_none());
        assert!(began.elapsed() <= GATHERING * 2);
        drop(slow);
    }

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
