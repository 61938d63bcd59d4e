//! Connections that were accepted at about the same time, and how long others have to wait for them.
//!
//! What comes in thousands at once, as streams do after an instance was lost, waits in the system's queue
//! and is let in by the handful, so that the calls of those who are there already do not wait behind it all.

use std::mem;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

/// How long the first requests of some connections are waited for: a client may connect and say nothing.
const PATIENCE: Duration = Duration::from_millis(2);

/// For how many times as long as streams took to begin nobody else is let in.
const PAUSE_FACTOR: u32 = 2;

/// The connections that were accepted since the last wait.
#[derive(Debug)]
pub(super) struct Newcomers {
    most: usize,
    count: usize,
    newcomer: mpsc::Sender<()>,
    streams: mpsc::Receiver<()>,
}

/// Held by a connection until its first request is under way.
#[derive(Debug)]
pub(super) struct Newcomer(mpsc::Sender<()>);

impl Newcomer {
    /// What it asked for was a stream, whose first events are written.
    pub(super) fn became_a_stream(self) {
        // There is room for all; an error means that it took so long that nobody waits any more.
        let _ = self.0.try_send(());
    }
}

impl Newcomers {
    /// At most `most` at once.
    pub(super) fn new(most: usize) -> Self {
        let (newcomer, streams) = mpsc::channel(most);
        Self {
            most,
            count: 0,
            newcomer,
            streams,
        }
    }

    /// One more.
    pub(super) fn add(&mut self) -> Newcomer {
        self.count += 1;
        Newcomer(self.newcomer.clone())
    }

    /// Waits, once there are as many as may be, for the first requests of all of them. Where one asked for a
    /// stream, which costs many times what a call does, more time is left to those who are there already.
    pub(super) async fn make_room(&mut self) {
        if self.count < self.most {
            return;
        }
        let all = mem::replace(self, Self::new(self.most));
        drop(all.newcomer);
        let mut streams = all.streams;
        let began = Instant::now();
        let mut have_begun = false;
        while let Ok(Some(())) = timeout_at(began + PATIENCE, streams.recv()).await {
            have_begun = true;
        }
        if have_begun {
            sleep(PAUSE_FACTOR * began.elapsed()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 3;

    /// As many as may be, and what they hold.
    fn full() -> (Newcomers, Vec<Newcomer>) {
        let mut newcomers = Newcomers::new(ROOM);
        let held = (0..ROOM).map(|_| newcomers.add()).collect();
        (newcomers, held)
    }

    async fn waits(newcomers: &mut Newcomers) -> Duration {
        let began = Instant::now();
        newcomers.make_room().await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_few_or_for_whoever_has_asked() {
        let (mut newcomers, held) = full();
        drop(held);
        assert_eq!(waits(&mut newcomers).await, Duration::ZERO);
        let _fewer = [newcomers.add(), newcomers.add()];
        assert_eq!(waits(&mut newcomers).await, Duration::ZERO);
        let _last = newcomers.add();
        assert_eq!(waits(&mut newcomers).await, PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_that_asks_is_waited_for_and_the_silent_not_for_long() {
        let (mut newcomers, held) = full();
        let soon = Duration::from_millis(1);
        tokio::spawn(async move {
            sleep(soon).await;
            drop(held);
        });
        assert_eq!(waits(&mut newcomers).await, soon);
        let (mut newcomers, _silent) = full();
        assert_eq!(waits(&mut newcomers).await, PATIENCE);
        assert_eq!(waits(&mut newcomers).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn streams_leave_the_time_to_others() {
        let (mut newcomers, mut held) = full();
        let soon = Duration::from_millis(1);
        let stream = held.pop().expect("one of them");
        tokio::spawn(async move {
            sleep(soon).await;
            stream.became_a_stream();
            drop(held);
        });
        assert_eq!(waits(&mut newcomers).await, soon + PAUSE_FACTOR * soon);
        let (mut newcomers, mut silent) = full();
        let stream = silent.pop().expect("one of them");
        stream.became_a_stream();
        let pause = PATIENCE + PAUSE_FACTOR * PATIENCE;
        assert_eq!(waits(&mut newcomers).await, pause);
    }
}
