use tokio::time::{Instant, timeout};

use super::*;
use crate::memory_budget::MemoryBudget;

const LONG: Duration = Duration::from_secs(500);

/// When a client is judged that takes a byte of its answer each `pause`.
async fn judged(pause: Duration) -> Option<(Verdict, Duration)> {
    let talk = RequestActivity::http1();
    let _answer = talk.asked();
    let room = RequestLimits::of(MemoryBudget::of(0));
    let began = Instant::now();
    let takes = async {
        loop {
            talk.set_blocked();
            sleep(pause).await;
            talk.wrote(1);
        }
    };
    let judged = async {
        tokio::select! {
            judged = talk.idle_or_slow(&room, false) => (judged, began.elapsed()),
            () = takes => (Verdict::Idle, LONG),
        }
    };
    timeout(LONG, judged).await.ok()
}

#[tokio::test(start_paused = true)]
async fn a_client_may_take_its_answer_bit_by_bit_and_is_cut_off_after_30_s_without() {
    assert_eq!(judged(Duration::from_secs(20)).await, None);
    let (judged, after) = judged(LONG).await.expect("it is judged");
    assert_eq!(judged, Verdict::TooSlow);
    assert_eq!(after.as_secs(), 30);
}

#[test]
fn an_http2_client_may_say_more_for_each_request_and_not_without_end() {
    let talk = RequestActivity::http2();
    assert!(talk.heard(IDLE_TALK as usize, 0));
    assert!(!talk.heard(1, 0));
    let asked = talk.asked();
    assert!(talk.heard(TALK_PER_REQUEST as usize - 1, 0));
    assert!(!talk.heard(1, 0));
    assert!(
        !talk.heard(10, 10),
        "what is sent of bodies makes no difference"
    );
    asked.answers();
    assert!(talk.heard(TALK_PER_PART as usize - 1, 0));
    assert!(!talk.heard(100, 0));
}

#[test]
fn only_what_was_read_since_the_last_answer_is_a_next_request() {
    let talk = RequestActivity::http1();
    assert!(talk.heard(100, 0));
    assert!(!talk.is_idle(), "a head begins");
    let asked = talk.asked();
    assert!(!talk.is_idle());
    drop(asked);
    assert!(talk.is_idle());
    talk.set_blocked();
    assert!(!talk.is_idle(), "its client has yet to take the answer");
    talk.wrote(1);
    assert!(talk.heard(1, 0));
    assert!(!talk.is_idle());
}
