//! Where the frames of HTTP/2 begin and end (RFC 9113, section 4.1).

/// What a client says before its first frame.
const PREFACE_BYTES: usize = 24;

/// A length of three bytes, the type, flags, and a stream.
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// The flag of the last frame of a head.
const END_HEADERS: u8 = 4;

/// Follows what a client sends, frame by frame.
#[derive(Debug)]
pub(in crate::net) struct Frames {
    header: [u8; HEADER_BYTES],
    /// How much of the header was read.
    filled: usize,
    /// How many bytes come before the next header.
    left: usize,
    is_data: bool,
    /// The bytes of the head whose frames have begun and not ended.
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
    /// How many of the next bytes are in DATA frames. The windows bound these: a request that nobody reads gets no
    /// more than its first one.
    pub(in crate::net) fn pass(&mut self, mut bytes: &[u8]) -> usize {
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

    /// How many bytes there are of a head that has not ended, which waits for its last frame.
    pub(in crate::net) fn unfinished_head(&self) -> usize {
        self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_told_from_the_rest_however_they_arrive() {
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
            let data: usize = all.chunks(piece).map(|bytes| frames.pass(bytes)).sum();
            assert_eq!(data, 103, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_head_is_unfinished_until_its_last_frame_begins() {
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
            frames.pass(&bytes);
            assert_eq!(frames.unfinished_head(), unfinished);
        }
    }
}
