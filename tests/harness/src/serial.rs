//! Tests that need a quiet machine. Tests run concurrently, one for each core.
//!
//! A test that measures short times, or that loads all cores, calls [`run_alone`] first. While it runs, no other test of
//! this executable has a process. A test that measures times and mostly waits calls [`run_quietly`] first. It runs beside
//! other such tests only.
//!
//! The turn belongs to the thread of the test, which ends with the test. A test must start its processes on that thread.
//! A task on another thread of a runtime would wait for its own test.

use std::cell::RefCell;
use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

/// The neighbours that a test bears.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Any,
    Quiet,
    Alone,
}

/// The running tests, which have one mode, and the waiting tests in the order of their requests.
struct Machine {
    mode: Mode,
    running: usize,
    waiting: VecDeque<u64>,
    next: u64,
}

static MACHINE: Mutex<Machine> = Mutex::new(Machine {
    mode: Mode::Any,
    running: 0,
    waiting: VecDeque::new(),
    next: 0,
});

static CHANGED: Condvar = Condvar::new();

thread_local! {
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// The turn of a test, held until its thread ends.
struct Turn(Mode);

impl Turn {
    /// Waits until the test may run. Tests get their turns in the order of their requests.
    fn take(mode: Mode) -> Self {
        let mut machine = MACHINE.lock();
        let ticket = machine.next;
        machine.next += 1;
        machine.waiting.push_back(ticket);
        loop {
            let fits = machine.running == 0 || machine.mode == mode && mode != Mode::Alone;
            if fits && machine.waiting.front() == Some(&ticket) {
                break;
            }
            CHANGED.wait(&mut machine);
        }
        machine.waiting.pop_front();
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
