//! Tests that need a quiet machine. All other tests run concurrently, as many as `RUST_TEST_THREADS` says.
//!
//! A test that measures short times, or that loads all cores, calls [`run_alone`] first. While it runs, no other test of
//! this executable has a process. A test that measures times and mostly waits calls [`run_quietly`] first. It runs beside
//! other such tests only.
//!
//! These tests gather until they occupy half of the threads. Then the other tests end, and the gathered tests run in one
//! go: at each change of turns, the machine idles until the slowest test has ended.
//!
//! The turn belongs to the thread of the test, which ends with the test. A test must start its processes on that thread.
//! A task on another thread of a runtime would wait for its own test.

use std::cell::RefCell;
use std::env;
use std::sync::LazyLock;
use std::thread;

use parking_lot::{Condvar, Mutex};

/// The neighbours that a test bears.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Any,
    Quiet,
    Alone,
}

/// The running tests, which have one mode, and the number of quiet tests and tests alone that wait.
struct Machine {
    mode: Mode,
    running: usize,
    waiting: usize,
}

impl Machine {
    /// Whether a test may run now.
    fn admits(&self, mode: Mode) -> bool {
        match mode {
            Mode::Any if self.running == 0 => self.waiting == 0,
            Mode::Any => self.mode == Mode::Any && self.waiting < *GATHERED,
            Mode::Quiet => self.running == 0 || self.mode == Mode::Quiet,
            Mode::Alone => self.running == 0,
        }
    }
}

static MACHINE: Mutex<Machine> = Mutex::new(Machine {
    mode: Mode::Any,
    running: 0,
    waiting: 0,
});

static CHANGED: Condvar = Condvar::new();

/// How many waiting tests stop the start of others: half of the threads.
static GATHERED: LazyLock<usize> = LazyLock::new(|| {
    let stated = env::var("RUST_TEST_THREADS").map(|count| count.parse().ok());
    let threads = stated.ok().flatten().or_else(|| {
        let cores = thread::available_parallelism();
        cores.ok().map(usize::from)
    });
    (threads.unwrap_or(1) / 2).max(1)
});

thread_local! {
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// The turn of a test, held until its thread ends.
struct Turn(Mode);

impl Turn {
    /// Waits until the test may run.
    fn take(mode: Mode) -> Self {
        let mut machine = MACHINE.lock();
        let gathers = usize::from(mode != Mode::Any);
        machine.waiting += gathers;
        CHANGED.wait_while(&mut machine, |machine| !machine.admits(mode));
        machine.waiting -= gathers;
        machine.mode = mode;
        machine.running += 1;
        CHANGED.notify_all();
        Self(mode)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        MACHINE.lock().running -= 1;
        CHANGED.notify_all();
    }
}

fn run_as(mode: Mode) {
    TURN.with_borrow_mut(|turn| {
        if turn.as_ref().is_none_or(|turn| turn.0 != mode) {
            // With `--test-threads=1`, the test before ran on this thread.
            *turn = None;
            *turn = Some(Turn::take(mode));
        }
    });
}

/// Waits until no other test has a process, and blocks other tests until this test ends.
pub fn run_alone() {
    run_as(Mode::Alone);
}

/// Waits until only quiet tests have processes, and blocks all other tests until this test ends.
pub fn run_quietly() {
    run_as(Mode::Quiet);
}

/// Waits while another test runs alone or quietly. [`Process::spawn`](crate::process::Process::spawn) calls it.
pub fn run_beside_others() {
    let has_turn = TURN.with_borrow(Option::is_some);
    if !has_turn {
        run_as(Mode::Any);
    }
}
