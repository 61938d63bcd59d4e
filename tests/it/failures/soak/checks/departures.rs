//! No departure is too early, and none is later than one hold explains.

use std::collections::BTreeMap;
use std::time::Duration;

use harness::timestamp::Timestamp;

use super::super::callers::living;
use super::super::journal::{BUSY, Call, Outcome, Pause, Record};
use super::super::stage::{HOLD, PING_INTERVAL, TTL};
use super::{Event, Excused, bound};

/// The largest difference between the clocks of Redis and of the callers in an answer, in milliseconds.
const CLOCK_TOLERANCE_MS: i64 = 20;

/// The longest time from a disconnect to the end of its seat in a group: a message ends the seat, or a sweep before it.
const SEAT_ENDS_WITHIN_MS: i64 = 1_000;

/// The largest lateness without a hold. A gap of this length between sweeps is not an outage.
const LATE: Duration = Duration::from_millis(1_500);

/// The longest time between two sweeps of a healthy instance.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(300);

/// By then a step back of the clock has been noticed, and all deadlines are corrected.
const CORRECTED: Duration = Duration::from_millis(1_000);

/// Older calls do not affect a departure.
const MEMORY: Duration = Duration::from_secs(40);

/// The calls before a departure that are printed with a violation.
const SHOWN: Duration = Duration::from_secs(8);

/// The reason of most late departures.
const HELD: &str = "held once, after no instance could sweep";

/// The calls that were sent in this time.
fn between<'a, 'b>(calls: &'b [&'a Call], from: Timestamp, to: Timestamp) -> &'b [&'a Call] {
    let first = calls.partition_point(|call| call.sent < from);
    let end = calls.partition_point(|call| call.sent <= to);
    &calls[first.min(end)..end]
}

/// No user is announced offline before its promised expiry, and no pinging user is announced offline, unless the bound
/// of its hold has passed.
pub(super) fn none_is_early(
    events: &[Event],
    record: &Record,
    excused: &mut Excused,
) -> Vec<String> {
    early(events, record, excused, |_| true)
}

/// No seat in a group ends before its promised expiry, and no seat of a connection that pings ends, unless the bound of
/// its hold has passed. An answer may say that a ping did not reach the group.
pub(super) fn no_seat_ends_early(
    moves: &[Event],
    record: &Record,
    excused: &mut Excused,
) -> Vec<String> {
    let reached = |call: &Call| {
        let Outcome::Touched { is_in_groups, .. } = call.outcome else {
            return true;
        };
        is_in_groups
    };
    early(moves, record, excused, reached)
}

/// `counts` says which answered calls count.
fn early(
    events: &[Event],
    record: &Record,
    excused: &mut Excused,
    counts: impl Fn(&Call) -> bool,
) -> Vec<String> {
    let calls = record.calls_by_user();
    let living = living();
    let mut wrong = Vec::new();
    for gone in events.iter().filter(|event| event.is_expiry()) {
        let user = &*gone.change.user;
        let calls = calls.get(user).map_or(&[][..], Vec::as_slice);
        let calls = between(calls, gone.earliest().less(MEMORY), gone.latest());
        if let Some(promise) = broken_promise(gone, calls, record) {
            wrong.push(format!("{gone:?} against {promise:?}"));
        }
        let mut moments = gone.moments.iter();
        if !living.iter().any(|each| each == user) || !moments.all(|at| kept_trying(*at, calls)) {
            continue;
        }
        let counted: Vec<&Call> = calls.iter().filter(|call| counts(call)).copied().collect();
        if bound::was_passed(gone, &counted, record) {
            let what = "living user announced offline";
            *excused.entry((what, bound::PASSED)).or_default() += 1;
        } else {
            let before = between(calls, gone.earliest().less(SHOWN), gone.latest());
            wrong.push(format!("{gone:?} although it pinged: {before:?}"));
        }
    }
    wrong
}

/// An answer from before the announcement that promises a later expiry, by the true clock and by the clock of Redis.
/// The clock may have been set meanwhile; a time that it has shown has passed. If it was set back right before the
/// answer, the instance did not know that yet, and Redis keeps the connection for a TTL after the step at least.
fn broken_promise<'a>(gone: &Event, calls: &[&'a Call], record: &Record) -> Option<&'a Call> {
    let (from, at) = (gone.earliest(), gone.latest());
    let promises = calls.iter().filter(|call| {
        let Outcome::Touched {
            expires_at,
            is_in_groups: true,
            ..
        } = call.outcome
        else {
            return false;
        };
        let expires_at = record.corrected(expires_at, TTL, call.sent.less(CORRECTED), at);
        let shown = record.latest_shown(call.ended, at);
        let left_ms = expires_at.millis_after(shown.unwrap_or(gone.change.stamp));
        let truly_left_ms = call.sent.plus(TTL).millis_after(at);
        call.ended < from && left_ms.min(truly_left_ms) > CLOCK_TOLERANCE_MS
    });
    let mut broken = promises.filter(|promise| {
        let closed = calls.iter().any(|call| {
            let same = call.connection.is_none() || call.connection == promise.connection;
            !call.is_touch() && same && call.over() >= promise.sent && call.sent <= at
        });
        let mut losses = record.losses.iter();
        let lost =
            losses.any(|loss| loss.from <= at && loss.to.is_none_or(|to| promise.sent <= to));
        !closed && !lost
    });
    broken.next().copied()
}

