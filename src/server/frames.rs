//! HTTP/2 frames on their way out: how much of what is written is answers.

use std::io::IoSlice;

/// Bytes of a frame's head (RFC 9113, 4.1).
const HEAD_BYTES: usize = 9;

/// The type of DATA frames.
const DATA: u8 = 0;

/// Where in its frames a connection's output is.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// Of the frame's payload.
    left: usize,
}

impl Frames {
    /// Goes on over the first `written` bytes of `data`; gives how many were payloads of DATA frames. Answers to pings and
    /// settings are none, so a client that only pings is seen to take nothing.
    pub(super) fn advance(&mut self, data: &[IoSlice<'_>], mut written: usize) -> usize {
        let mut counted = 0;
        for slice in data {
            let slice = &slice[..slice.len().min(written)];
            written -= slice.len();
            counted += self.over(slice);
        }
        counted
    }

    fn over(&mut self, mut data: &[u8]) -> usize {
        let mut counted = 0;
        while !data.is_empty() {
            if self.left == 0 {
                let taken = data.len().min(HEAD_BYTES - self.head_bytes);
                self.head[self.head_bytes..self.head_bytes + taken].copy_from_slice(&data[..taken]);
                self.head_bytes += taken;
                data = &data[taken..];
                if self.head_bytes == HEAD_BYTES {
                    self.head_bytes = 0;
                    self.left = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize;
                }
            } else {
                let taken = data.len().min(self.left);
                self.left -= taken;
                data = &data[taken..];
                if self.head[3] == DATA {
                    counted += taken;
                }
            }
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_data_is_counted_however_it_is_written() {
        let ping = [0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let data = [0, 0, 3, 0, 1, 0, 0, 0, 1, 7, 7, 7];
        let settings = [0, 0, 0, 4, 1, 0, 0, 0, 0];
        let sent = [&ping[..], &data, &settings, &data, &ping].concat();
        for piece in 1..=sent.len() {
            let mut frames = Frames::default();
            let counted: usize =
                sent.chunks(piece).map(|chunk| frames.advance(&[IoSlice::new(chunk)], chunk.len())).sum();
            assert_eq!(counted, 6, "in pieces of {piece}");
        }
        let mut frames = Frames::default();
        let slices = [IoSlice::new(&data[..9]), IoSlice::new(&data[9..])];
        assert_eq!(frames.advance(&slices, 10), 1);
        assert_eq!(frames.advance(&[IoSlice::new(&data[10..])], 2), 2);
    }
}
