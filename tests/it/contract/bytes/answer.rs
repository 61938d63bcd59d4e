//! One raw answer.

use serde_json::Value;

/// The statuses with which hyper refuses bytes that are not HTTP (RFC 9110, section 15.5), without a body.
const OF_HYPER: [u16; 4] = [400, 413, 414, 431];

pub(super) struct Answer {
    bytes: Vec<u8>,
    /// The answer to `HEAD`, or an answer in HTTP/2 frames.
    has_no_body: bool,
    is_http1: bool,
}

impl Answer {
    /// An empty answer to `request`.
    pub(super) fn to(request: &[u8]) -> Self {
        Self {
            bytes: Vec::new(),
            has_no_body: request.starts_with(b"HEAD "),
            is_http1: !request.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether the answer is complete. A stream counts as complete after its head.
    pub(super) fn is_complete(&self) -> bool {
        let Some((head, body)) = self.parts() else {
            return false;
        };
        self.has_no_body
            || header(&head, "content-type").as_deref() == Some("text/event-stream")
            || length(&head) == Some(body.len())
    }

    /// Returns an error for an answer that the service may never give.
    pub(super) fn judge(&self) -> Result<(), String> {
        if self.bytes.is_empty() || !self.is_http1 {
            return Ok(());
        }
        let shown = || self.bytes.escape_ascii().to_string();
        let (head, body) = self
            .parts()
            .ok_or_else(|| format!("half a head: {}", shown()))?;
        let status = head.get("HTTP/1.1 ".len()..).and_then(|rest| rest.get(..3));
        let status: u16 = status
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| format!("no status: {}", shown()))?;
        let good = match status {
            200 => header(&head, "content-type").is_some(),
            // The redirect from `/docs` to the page.
            303 | 307 => header(&head, "location").is_some(),
            400..500 if body.is_empty() => self.has_no_body || OF_HYPER.contains(&status),
            400..500 => is_problem(&head, body, status),
            _ => false,
        };
        if !good {
            return Err(format!("undocumented: {}", shown()));
        }
        Ok(())
    }

    fn parts(&self) -> Option<(String, &[u8])> {
        let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
        let body = &self.bytes[end + 4..];
        // Further bytes answer the rest of the request, which the service reads as the next request.
        let length = if self.has_no_body {
            0
        } else {
            length(&head).unwrap_or(body.len()).min(body.len())
        };
        Some((head, &body[..length]))
    }
}

fn length(head: &str) -> Option<usize> {
    header(head, "content-length")?.parse().ok()
}

fn header(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut values = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
    values.next().map(|(_, value)| value.to_owned())
}

/// Whether the body is a problem document (RFC 9457) with the members of the contract.
fn is_problem(head: &str, body: &[u8], status: u16) -> bool {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let kind = problem["type"].as_str().unwrap_or("");
    header(head, "content-type").as_deref() == Some("application/problem+json")
        && kind.starts_with("urn:presence:problem:")
        && problem["status"] == status
        && ["title", "detail"]
            .iter()
            .all(|member| problem[*member].is_string())
}
