//! The bytes of a connection between its socket and hyper: counted for the time-outs, and mended where hyper alone would say
//! too little to an HTTP/1 client.
//!
//! *A client that says no more.* An end of the stream while its request is answered may mean that it has gone, or that it has
//! only closed its sending side (`nc -N`); on the wire both are a FIN. hyper is told to serve on (`half_close`), and it is
//! found out here: an interim `100 Continue`, which every client of HTTP/1.1 has to pass over (RFC 9110, 15.2), is answered by
//! the kernel of one that has gone with a reset. A client of HTTP/1.0 may not be sent one, so it is taken to be there.
//!
//! *A head that hyper refuses* it answers without a body. Such an answer gets one like every other error's.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Doors;
use super::activity::Activity;
use super::frames::Frames;
use super::refusal::Refusal;
use super::transport::Transport;

/// Bytes read ahead while a request is answered: enough to see that there is something, or the end.
const AHEAD_BYTES: usize = 1024;

/// Bytes read at once of what nobody looks at.
const LINGER_BYTES: usize = 8 << 10;

/// What asks a client whether it is still there.
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// When the reset of a client that has gone is looked for, at first and at most: a round trip, and a wait that costs nothing.
const RESET_LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How long a client that still sends is listened to after its connection's last answer. Closed with something unread, the
/// kernel would reset the connection, and the client might never see the answer. A round trip, and time to read.
const LINGER: Duration = Duration::from_secs(1);

/// A connection's bytes.
pub(super) struct Wire {
    stream: Transport,
    activity: Arc<Activity>,
    doors: Arc<Doors>,
    /// What was read while hyper did not.
    ahead: Vec<u8>,
    /// Whether the client's end was read, and what was done about it.
    ended: Option<Asked>,
    refusal: Option<Refusal>,
    frames: Frames,
    /// Set at the end of a connection whose client may still be sending.
    lingering: Option<Pin<Box<Sleep>>>,
}

/// How far the question to a client that says no more has come.
enum Asked {
    /// Its end was seen.
    NotYet,
    /// This much of [`PROBE`] was written.
    Partly(usize),
    /// A reset is waited for.
    Whole(Pin<Box<Sleep>>, Duration),
    /// Hyper knows of the end: it was not waited for by a request that is answered.
    Told,
}

impl Wire {
    pub(super) fn new(stream: Transport, activity: Arc<Activity>, doors: Arc<Doors>) -> Self {
        Self {
            stream,
            activity,
            doors,
            ahead: Vec::new(),
            ended: None,
            refusal: None,
            frames: Frames::default(),
            lingering: None,
        }
    }

    /// Looks whether the client of a request that is answered has gone, which hyper does not.
    ///
    /// # Errors
    /// Where it has.
    fn look_after_client(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.activity.answers_http1() || !self.ahead.is_empty() {
            return Ok(());
        }
        if self.ended.is_some() {
            return self.ask(context);
        }
        let mut bytes = [MaybeUninit::uninit(); AHEAD_BYTES];
        let mut read = ReadBuf::uninit(&mut bytes);
        match Pin::new(&mut self.stream).poll_read(context, &mut read) {
            Poll::Pending => Ok(()),
            Poll::Ready(Err(gone)) => Err(gone),
            Poll::Ready(Ok(())) => {
                self.ahead.extend_from_slice(read.filled());
                if self.ahead.is_empty() {
                    self.ended = Some(Asked::NotYet);
                }
                // It may be hyper that waits for it, for the rest of a body.
                context.waker().wake_by_ref();
                Ok(())
            }
        }
    }