/// Whether the user tried to ping in each ping interval before its departure. If the machine was too busy to run the
/// callers, this is not known.
fn kept_trying(gone: Timestamp, calls: &[&Call]) -> bool {
    let mut tried = gone.less(TTL);
    for call in calls.iter().take_while(|call| call.sent <= gone) {
        if call.sent > tried {
            if call.sent.millis_after(tried) > PING_INTERVAL.as_millis() as i64 {
                return false;
            }
            tried = call.sent;
        }
    }
    gone.millis_after(tried) <= PING_INTERVAL.as_millis() as i64
}

/// No departure is later than the deadline and one hold explain, and no later call finds the user still announced.
pub(super) fn none_is_late(
    events: &[Event],
    record: &Record,
    excused: &mut Excused,
) -> Vec<String> {
    let calls = record.calls_by_user();
    let latest = Latest::of(record, CLOCK_TOLERANCE_MS);
    let mut left_by_user: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    let mut wrong = none_is_overdue(events, &latest, excused);
    for left in events
        .iter()
        .filter(|event| !event.change.reason.is_empty())
    {
        let of_user = left_by_user.entry(&left.change.user).or_default();
        of_user.push(left);
    }
    for (user, calls) in &calls {
        let left = left_by_user.get(user).map_or(&[][..], Vec::as_slice);
        for call in calls {
            wrong.extend(overdue(call, calls, &latest));
            wrong.extend(forgotten(call, calls, left, &latest));
        }
    }
    wrong
}

/// No seat in a group ends later than the deadline of its connection and one hold explain.
pub(super) fn no_seat_is_overdue(
    events: &[Event],
    record: &Record,
    excused: &mut Excused,
) -> Vec<String> {
    none_is_overdue(events, &Latest::of(record, SEAT_ENDS_WITHIN_MS), excused)
}

/// No departure is later than the deadline and one hold explain.
fn none_is_overdue(events: &[Event], latest: &Latest, excused: &mut Excused) -> Vec<String> {
    let calls = latest.record.calls_by_user();
    let mut wrong = Vec::new();
    for gone in events.iter().filter(|event| event.is_expiry()) {
        let calls = calls.get(&*gone.change.user).map_or(&[][..], Vec::as_slice);
        let dues = gone.moments.iter().map(|at| {
            let due = latest.departure(between(calls, at.less(MEMORY), *at), *at);
            (*at, due)
        });
        let dues: Vec<_> = dues.collect();
        let is_in_time = |at: Timestamp, due: Option<Due>| due.filter(|due| at <= due.latest);
        let in_time = dues
            .iter()
            .find_map(|(at, due)| Some((*at, is_in_time(*at, *due)?)));
        match in_time {
            None => {
                let before = between(calls, gone.latest().less(SHOWN), gone.latest());
                wrong.push(format!("late: {gone:?} {dues:?} after {before:?}"));
            }
            Some((at, due)) if at > due.deadline.plus(LATE) => {
                let why = due.why.unwrap_or(HELD);
                *excused.entry(("departure late", why)).or_default() += 1;
            }
            Some(_) => {}
        }
    }
    wrong
}

/// Reports a user without further calls whose departure is missing or late.
fn forgotten(call: &Call, calls: &[&Call], left: &[&Event], latest: &Latest) -> Option<String> {
    if !matches!(call.outcome, Outcome::Touched { .. }) {
        return None;
    }
    let later = calls.partition_point(|next| next.sent <= call.sent);
    let next = calls.get(later);
    if next.is_some_and(|next| next.sent <= call.ended.plus(TTL)) {
        return None;
    }
    let due = latest.departure(between(calls, call.sent.less(MEMORY), call.sent), call.sent)?;
    let record = latest.record;
    let mut losses = record.losses.iter();
    let followed = next.is_some_and(|next| next.sent <= due.latest);
    let over = record.ended.is_some_and(|ended| ended <= due.latest);
    if followed || over || losses.any(|loss| loss.overlaps(call.sent, due.latest)) {
        return None;
    }
    let mut left = left.iter();
    let seen = left.any(|gone| call.sent <= gone.latest() && gone.earliest() <= due.latest);
    (!seen).then(|| format!("not announced gone: {call:?} {due:?}"))
}

