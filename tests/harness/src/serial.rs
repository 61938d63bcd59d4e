//! Tests that run alone. Tests run concurrently, one for each core. A test that measures time, or that loads all cores,
//! calls [`run_alone`] first. While it runs, no other test of this executable has a process.
//!
//! The lock belongs to the thread of the test, which ends with the test. A test must start its processes on that
//! thread. A task on another thread of a runtime would wait for its own test.

use std::cell::RefCell;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Tests that run concurrently hold a read lock. A waiting writer goes before later readers.
static MACHINE: RwLock<()> = RwLock::new(());

thread_local! {
    static TURN: RefCell<Turn> = const { RefCell::new(Turn { alone: None, shared: None }) };
}

/// The lock of a test, held until its thread ends.
struct Turn {
    alone: Option<RwLockWriteGuard<'static, ()>>,
    shared: Option<RwLockReadGuard<'static, ()>>,
}

/// Waits until no other test has a process, and blocks other tests until this test ends.
pub fn run_alone() {
    TURN.with_borrow_mut(|turn| {
        if turn.alone.is_none() {
            // With `--test-threads=1`, the test before ran on this thread.
            turn.shared = None;
            turn.alone = Some(MACHINE.write());
        }
    });
}

/// Waits while another test runs alone. [`Process::spawn`](crate::process::Process::spawn) calls it.
pub fn run_beside_others() {
    TURN.with_borrow_mut(|turn| {
        if turn.alone.is_none() && turn.shared.is_none() {
            turn.shared = Some(MACHINE.read());
        }
    });
}
