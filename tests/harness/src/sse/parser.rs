//! A parser of event streams as the WHATWG HTML standard defines it (section 9.2.6, "Interpreting an event stream").

use super::Event;

/// An incremental parser.
#[derive(Default)]
pub(super) struct Parser {
    pending: Vec<u8>,
    begun: bool,
    after_cr: bool,
    name: String,
    data: String,
    /// The "last event ID buffer" of the standard, which persists across blocks.
    id_buffer: String,
    /// The "last event ID string" of the standard: the buffer at the end of the last block.
    last_id: String,
    retry_ms: Option<u64>,
    comments: Vec<String>,
    /// Blocks without data, which many clients report as empty messages.
    empty_blocks: usize,
}

impl Parser {
    /// The events that `bytes` complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => events.extend(self.line()),
                _ => self.pending.push(byte),
            }
        }
        events
    }

    pub(super) fn last_id(&self) -> &str {
        &self.last_id
    }

    pub(super) fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    pub(super) fn comments(&self) -> &[String] {
        &self.comments
    }

    pub(super) fn empty_blocks(&self) -> usize {
        self.empty_blocks
    }

    /// Processes the pending line. An empty line completes a block.
    fn line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.pending);
        let line = String::from_utf8_lossy(&line).into_owned();
        let first = !std::mem::replace(&mut self.begun, true);
        let line = match line.strip_prefix('\u{FEFF}') {
            Some(rest) if first => rest,
            _ => &line,
        };
        if line.is_empty() {
            return self.dispatch();
        }
        match line.split_once(':') {
            Some(("", comment)) => self.comments.push(comment.to_owned()),
            Some((field, value)) => self.field(field, value.strip_prefix(' ').unwrap_or(value)),
            None => self.field(line, ""),
        }
        None
    }

    fn field(&mut self, field: &str, value: &str) {
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id_buffer),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry_ms = value.parse().ok();
            }
            _ => {}
        }
    }

    fn dispatch(&mut self) -> Option<Event> {
        self.last_id.clone_from(&self.id_buffer);
        let name = std::mem::take(&mut self.name);
        let mut data = std::mem::take(&mut self.data);
        if data.is_empty() {
            self.empty_blocks += 1;
            return None;
        }
        data.pop();
        let name = if name.is_empty() {
            "message".to_owned()
        } else {
            name
        };
        let id = self.last_id.clone();
        Some(Event { id, name, data })
    }
}

#[test]
fn blocks_are_read_as_the_standard_says() {
    let mut parser = Parser::default();
    let text = "\u{FEFF}retry: 3000\nid: a\n\n: hello\nid: b\n\nevent: x\r\ndata: 1\r\ndata:2\r\n\r\ndata\n\nid: c\ndata: cut";
    let mut events = Vec::new();
    for byte in text.bytes() {
        events.extend(parser.feed(&[byte]));
    }
    let event = |name: &str, data: &str| Event {
        id: "b".to_owned(),
        name: name.to_owned(),
        data: data.to_owned(),
    };
    assert_eq!(events, [event("x", "1\n2"), event("message", "")]);
    assert_eq!(parser.last_id(), "b", "the cut block does not count");
    assert_eq!(parser.retry_ms(), Some(3_000));
    assert_eq!(parser.comments(), [" hello"]);
}
