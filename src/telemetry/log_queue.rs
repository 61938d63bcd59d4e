//! The queue of log lines before the standard error stream.
//!
//! A write to a pipe blocks while the reader does not read. Therefore one thread writes all lines, and the other
//! threads push their lines into a bounded queue. A line that does not fit into the queue is dropped and counted.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tracing::warn;

/// The capacity of the queue, in bytes: some thousands of lines.
const MAX_BYTES: usize = 1_024 * 1_024;

/// The memory of a queued line without its text, in bytes.
const LINE_BYTES: usize = 64;

/// The pause before the next attempt to write to a non-blocking stream that is full.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The queue of log lines.
#[derive(Debug, Default)]
pub(super) struct LogQueue {
    state: Mutex<State>,
    /// Notified of each new line.
    filled: Condvar,
    /// Notified when every line is written.
    emptied: Condvar,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Whether a line left the queue and is not written yet.
    is_writing: bool,
    /// The number of dropped lines since the log last reported dropped lines.
    unreported: u64,
}

impl LogQueue {
    /// An empty queue that counts dropped lines in `dropped`.
    pub(super) fn new(dropped: Counter) -> Self {
        Self {
            dropped,
            ..Self::default()
        }
    }

    /// Appends a line, or drops the line if the queue is full. Never blocks on the stream.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        let bytes = line.len() + LINE_BYTES;
        if state.bytes + bytes > MAX_BYTES {
            self.drop_line(&mut state);
            return;
        }
        state.bytes += bytes;
        state.lines.push_back(line.into());
        self.filled.notify_one();
    }

    fn drop_line(&self, state: &mut State) {
        state.unreported += 1;
        self.dropped.inc();
    }

    /// Writes the lines to `stream` in order. Never returns.
    pub(super) fn write_to(&self, mut stream: impl Write) {
        loop {
            let line = self.take();
            let written = write_line(&mut stream, &line);
            if let Some(lines) = self.finish_line(written.is_ok()) {
                warn!(
                    lines,
                    "log lines were dropped: the standard error stream was blocked"
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

    /// Completes a line. Returns the number of dropped lines if the log should report them now.
    fn finish_line(&self, is_written: bool) -> Option<u64> {
        let mut state = self.state.lock();
        state.is_writing = false;
        if !is_written {
            self.drop_line(&mut state);
        }
        if state.lines.is_empty() {
            self.emptied.notify_all();
        }
        let has_room = state.bytes < MAX_BYTES / 2;
        (is_written && has_room && state.unreported > 0)
            .then(|| std::mem::take(&mut state.unreported))
    }

    /// Waits until every line is written, at most for `limit`.
    pub(super) fn finish(&self, limit: Duration) {
        let give_up = Instant::now() + limit;
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

    /// A stream whose writes block until the test receives them.
    struct BlockedStream(SyncSender<Vec<u8>>);

    impl Write for BlockedStream {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let sent = self.0.send(bytes.to_vec());
            sent.map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn blocked_queue() -> (Arc<LogQueue>, Receiver<Vec<u8>>) {
        let queue = Arc::new(LogQueue::new(Counter::default()));
        let (sender, written) = sync_channel(0);
        let lines = Arc::clone(&queue);
        thread::spawn(move || lines.write_to(BlockedStream(sender)));
        (queue, written)
    }

    #[test]
    fn lines_are_written_in_order() {
        let (queue, written) = blocked_queue();
        for line in ["first\n", "second\n"] {
            queue.push(line.as_bytes());
        }
        assert_eq!(written.recv(), Ok(b"first\n".to_vec()));
        assert_eq!(written.recv(), Ok(b"second\n".to_vec()));
        queue.finish(Duration::from_secs(10));
        assert!(queue.state.lock().lines.is_empty());
    }

    #[test]
    fn a_full_queue_drops_counts_and_later_reports_lines() {
        let (queue, written) = blocked_queue();
        let line = vec![b'x'; 10_000];
        for _ in 0..300 {
            queue.push(&line);
        }
        let state = queue.state.lock();
        assert!(state.bytes <= MAX_BYTES, "{} bytes wait", state.bytes);
        let (waiting, unreported) = (state.lines.len() as u64, state.unreported);
        drop(state);
        assert_eq!(queue.dropped.get(), unreported);
        assert!(
            (299..=300).contains(&(waiting + unreported)),
            "{waiting} {unreported}"
        );
        for _ in 0..300 - unreported {
            assert_eq!(written.recv().map(|line| line.len()), Ok(10_000));
        }
        queue.finish(Duration::from_secs(10));
        assert_eq!(
            queue.state.lock().unreported,
            0,
            "the log reported the dropped lines"
        );
    }

    #[test]
    fn finish_waits_no_longer_than_its_limit() {
        let (queue, written) = blocked_queue();
        queue.push(b"a blocked line\n");
        queue.finish(Duration::from_millis(20));
        drop(written);
        queue.finish(Duration::from_secs(10));
        assert_eq!(queue.dropped.get(), 1);
    }
}
