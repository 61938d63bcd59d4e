//! The turns of streams. An event wakes thousands of streams at once; a call that arrives then must not wait until all
//! of them have written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::yield_now;

/// The streams that write before a worker looks for calls again.
const STREAMS_PER_TURN: usize = 16;

/// The queue of the streams of a worker that wait to write. Each stream has at most one place.
#[derive(Clone, Debug)]
pub(super) struct StreamTurns(UnboundedSender<Arc<StreamTurn>>);

/// Queues the task of one stream when it is woken.
#[derive(Debug)]
pub(super) struct StreamTurn {
    task: Waker,
    turns: StreamTurns,
    is_queued: AtomicBool,
}

impl StreamTurns {
    /// Returns an empty queue, and the task that wakes its streams. The task ends when the queue and all its streams are
    /// dropped.
    pub(super) fn new() -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), give_turns(receiver))
    }

    /// Returns the turn of the stream that runs as `task`.
    pub(super) fn of(&self, task: &Waker) -> Arc<StreamTurn> {
        Arc::new(StreamTurn {
            task: task.clone(),
            turns: self.clone(),
            is_queued: AtomicBool::new(false),
        })
    }
}

impl StreamTurn {
    /// Whether `task` is the task of this stream.
    pub(super) fn is_of(&self, task: &Waker) -> bool {
        self.task.will_wake(task)
    }

    fn begin(&self) {
        // A wake-up from here on needs another turn, because the task may not see its cause.
        self.is_queued.store(false, Ordering::SeqCst);
        self.task.wake_by_ref();
    }
}

impl Wake for StreamTurn {
    fn wake(self: Arc<Self>) {
        if self.is_queued.swap(true, Ordering::SeqCst) {
            return;
        }
        if self.turns.0.send(Arc::clone(&self)).is_err() {
            // The runtime of the worker has ended the task that gives turns.
            self.begin();
        }
    }
}

async fn give_turns(mut waiting: UnboundedReceiver<Arc<StreamTurn>>) {
    let mut next = Vec::with_capacity(STREAMS_PER_TURN);
    while waiting.recv_many(&mut next, STREAMS_PER_TURN).await > 0 {
        next.drain(..).for_each(|stream| stream.begin());
        // The runtime resumes this task after it has looked for calls.
        yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::task::Poll;
    use std::time::{Duration, Instant};

    use parking_lot::Mutex;
    use tokio::net::UnixStream;
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// A worker with streams that only count their turns.
    struct Worker {
        runtime: Runtime,
        wakers: Arc<Mutex<Vec<Waker>>>,
        turns: Arc<AtomicUsize>,
    }

    impl Worker {
        fn with_streams(count: usize) -> Self {
            let mut runtime = Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).enable_io().build();
            let worker = Self {
                runtime: runtime.expect("a runtime"),
                wakers: Arc::default(),
                turns: Arc::default(),
            };
            let (turns, giving_turns) = StreamTurns::new();
            worker.runtime.spawn(giving_turns);
            for _ in 0..count {
                let turns = turns.clone();
                let (wakers, count) = (Arc::clone(&worker.wakers), Arc::clone(&worker.turns));
                let mut is_first = true;
                worker.runtime.spawn(poll_fn(move |context| {
                    if std::mem::take(&mut is_first) {
                        wakers.lock().push(Waker::from(turns.of(context.waker())));
                    } else {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    Poll::<()>::Pending
                }));
            }
            eventually(|| worker.wakers.lock().len() == count);
            worker
        }

        fn wake_all(&self) {
            self.wakers.lock().iter().for_each(Waker::wake_by_ref);
        }

        fn turns(&self) -> usize {
            self.turns.load(Ordering::SeqCst)
        }

        /// Keeps the worker busy until the sender is used.
        fn busy(&self) -> mpsc::Sender<()> {
            let (end, busy) = mpsc::channel();
            self.runtime
                .spawn(async move { busy.recv_timeout(TIMEOUT) });
            end
        }
    }

    fn eventually(condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < TIMEOUT, "it took too long");
            std::thread::yield_now();
        }
    }

    /// Returns how many of so many streams write before two calls that arrive after an event, one on a known connection
    /// and one on a new one.
    fn turns_before_calls(streams: usize) -> [usize; 2] {
        let worker = Worker::with_streams(streams);
        let (answer, answered) = mpsc::channel();
        let call = || {
            let (turns, answer) = (Arc::clone(&worker.turns), answer.clone());
            move || answer.send(turns.load(Ordering::SeqCst))
        };
        let (client, server) = {
            let _context = worker.runtime.enter();
            UnixStream::pair().expect("sockets")
        };
        let (waits, waiting) = mpsc::channel();
        let on_known_connection = call();
        worker.runtime.spawn(async move {
            let mut readable = Box::pin(server.readable());
            poll_fn(|context| {
                let polled = readable.as_mut().poll(context);
                let _ = waits.send(());
                polled
            })
            .await
            .map(|()| on_known_connection())
        });
        waiting.recv_timeout(TIMEOUT).expect("it waits");
        let end = worker.busy();
        worker.wake_all();
        assert_eq!(client.try_write(b"x").expect("a write"), 1);
        let on_new_connection = call();
        worker.runtime.spawn(async move { on_new_connection() });
        end.send(()).expect("the worker is busy");
        let before = [(); 2].map(|()| answered.recv_timeout(TIMEOUT).expect("an answer"));
        eventually(|| worker.turns() == streams);
        before
    }

    #[test]
    fn calls_wait_for_few_of_the_streams_that_an_event_wakes() {
        // The runtime looks at its sockets after each 61 tasks. Each of these numbers of streams ends elsewhere between.
        for streams in (1_000..1_061).step_by(6) {
            let before = turns_before_calls(streams);
            let few = |turns: &usize| *turns <= 2 * STREAMS_PER_TURN;
            assert!(before.iter().all(few), "{before:?} of {streams}");
        }
    }

    #[test]
    fn a_stream_has_one_place_however_often_it_is_woken() {
        let worker = Worker::with_streams(2);
        for round in 1..=3 {
            let end = worker.busy();
            for _ in 0..100 {
                worker.wake_all();
            }
            end.send(()).expect("the worker is busy");
            eventually(|| worker.turns() >= 2 * round);
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(worker.turns(), 2 * round);
        }
    }
}
