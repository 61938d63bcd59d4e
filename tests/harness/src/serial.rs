//! Tests that need a quiet machine. All other tests run concurrently, as many as `RUST_TEST_THREADS` says.
//!
//! A test that measures short times, or that loads all cores, calls [`run_alone`] first. While it runs, no other test
//! of this executable has a process. A test that measures times and mostly waits calls [`run_quietly`] first. It runs
//! beside other such tests only.
//!
//! At each change of modes, the machine idles until the slowest test has ended. So tests of one mode run in rounds:
//! tests join a round until tests of other modes that wait occupy half of the threads.
//!
//! The turn belongs to the thread of the test, which ends with the test. A test must start its processes on that
//! thread. A task on another thread of a runtime would wait for its own test.

use std::cell::RefCell;
use std::env;
use std::sync::LazyLock;
use std::thread;

use parking_lot::{Condvar, Mutex};

/// The neighbours that a test bears, from the most to none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Any,
    Quiet,
    Alone,
}

/// The running tests, and the tests that wait.
struct Machine {
    /// The mode of the running tests.
    mode: Mode,
    running: usize,
    /// How many rounds have begun.
    rounds: u64,
    /// The number of waiting tests of each mode.
    waiting: [usize; 3],
}

impl Machine {
    /// Whether a test may run that waits since there were `rounds` rounds.
    fn admits(&self, mode: Mode, rounds: u64) -> bool {
        if self.running == 0 {
            return true;
        }
        let others = self.waiting.iter().sum::<usize>() - self.waiting[mode as usize];
        let joins = rounds < self.rounds || others < *GATHERED;
        joins && mode == self.mode && mode != Mode::Alone
    }
}

static MACHINE: Mutex<Machine> = Mutex::new(Machine {
    mode: Mode::Any,
    running: 0,
    rounds: 0,
    waiting: [0; 3],
});

static CHANGED: Condvar = Condvar::new();

/// How many waiting tests of other modes close a round: half of the threads.
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
        let rounds = machine.rounds;
        machine.waiting[mode as usize] += 1;
        CHANGED.wait_while(&mut machine, |machine| !machine.admits(mode, rounds));
        machine.waiting[mode as usize] -= 1;
        if machine.running == 0 {
            machine.rounds += 1;
        }
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

/// Waits for a turn, unless this thread has one that is at least as quiet.
fn run_as(mode: Mode) {
    TURN.with_borrow_mut(|turn| {
        if turn.as_ref().is_none_or(|turn| turn.0 < mode) {
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
    run_as(Mode::Any);
}