    /// Asks a client that says no more whether it is there, and listens for the reset that says that it is not.
    fn ask(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        loop {
            match &mut self.ended {
                Some(Asked::NotYet) if self.activity.takes_interim() => self.ended = Some(Asked::Partly(0)),
                None | Some(Asked::NotYet | Asked::Told) => return Ok(()),
                Some(Asked::Partly(written)) if *written < PROBE.len() => {
                    match Pin::new(&mut self.stream).poll_write(context, &PROBE[*written..])? {
                        Poll::Ready(more) => *written += more,
                        Poll::Pending => return Ok(()),
                    }
                }
                Some(Asked::Partly(_)) => {
                    if Pin::new(&mut self.stream).poll_flush(context)?.is_pending() {
                        return Ok(());
                    }
                    self.gone()?;
                    self.ended = Some(Asked::Whole(Box::pin(tokio::time::sleep(RESET_LOOKS.0)), RESET_LOOKS.0));
                }
                Some(Asked::Whole(timer, pause)) => {
                    if timer.as_mut().poll(context).is_pending() {
                        return Ok(());
                    }
                    *pause = (*pause * 2).min(RESET_LOOKS.1);
                    timer.as_mut().reset(Instant::now() + *pause);
                    self.gone()?;
                }
            }
        }
    }

    fn gone(&self) -> io::Result<()> {
        self.stream.tcp().take_error()?.map_or(Ok(()), Err)
    }

    /// Begins to write something else where `data` is an answer of hyper's own.
    fn mend(&mut self, data: &[u8]) {
        if self.refusal.is_some() {
            return;
        }
        if let Some(refusal) = Refusal::instead_of(data, &self.doors.bounds) {
            self.doors.telemetry.doors.count_http(refusal.status());
            self.lingers();
            self.refusal = Some(refusal);
        }
    }

    fn note_write(&mut self, outcome: &Poll<io::Result<usize>>, data: &[IoSlice<'_>]) {
        let bytes = match outcome {
            Poll::Ready(Ok(written)) if self.activity.is_http2() => self.frames.advance(data, *written),
            Poll::Ready(Ok(written)) => *written,
            _ => 0,
        };
        self.activity.wrote(outcome.is_pending(), bytes);
    }

    fn lingers(&mut self) -> &mut Pin<Box<Sleep>> {
        self.lingering.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)))
    }

    /// Reads what still comes after the last answer; resolves at its end or when it was enough.
    fn linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [MaybeUninit::uninit(); LINGER_BYTES];
        loop {
            if self.lingering.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready()) {
                return Poll::Ready(());
            }
            let mut read = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(context, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => self.lingers(),
                // Nothing is known to come.
                Poll::Pending if self.lingering.is_some() => return Poll::Pending,
                _ => return Poll::Ready(()),
            };
        }
    }

    /// Writes what there is instead of hyper's answer; gives how much of that is thereby done.
    fn write_refusal(&mut self, context: &mut Context<'_>) -> Option<Poll<io::Result<usize>>> {
        let refusal = self.refusal.as_mut()?;
        while let Some(rest) = refusal.rest() {
            match Pin::new(&mut self.stream).poll_write(context, rest) {
                Poll::Ready(Ok(written)) if written > 0 => refusal.wrote(written),
                Poll::Ready(Ok(_)) => return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                other => return Some(other),
            }
        }
        let replaced = refusal.replaced();
        // hyper drops the connection as soon as this is written.
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Ready(Ok(())) if self.linger(context).is_pending() => return Some(Poll::Pending),
            Poll::Ready(Err(cause)) => return Some(Poll::Ready(Err(cause))),
            Poll::Ready(Ok(())) => self.refusal = None,
            Poll::Pending => return Some(Poll::Pending),
        }
        Some(Poll::Ready(Ok(replaced)))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..count]);
            self.ahead.drain(..count);
            self.activity.read(&buffer.filled()[buffer.filled().len() - count..]);
            return Poll::Ready(Ok(()));
        }
        if self.ended.is_some() {
            self.ended = Some(Asked::Told);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = &buffer.filled()[before..];
        if !read.is_empty() {
            self.activity.read(read);
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.mend(data);
        let written = match self.write_refusal(context) {
            Some(written) => written,
            None => Pin::new(&mut self.stream).poll_write(context, data),
        };
        self.note_write(&written, &[IoSlice::new(data)]);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        // hyper flushes whenever it has looked at everything else.
        Poll::Ready(self.look_after_client(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        if self.ended.is_none() && !self.activity.is_http2() {
            ready!(self.linger(context));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [head] = data {
            self.mend(head);
        }
        let written = match self.write_refusal(context) {
            Some(written) => written,
            None => Pin::new(&mut self.stream).poll_write_vectored(context, data),
        };
        self.note_write(&written, data);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
