use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::StoreError;

/// How many calls may wait for the store at once.
///
/// A healthy Redis answers within a millisecond or two, so this is several times what one instance
/// can ask of it; a mute one is waited for by no more than these.
const WAITING: usize = 2_048;

/// How long a call may take, with all the round trips it makes. Our clients are promised an answer
/// within 2 s, of which this leaves a part for the way there and back.
const CALL_TIMEOUT: Duration = Duration::from_millis(1_600);

/// Bounds how many calls wait for the store, and for how long.
#[derive(Debug)]
pub(super) struct Gate(Semaphore);

impl Gate {
    /// Runs `call`, or refuses it at once where too many wait already.
    pub(super) async fn pass<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Ok(_place) = self.0.try_acquire() else {
            return Err(StoreError::Overloaded);
        };
        match timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Unreachable("it took too long".into())),
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(WAITING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_call_too_many_is_refused_at_once_and_a_place_is_given_back() {
        let gate = Gate(Semaphore::new(1));
        let refused = gate.pass(async { gate.pass(async { Ok(()) }).await });
        assert!(matches!(refused.await, Err(StoreError::Overloaded)));
        assert!(gate.pass(async { Ok(()) }).await.is_ok());
    }
}
