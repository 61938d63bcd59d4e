//! Reads the messages of a frame back.

/// A message of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// The cursor. `presence.end` has none.
    pub(crate) id: Option<&'a str>,
    /// The name of the event.
    pub(crate) event: &'a str,
    /// The JSON of the event.
    pub(crate) data: &'a str,
}

/// Returns the messages in the text of a frame. Comments and reconnection times are skipped.
pub(crate) fn messages(text: &str) -> impl Iterator<Item = Message<'_>> {
    text.split("\n\n").filter_map(|block| {
        let (mut id, mut event, mut data) = (None, None, None);
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", value)) => id = Some(value),
                Some(("event", value)) => event = Some(value),
                Some(("data", value)) => data = Some(value),
                _ => {}
            }
        }
        Some(Message {
            id,
            event: event?,
            data: data?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::sse::cursor::Cursor;
    use crate::events::sse::frame::{self, Frame};
    use crate::events::sse::payload::EndReason;
    use crate::model::{Epoch, Position, UserId};

    #[test]
    fn the_messages_of_frames_are_found_and_everything_else_is_skipped() {
        let cursor = Cursor::one(Epoch(1), Position::START);
        let user = UserId::new("a: b\u{2028}\"").expect("an id");
        let frames = [
            frame::retry(),
            Frame::KEEP_ALIVE,
            frame::snapshot(&cursor, None, &[user], &frame::States::default()),
            Frame::COMMENT,
            frame::ready(&cursor, None),
            frame::end(EndReason::MaxAge),
        ];
        let text: Vec<u8> = frames.iter().flat_map(|frame| frame.data()).collect();
        let text = String::from_utf8(text).expect("UTF-8");
        let id = cursor.to_string();
        let message = |id, event, data| Message { id, event, data };
        let expected = [
            message(
                Some(&*id),
                "presence.snapshot",
                "{\"online\":[\"a: b\u{2028}\\\"\"]}",
            ),
            message(Some(&*id), "presence.ready", "{}"),
            message(None, "presence.end", "{\"reason\":\"max-age\"}"),
        ];
        assert_eq!(messages(&text).collect::<Vec<_>>(), expected);
    }
}
