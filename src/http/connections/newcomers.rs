//! Connections that were accepted at about the same time, and how long others have to wait for them.
//!
//! Streams that come in thousands at once, as after an instance was lost, wait in the system's queue and are let
//! in by the handful, so that the calls of those who are there already do not wait behind it all.

use std::convert::Infallible;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// How long the first requests of some connections are waited for: a client may connect and say nothing.
const PATIENCE: Duration = Duration::from_millis(2);

/// How many times as many are let in at once while no streams come: some, since a whole crowd may come before
/// the first of it has said what it wants; and several, so that thousands a second may come and say nothing.
const UNHEARD_FACTOR: usize = 4;

/// For how many times as long as streams took to begin nobody else is let in.
const PAUSE_FACTOR: u32 = 2;

/// The connections that were accepted since the last wait.
#[derive(Debug)]
pub(super) struct Newcomers {
    most: usize,
    count: usize,
    crowd: Crowd,
    /// Whether somebody asked for a stream since the last wait.
    streams_come: Arc<AtomicBool>,
    /// Whether somebody had by then.
    streams_came: bool,
}

/// Ends when all senders have gone; nothing is ever sent.
type Crowd = (mpsc::Sender<Infallible>, mpsc::Receiver<Infallible>);

/// Held by a connection until its first request is under way or, where that is for a stream, until the stream
/// has begun.
#[derive(Debug)]
pub(super) struct Newcomer {
    _of: mpsc::Sender<Infallible>,
    streams_come: Arc<AtomicBool>,
}

impl Newcomer {
    /// What it asks for is a stream.
    pub(super) fn opens_a_stream(&self) {
        self.streams_come.store(true, Ordering::Relaxed);
    }
}

impl Newcomers {
    /// At most `most` at once while streams come.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            count: 0,
            crowd: mpsc::channel(1),
            streams_come: Arc::default(),
            streams_came: false,
        }
    }

    /// One more.
    pub(super) fn add(&mut self) -> Newcomer {
        self.count += 1;
        Newcomer {
            _of: self.crowd.0.clone(),
            streams_come: Arc::clone(&self.streams_come),
        }
    }

    /// Waits, once there are as many as may be, for the first requests of all of them. Where one is for a
    /// stream, which costs many times what a call does, more time is left to those who are there already, and
    /// fewer may come at once.
    pub(super) async fn make_room(&mut self) {
        let streams_come = self.streams_came || self.streams_come.load(Ordering::Relaxed);
        let factor = if streams_come { 1 } else { UNHEARD_FACTOR };
        if self.count < self.most * factor {
            return;
        }
        self.count = 0;
        let (newcomer, mut all_gone) = mem::replace(&mut self.crowd, mpsc::channel(1));
        drop(newcomer);
        let began = Instant::now();
        let _ = timeout(PATIENCE, all_gone.recv()).await;
        self.streams_came = self.streams_come.swap(false, Ordering::Relaxed);
        if self.streams_came {
            // This task may have been kept from running for much longer, which took nothing from the others.
            sleep(PAUSE_FACTOR * began.elapsed().min(PATIENCE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 3;

    /// As many as may be, after a stream has come, and what they hold.
    fn full() -> (Newcomers, Vec<Newcomer>) {
        let mut newcomers = Newcomers::new(ROOM);
        let held: Vec<_> = (0..ROOM).map(|_| newcomers.add()).collect();
        held[0].opens_a_stream();
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
        let few = [newcomers.add(), newcomers.add()];
        few[0].opens_a_stream();
        assert_eq!(waits(&mut newcomers).await, Duration::ZERO);
        let _last = newcomers.add();
        assert!(waits(&mut newcomers).await >= PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_silent_are_waited_for_and_more_come_at_once_until_a_stream_does() {
        let mut newcomers = Newcomers::new(ROOM);
        let mut silent: Vec<_> = (1..ROOM * UNHEARD_FACTOR)
            .map(|_| newcomers.add())
            .collect();
        assert_eq!(waits(&mut newcomers).await, Duration::ZERO);
        silent.push(newcomers.add());
        assert_eq!(waits(&mut newcomers).await, PATIENCE);
        let few: Vec<_> = (0..ROOM).map(|_| newcomers.add()).collect();
        assert_eq!(waits(&mut newcomers).await, Duration::ZERO);
        few[0].opens_a_stream();
        assert!(waits(&mut newcomers).await > PATIENCE);
        // After a stream others are expected.
        let _few: Vec<_> = (0..ROOM).map(|_| newcomers.add()).collect();
        assert_eq!(waits(&mut newcomers).await, PATIENCE);
        let _few: Vec<_> = (0..ROOM).map(|_| newcomers.add()).collect();
        assert_eq!(waits(&mut newcomers).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn streams_leave_the_time_to_others() {
        let (mut newcomers, mut held) = full();
        let soon = Duration::from_millis(1);
        let stream = held.pop().expect("one of them");
        tokio::spawn(async move {
            stream.opens_a_stream();
            sleep(soon).await;
            drop((stream, held));
        });
        assert_eq!(waits(&mut newcomers).await, soon + PAUSE_FACTOR * soon);
        let (mut newcomers, mut slow) = full();
        let stream = slow.pop().expect("one of them");
        tokio::spawn(async move {
            stream.opens_a_stream();
            std::future::pending::<()>().await;
        });
        let pause = PATIENCE + PAUSE_FACTOR * PATIENCE;
        assert_eq!(waits(&mut newcomers).await, pause);
    }
}
