//! Which tests share the machine. Tests run side by side, one for each core. A test that measures time, or that keeps
//! every core busy, says [`run_alone`] first: no other test of this executable has a process meanwhile.
//!
//! The turn of a test belongs to its thread, which ends with the test. A test that runs alone must start its processes
//! on that thread, and not in a task of a runtime with several threads: such a task would wait for the test itself.

use std::cell::RefCell;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Read-locked by tests that run beside others. A writer that waits goes before later readers.
static MACHINE: RwLock<()> = RwLock::new(());

thread_local! {
    static TURN: RefCell<Turn> = const { RefCell::new(Turn { alone: None, beside: None }) };
}

/// What a test holds until its thread ends.
struct Turn {
    alone: Option<RwLockWriteGuard<'static, ()>>,
    beside: Option<RwLockReadGuard<'static, ()>>,
}

/// Waits until no other test has a process, and keeps the others waiting until this test ends.
pub fn run_alone() {
    TURN.with_borrow_mut(|turn| {
        if turn.alone.is_none() {
            // With one thread for all tests, this is the turn of the test before.
            turn.beside = None;
            turn.alone = Some(MACHINE.write());
        }
    });
}

/// Waits while another test runs alone. Each test does so when it starts its first process.
pub fn run_beside_others() {
    TURN.with_borrow_mut(|turn| {
        if turn.alone.is_none() && turn.beside.is_none() {
            turn.beside = Some(MACHINE.read());
        }
    });
}