/// Reports a call that found its user announced after the latest time of the departure.
fn overdue(call: &Call, calls: &[&Call], latest: &Latest) -> Option<String> {
    let Outcome::Touched {
        became_online: false,
        ..
    } = call.outcome
    else {
        return None;
    };
    let is_other = |other: &&&Call| !std::ptr::eq(**other, call);
    let recent = between(calls, call.sent.less(TTL), call.ended).iter();
    let mut recent = recent.filter(is_other);
    if recent.any(|other| other.is_touch() && other.connection == call.connection) {
        return None;
    }
    let others = between(calls, call.sent.less(MEMORY), call.ended).iter();
    let others: Vec<&Call> = others.filter(is_other).copied().collect();
    let due = latest.departure(&others, call.sent)?;
    (call.sent > due.latest).then(|| format!("still announced: {call:?} {due:?}"))
}

/// The latest time of a departure.
#[derive(Clone, Copy, Debug)]
struct Due {
    /// The latest expiry of the last connection.
    deadline: Timestamp,
    /// The latest announcement.
    latest: Timestamp,
    /// The reason of an additional delay.
    why: Option<&'static str>,
}

/// The causes of delays.
struct Latest<'a> {
    record: &'a Record,
    /// How long after a disconnect the connection may still end in another way, in milliseconds.
    closed_after_ms: i64,
    pauses: Vec<Pause>,
    /// The times at which the clock of Redis was set back.
    set_back: Vec<Timestamp>,
}

impl<'a> Latest<'a> {
    fn of(record: &'a Record, closed_after_ms: i64) -> Self {
        let mut pauses = record.pauses.clone();
        pauses.sort_unstable_by_key(|pause| pause.from);
        let steps = record.clock.windows(2);
        let back = steps.filter(|step| step[1].ahead_ms < step[0].ahead_ms);
        Self {
            record,
            closed_after_ms,
            pauses,
            set_back: back.map(|step| step[1].from).collect(),
        }
    }

    /// The latest departure of the last connection that `calls` opened and did not close before a moment of the clock
    /// of Redis, if there is one.
    fn departure(&self, calls: &[&Call], by: Timestamp) -> Option<Due> {
        let closed = |touch: &Call| {
            calls.iter().any(|call| {
                let same = call.connection.is_none() || call.connection == touch.connection;
                let left = matches!(call.outcome, Outcome::Left { .. });
                let is_over = by.millis_after(call.ended) > self.closed_after_ms;
                left && same && touch.over() < call.sent && is_over
            })
        };
        let touches = calls.iter().filter(|call| {
            let touched = matches!(call.outcome, Outcome::Touched { .. }) || call.is_uncertain();
            call.is_touch() && touched
        });
        let dues = touches
            .filter(|call| !closed(call))
            .map(|call| self.due(call));
        dues.max_by_key(|due| due.latest)
    }

    /// The pauses that had not ended at a moment, and all later ones.
    fn pauses_since(&self, moment: Timestamp) -> &[Pause] {
        let first = self.pauses.partition_point(|pause| pause.swept <= moment);
        &self.pauses[first..]
    }

    fn due(&self, touch: &Call) -> Due {
        let (pinged, deadline) = (touch.sent, touch.over().plus(TTL));
        let mut why = None;
        let mut at = self.unless_set_back(pinged, deadline, TTL, &mut why);
        // The last outage before the deadline holds the departure, if it left less than a hold before the deadline.
        // Whether a short outage, or one that ended near the ping, counts is not known here.
        for pause in self.pauses_since(pinged) {
            if pause.from.less(HEARTBEAT) >= deadline {
                break;
            }
            why = Some(HELD);
            let held = self.unless_set_back(pause.swept, pause.swept.plus(HOLD), HOLD, &mut why);
            at = at.max(held);
        }
        at = self.prolonged(pinged, deadline, at);
        for pause in self.pauses_since(pinged) {
            if pause.from.less(HEARTBEAT) <= at && at < pause.swept {
                why = Some(HELD);
                at = pause.swept;
            }
        }
        if self.record.was_busy(pinged, at.plus(LATE)) {
            let busy = self.record.busy.iter();
            let ends = busy
                .filter(|span| span.overlaps(pinged, at.plus(LATE)))
                .filter_map(|span| span.to);
            at = ends.fold(at, |at, end| at.max(end.plus(HOLD)));
            why = Some(BUSY);
        }
        Due {
            deadline,
            latest: at.plus(LATE),
            why,
        }
    }

    /// The latest end of a hold, of which other pauses may have been a part.
    fn prolonged(&self, pinged: Timestamp, deadline: Timestamp, until: Timestamp) -> Timestamp {
        let pauses = self.pauses_since(pinged).iter();
        let met = pauses.filter(|pause| pause.from.less(HEARTBEAT) <= until);
        match (until > deadline, met.count()) {
            (true, 2..) => until.plus(HOLD),
            _ => until,
        }
    }

    /// The time `length` after the last knowledge of Redis, or after a later step back of its clock.
    fn unless_set_back(
        &self,
        from: Timestamp,
        to: Timestamp,
        length: Duration,
        why: &mut Option<&'static str>,
    ) -> Timestamp {
        let mut at = to;
        for set_back in &self.set_back {
            if from <= *set_back && *set_back <= at {
                at = at.max(set_back.plus(CORRECTED + length));
                *why = Some("the clock of Redis was set back");
            }
        }
        at
    }
}
