//! The queue between whoever logs and the standard error stream.
//!
//! A write to a pipe waits for as long as its reader does not read. So one thread does nothing but write, and whoever
//! logs leaves its line in a bounded queue. Where the queue is full, the line is dropped and counted.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tracing::warn;

/// How much may wait, in bytes: some thousands of lines.
const MOST_BYTES: usize = 1_024 * 1_024;

/// What a line that waits takes beside its text, in bytes.
const LINE_BYTES: usize = 64;

/// The pause before another try where a stream that never waits takes nothing.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Lines that wait to be written.
#[derive(Debug, Default)]
pub(super) struct LogQueue {
    state: Mutex<State>,
    /// Told of each line that comes.
    filled: Condvar,
    /// Told once everything is written.
    emptied: Condvar,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Whether a line was taken and is not written yet.
    is_writing: bool,
    /// How many lines were dropped since the log told of it.
    untold: u64,
}

impl LogQueue {
    /// An empty queue that counts in `dropped`.
    pub(super) fn new(dropped: Counter) -> Self {
        Self {
            dropped,
            ..Self::default()
        }
    }

    /// Leaves a line to be written; never waits for the stream.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        let bytes = line.len() + LINE_BYTES;
        if state.bytes + bytes > MOST_BYTES {
            self.drop_line(&mut state);
            return;
        }
        state.bytes += bytes;
        state.lines.push_back(line.into());
        self.filled.notify_one();
    }

    fn drop_line(&self, state: &mut State) {
        state.untold += 1;
        self.dropped.inc();
    }

    /// Writes the lines to `stream`, in their order and for ever.
    pub(super) fn write_to(&self, mut stream: impl Write) {
        loop {
            let line = self.take();
            let written = write_line(&mut stream, &line);
            if let Some(lines) = self.done(written.is_ok()) {
                warn!(
                    lines,
                    "log lines were dropped, since the standard error stream did not take them"
                );
            }
        }
    }

    fn take(&self) -> Box<[u8]> {
        let mut state = self.state.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len() + LINE_BYTES;
                state.is_writing = true;
                return line;
            }
            self.filled.wait(&mut state);
        }
    }

    /// Takes note of what became of a line. Says how many were dropped once there is room to log that.
    fn done(&self, is_written: bool) -> Option<u64> {
        let mut state = self.state.lock();
        state.is_writing = false;
        if !is_written {
            self.drop_line(&mut state);
        }
        if state.lines.is_empty() {
            self.emptied.notify_all();
        }
        let has_room = state.bytes < MOST_BYTES / 2;
        (is_written && has_room && state.untold > 0).then(|| std::mem::take(&mut state.untold))
    }

    /// Waits until everything is written, but no longer than `patience`.
    pub(super) fn finish(&self, patience: Duration) {
        let give_up = Instant::now() + patience;
        let mut state = self.state.lock();
        while state.is_writing || !state.lines.is_empty() {
            let waited = self.emptied.wait_until(&mut state, give_up.into_std());
            if waited.timed_out() {
                return;
            }
        }
    }
}

fn write_line(stream: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match stream.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => line = &line[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// A stream that takes a write only when the test does.
    struct Stuck(SyncSender<Vec<u8>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let sent = self.0.send(bytes.to_vec());
            sent.map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stuck() -> (Arc<LogQueue>, Receiver<Vec<u8>>) {
        let queue = Arc::new(LogQueue::new(Counter::default()));
        let (sender, written) = sync_channel(0);
        let lines = Arc::clone(&queue);
        thread::spawn(move || lines.write_to(Stuck(sender)));
        (queue, written)
    }

    #[test]
    fn lines_are_written_in_their_order() {
        let (queue, written) = stuck();
        for line in ["first\n", "second\n"] {
            queue.push(line.as_bytes());
        }
        assert_eq!(written.recv(), Ok(b"first\n".to_vec()));
        assert_eq!(written.recv(), Ok(b"second\n".to_vec()));
        queue.finish(Duration::from_secs(10));
        assert!(queue.state.lock().lines.is_empty());
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_tells_once_there_is_room() {
        let (queue, written) = stuck();
        let line = vec![b'x'; 10_000];
        for _ in 0..300 {
            queue.push(&line);
        }
        let state = queue.state.lock();
        assert!(state.bytes <= MOST_BYTES, "{} bytes wait", state.bytes);
        let (waiting, untold) = (state.lines.len() as u64, state.untold);
        drop(state);
        assert_eq!(queue.dropped.get(), untold);
        assert!(
            (299..=300).contains(&(waiting + untold)),
            "{waiting} {untold}"
        );
        for _ in 0..300 - untold {
            assert_eq!(written.recv().map(|line| line.len()), Ok(10_000));
        }
        queue.finish(Duration::from_secs(10));
        assert_eq!(queue.state.lock().untold, 0, "it was told");
    }

    #[test]
    fn nobody_waits_longer_for_the_rest_than_it_wants_to() {
        let (queue, written) = stuck();
        queue.push(b"nobody takes it\n");
        queue.finish(Duration::from_millis(20));
        drop(written);
        queue.finish(Duration::from_secs(10));
        assert_eq!(queue.dropped.get(), 1);
    }
}
