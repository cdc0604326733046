//! One region: a part of a file.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::error::{Error, Result};

/// Part of a file that a client registered.
#[derive(Debug)]
pub struct Region {
    name: String,
    key: String,
    offset: u64,
    byte_size: u64,
    file: File,
}

impl Region {
    pub(super) fn open(name: &str, key: &str, path: &Path, offset: u64, byte_size: u64) -> Result<Self> {
        let cannot = |cause: io::Error| Error::invalid(format!("cannot open key '{key}': {}", told(&cause)));
        let open = |write: bool| {
            // A link could lead out of the directory, and opening a pipe would wait for its other end.
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            OpenOptions::new().read(true).write(write).custom_flags(flags).open(path)
        };
        let file = match open(true) {
            // What only the client may write can still be read.
            Err(cause) if cause.kind() == ErrorKind::PermissionDenied => open(false),
            opened => opened,
        };
        let file = file.map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if !metadata.is_file() {
            return Err(Error::invalid(format!("key '{key}' is no regular file")));
        }
        if byte_size == 0 {
            return Err(Error::invalid("its byte_size is 0, expected at least 1"));
        }
        match offset.checked_add(byte_size) {
            Some(end) if end <= metadata.len() => {}
            _ => {
                let length = metadata.len();
                let message =
                    format!("{byte_size} bytes from {offset} do not fit key '{key}', which has {length} bytes");
                return Err(Error::invalid(message));
            }
        }
        Ok(Self { name: name.into(), key: key.into(), offset, byte_size, file })
    }

    /// The name it was registered by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key it was registered with.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where it starts in the file, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Its length in bytes.
    pub fn byte_size(&self) -> u64 {
        self.byte_size
    }

    pub(super) fn check(&self, offset: u64, byte_size: usize) -> Result<()> {
        match offset.checked_add(byte_size as u64) {
            Some(end) if end <= self.byte_size => Ok(()),
            _ => Err(self.fault(format_args!(
                "{byte_size} bytes from {offset} reach beyond it, it has {} bytes",
                self.byte_size
            ))),
        }
    }

    /// A copy of `byte_size` bytes from `offset` of the region. Blocks for as long as the file system takes; for memory, a
    /// copy's time.
    ///
    /// # Errors
    /// `InvalidRequest` where they are not within the region, or the file has become shorter.
    pub fn read(&self, offset: u64, byte_size: usize, held: Held) -> Result<Bytes> {
        self.check(offset, byte_size)?;
        let mut data = vec![0; byte_size];
        match self.file.read_exact_at(&mut data, self.offset + offset) {
            Ok(()) => Ok(Bytes::from_owner(HeldBytes { data, _held: held })),
            Err(cause) if cause.kind() == ErrorKind::UnexpectedEof => Err(self.shortened(offset, byte_size)),
            Err(cause) => Err(self.fault(format_args!("cannot be read: {}", told(&cause)))),
        }
    }

    /// Writes `data` at `offset` of the region; blocks as a read does.
    ///
    /// # Errors
    /// `InvalidRequest` where it does not fit the region, the file has become shorter, or it cannot be written.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.check(offset, data.len())?;
        let end = self.offset + offset + data.len() as u64;
        // A write would make the file longer again, with memory that its owner no longer expects to pay for.
        if self.file.metadata().is_ok_and(|metadata| metadata.len() < end) {
            return Err(self.shortened(offset, data.len()));
        }
        let written = self.file.write_all_at(data, self.offset + offset);
        written.map_err(|cause| self.fault(format_args!("cannot be written: {}", told(&cause))))
    }

    fn shortened(&self, offset: u64, byte_size: usize) -> Error {
        self.fault(format_args!("its file has become shorter and no longer holds {byte_size} bytes from {offset}"))
    }

    fn fault(&self, message: std::fmt::Arguments<'_>) -> Error {
        Error::invalid(format!("shared memory region '{}': {message}", super::shown(&self.name)))
    }
}

/// An error of the file system, told by what is wrong with the file.
fn told(cause: &io::Error) -> String {
    match cause.raw_os_error() {
        Some(libc::ELOOP) => "it is a symbolic link".into(),
        Some(libc::EBADF) => "this server may only read it".into(),
        _ => cause.to_string(),
    }
}

/// Bytes that count as held until this is dropped.
#[derive(Debug)]
pub struct Held {
    counter: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    pub(super) fn new(counter: Arc<AtomicUsize>, bytes: usize) -> Self {
        counter.fetch_add(bytes, Ordering::Relaxed);
        Self { counter, bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A tensor's memory, counted for as long as anybody shares it.
struct HeldBytes {
    data: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}
