//! A cursor over untrusted bytes: every read says what it wants, and fails with both numbers when it is not there.

use crate::error::{Error, Result};

/// Reads little-endian numbers, strings and runs of bytes from front to back.
pub(super) struct Reader<'a> {
    bytes: &'a [u8], // the beginning of the file, or all of it
    length: usize,   // of the file
    at: usize,       // ≤ bytes.len()
    lacks: bool,     // whether it failed for want of what the file has beyond `bytes`
}

impl<'a> Reader<'a> {
    /// Of a file of `length` bytes that begins with these, or has no others.
    pub(super) fn new(bytes: &'a [u8], length: usize) -> Self {
        assert!(bytes.len() <= length);
        Self { bytes, length, at: 0, lacks: false }
    }

    /// Whether the file has more where the reader failed: with more of its beginning it may not.
    pub(super) fn lacks_bytes(&self) -> bool {
        self.lacks
    }

    /// Bytes read so far = the position in the file.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub(super) fn remaining(&self) -> usize {
        self.length - self.at
    }

    /// The length of the whole file.
    pub(super) fn file_bytes(&self) -> usize {
        self.length
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: u64, what: &str) -> Result<&'a [u8]> {
        let remaining = self.remaining();
        match usize::try_from(length) {
            Ok(length) if length <= self.bytes.len() - self.at => {
                let taken = &self.bytes[self.at..][..length];
                self.at += length;
                Ok(taken)
            }
            Ok(length) if length <= remaining => Err(self.lacking(what)),
            _ => Err(Error::Malformed(format!("the {what} claims {length} bytes, but {remaining} remain"))),
        }
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// An i64 that counts something.
    pub(super) fn count(&mut self, what: &str) -> Result<u64> {
        let count = i64::from_le_bytes(self.array(what)?);
        u64::try_from(count).map_err(|_| Error::Malformed(format!("the {what} is negative: {count}")))
    }

    /// A string: its length in bytes as u64, then UTF-8.
    pub(super) fn text(&mut self, what: &str) -> Result<&'a str> {
        let length = self.u64(what)?;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|error| {
            let wrong = error.valid_up_to();
            Error::Malformed(format!("the {what} is not UTF-8: its byte {wrong} is {:#04x}", bytes[wrong]))
        })
    }

    /// Checks a count of entries of at least `entry_bytes` each against the bytes that are left, before any is read.
    pub(super) fn expect_entries(&self, count: u64, entry_bytes: usize, what: &str) -> Result<()> {
        let remaining = self.remaining();
        if count > (remaining / entry_bytes) as u64 {
            return Err(Error::Malformed(format!(
                "{count} {what} are claimed, but {remaining} bytes remain and each takes at least {entry_bytes}"
            )));
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let at = self.at;
        match self.bytes[at..].first_chunk() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None if self.remaining() >= N => Err(self.lacking(what)),
            None => Err(Error::Malformed(format!("the file ends within the {what} at byte {at}"))),
        }
    }

    fn lacking(&mut self, what: &str) -> Error {
        self.lacks = true;
        Error::Malformed(format!(
            "the {what} at byte {} lies beyond the {} bytes that were read",
            self.at,
            self.bytes.len()
        ))
    }
}
