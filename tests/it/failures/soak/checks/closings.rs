//! A ping is refused after its connection was closed, and only then.

use std::time::Duration;

use harness::timestamp::Timestamp;

use super::super::journal::{Call, Outcome, Record, Verb};

/// How long the pings of a closed connection are refused.
const REFUSED: Duration = Duration::from_secs(10);

/// The largest difference between the clocks of Redis and of the callers.
const TOLERANCE: Duration = Duration::from_millis(50);

/// After all connections of a user were closed, no connection pings without a new connect. No ping is refused for
/// another reason.
pub(super) fn refuse_late_pings_and_no_others(record: &Record) -> Vec<String> {
    let mut wrong = Vec::new();
    for calls in record.calls_by_user().values() {
        for (place, call) in calls.iter().enumerate() {
            match call.outcome {
                Outcome::Closed if !may_be_closed(call, calls, record) => {
                    wrong.push(format!("the connection was not closed: {call:?}"));
                }
                Outcome::Left { .. } if call.connection.is_none() => {
                    wrong.extend(pinged_although_closed(
                        call,
                        &calls[place + 1..],
                        calls,
                        record,
                    ));
                }
                _ => {}
            }
        }
    }
    wrong
}

fn is_about(call: &Call, ping: &Call) -> bool {
    call.connection.is_none() || call.connection == ping.connection
}

/// Whether a disconnect may have closed the connection before the ping.
fn may_be_closed(ping: &Call, calls: &[&Call], record: &Record) -> bool {
    calls.iter().any(|call| {
        let closes = call.verb == Verb::Disconnect && is_about(call, ping);
        let counts_until = call.over().plus(REFUSED + TOLERANCE);
        let in_time = counts_until >= ping.sent || was_set(record, call.sent, ping.ended);
        closes && call.sent <= ping.ended && in_time
    })
}

/// Reports a ping that was carried out although all connections had been closed before.
fn pinged_although_closed(
    closing: &Call,
    later: &[&Call],
    calls: &[&Call],
    record: &Record,
) -> Option<String> {
    let until = closing.sent.plus(REFUSED).less(TOLERANCE);
    let late = later.iter().take_while(|call| call.ended < until);
    let mut late = late.filter(|call| {
        let pinged = matches!(call.outcome, Outcome::Touched { .. });
        call.verb == Verb::Ping && pinged && call.sent > closing.ended
    });
    let unexplained = late.find(|ping| {
        let connected = calls.iter().any(|call| {
            let connects = call.verb == Verb::Connect && call.connection == ping.connection;
            connects && call.over() >= closing.sent && call.sent <= ping.ended
        });
        let mut losses = record.losses.iter();
        let lost = losses.any(|loss| loss.overlaps(closing.sent, ping.ended));
        !connected && !lost && !was_set(record, closing.sent, ping.ended)
    });
    unexplained.map(|ping| format!("{ping:?} after {closing:?}"))
}

/// Whether the clock of Redis was set in this time, so that its ten seconds differ.
fn was_set(record: &Record, from: Timestamp, to: Timestamp) -> bool {
    let mut clock = record.clock.iter();
    clock.any(|clock| from.less(TOLERANCE) <= clock.from && clock.from <= to.plus(TOLERANCE))
}
