//! The form of a time in answers and events: RFC 3339, UTC, three digits of milliseconds, `Z`.
//!
//! The harness reads every time with this parser, so a time in another form fails the test that reads it.

use harness::timestamp::Timestamp;

#[test]
fn the_parser_reads_one_form_of_a_time_and_no_other() {
    let epoch = Timestamp::parse("1970-01-01T00:00:00.000Z").expect("a time");
    let known = Timestamp::parse("2026-11-24T08:00:00.123Z").expect("a time");
    assert_eq!(known.millis_after(epoch), 1_795_507_200_123);
    for other in [
        "2026-11-24T08:00:00Z",
        "2026-11-24T08:00:00.123+00:00",
        "2026-11-24 08:00:00.123Z",
        "2026-13-24T08:00:00.123Z",
        "2026-11-24T08:00:00.123456Z",
    ] {
        assert_eq!(Timestamp::parse(other), None, "{other}");
    }
}
