//! The frames that an HTTP/2 client sends (RFC 9113, section 4.1), and the memory of its request heads.

use std::sync::Arc;

use crate::net::request_limits::{MemoryShare, RequestLimits};

/// The largest head of a request, uncompressed, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1_024;

/// The largest head that is refused with a problem document, in bytes. h2 answers a larger head with a bare 431 or ends
/// the connection, and does not accept a request target of 64 KiB.
pub(crate) const MAX_REFUSED_HEAD_BYTES: usize = 72 * 1_024;

/// The preface of a client before its first frame.
const PREFACE_BYTES: usize = 24;

/// The header of a frame: three bytes of length, the type, the flags, and the stream.
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// The flag of the last frame of a head.
const END_HEADERS: u8 = 4;

/// Limits the memory of heads that exceed [`MAX_HEAD_BYTES`]: h2 keeps a head until its last frame.
#[derive(Debug)]
pub(crate) struct Heads {
    frames: Frames,
    limits: Arc<RequestLimits>,
    share: Option<MemoryShare>,
}

impl Heads {
    pub(crate) fn new(limits: &Arc<RequestLimits>) -> Self {
        Self {
            frames: Frames::default(),
            limits: Arc::clone(limits),
            share: None,
        }
    }

    /// Follows the bytes of a client. Returns how many of them belong to bodies, or `None` if too little memory is left
    /// for a long head.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        let bodies = self.frames.read(bytes);
        if self.frames.unfinished_head() <= MAX_HEAD_BYTES {
            self.share = None;
        } else if self.share.is_none() {
            self.share = Some(self.limits.large(MAX_REFUSED_HEAD_BYTES)?);
        }
        Some(bodies)
    }
}

/// Finds the boundaries of frames.
#[derive(Debug)]
struct Frames {
    header: [u8; HEADER_BYTES],
    /// The bytes of the header that were read.
    filled: usize,
    /// The bytes before the next header.
    left: usize,
    is_data: bool,
    /// The bytes of the head that has begun and has not ended.
    head: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            header: [0; HEADER_BYTES],
            filled: 0,
            left: PREFACE_BYTES,
            is_data: false,
            head: 0,
        }
    }
}

impl Frames {
    /// Returns how many of the next bytes are the content of DATA frames. The flow control windows bound these bytes: a
    /// request whose body is not read gets its first window only.
    fn read(&mut self, mut bytes: &[u8]) -> usize {
        let mut data = 0;
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = self.left.min(bytes.len());
                data += if self.is_data { count } else { 0 };
                self.left -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = (HEADER_BYTES - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
            if self.filled == HEADER_BYTES {
                let [high, middle, low, kind, flags, ..] = self.header;
                self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.is_data = kind == DATA;
                self.head = match kind {
                    HEADERS | CONTINUATION if flags & END_HEADERS == 0 => self.head + self.left,
                    _ => 0,
                };
                self.filled = 0;
            }
        }
        data
    }

    /// The bytes of a head that has not ended.
    fn unfinished_head(&self) -> usize {
        self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_of_data_frames_is_counted_in_pieces_of_any_size() {
        let frame = |length: u8, kind: u8| {
            let header = [0, 0, length, kind, 0, 0, 0, 0, 1];
            [&header[..], &vec![0; length.into()]].concat()
        };
        let all = [
            vec![0; PREFACE_BYTES],
            frame(6, 4),
            frame(100, 0),
            frame(0, 0),
            frame(7, 8),
            frame(3, 0),
        ];
        let all = all.concat();
        for piece in [1, 2, 8, 9, 10, 50, all.len()] {
            let mut frames = Frames::default();
            let data: usize = all.chunks(piece).map(|bytes| frames.read(bytes)).sum();
            assert_eq!(data, 103, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_head_is_unfinished_until_its_last_frame() {
        let frame = |length: u8, kind: u8, flags: u8| {
            let header = [0, 0, length, kind, flags, 0, 0, 0, 1];
            [&header[..], &vec![0; length.into()]].concat()
        };
        let mut frames = Frames::default();
        for (bytes, unfinished) in [
            (vec![0; PREFACE_BYTES], 0),
            (frame(50, HEADERS, END_HEADERS), 0),
            (frame(50, HEADERS, 0), 50),
            (frame(60, CONTINUATION, 0), 110),
            (frame(70, CONTINUATION, END_HEADERS), 0),
            (frame(70, DATA, 0), 0),
        ] {
            frames.read(&bytes);
            assert_eq!(frames.unfinished_head(), unfinished);
        }
    }
}
