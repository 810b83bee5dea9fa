//! Bundles and effects to the byte (wit/README.md, "Frames"). A frame may lie at any address: everything is read bytewise, which
//! costs nothing where unaligned loads are free.

use std::fmt;

/// `WMB1`
pub const BUNDLE_MAGIC: u32 = 0x3142_4D57;
/// `WME1`
pub const EFFECTS_MAGIC: u32 = 0x3145_4D57;
/// Bytes of the header; also what slots are aligned to.
pub const HEADER_BYTES: usize = 64;
/// No frame is longer.
pub const FRAME_BYTES_MAX: usize = i32::MAX as usize;
/// No bundle has more rows.
pub const BUNDLE_ROWS_MAX: usize = 1 << 24;

/// Why a frame is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameError(pub String);

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken frame: {}", self.0)
    }
}

impl std::error::Error for FrameError {}

pub(crate) fn broken<T>(message: impl Into<String>) -> Result<T, FrameError> {
    Err(FrameError(message.into()))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(HEADER_BYTES)
}

/// The slots of a frame, taken in order.
#[derive(Clone)]
pub struct Slots<'f> {
    frame: &'f [u8],
    directory: &'f [[u8; 8]],
    next: usize,
}

impl<'f> Slots<'f> {
    /// Checks the header's magic and the directory's bounds.
    pub fn open(frame: &'f [u8], magic: u32) -> Result<Self, FrameError> {
        if frame.len() < HEADER_BYTES || frame.len() > FRAME_BYTES_MAX {
            return broken(format!("{} bytes, and a frame has 64 to {FRAME_BYTES_MAX}", frame.len()));
        }
        if u32_at(frame, 0) != magic {
            return broken(format!("begins with {:#x}, not {magic:#x}", u32_at(frame, 0)));
        }
        let slots = u32_at(frame, 4) as usize;
        match frame[HEADER_BYTES..].as_chunks::<8>().0.get(..slots) {
            Some(directory) => Ok(Self { frame, directory, next: 0 }),
            None => broken(format!("a directory of {slots} slots does not fit in {} bytes", frame.len())),
        }
    }

    /// How many slots are left.
    pub fn left(&self) -> usize {
        self.directory.len() - self.next
    }

    /// Passes over `count` slots.
    pub fn skip(&mut self, count: usize) -> Result<(), FrameError> {
        if count > self.left() {
            return broken(format!("{} slots, at least {} needed", self.directory.len(), self.next + count));
        }
        self.next += count;
        Ok(())
    }

    /// The next slot; empty = absent.
    #[inline]
    pub fn take(&mut self) -> Result<&'f [u8], FrameError> {
        let index = self.next;
        self.skip(1)?;
        let entry = &self.directory[index];
        let (offset, length) = (u32_at(entry, 0) as usize, u32_at(entry, 4) as usize);
        if length == 0 {
            return Ok(&[]);
        }
        match offset.checked_add(length).and_then(|end| self.frame.get(offset..end)) {
            Some(bytes) => Ok(bytes),
            None => broken(format!("slot {index} is {length} bytes at {offset} of a frame of {}", self.frame.len())),
        }
    }

    /// The next slot, which must have `rows` values of `W` bytes.
    #[inline]
    pub fn fixed<const W: usize>(&mut self, rows: usize) -> Result<&'f [[u8; W]], FrameError> {
        let index = self.next;
        let (values, rest) = self.take()?.as_chunks::<W>();
        if values.len() != rows || !rest.is_empty() {
            return broken(format!(
                "slot {index} has {} bytes, {rows} rows of {W} bytes wanted",
                values.len() * W + rest.len()
            ));
        }
        Ok(values)
    }

    /// The next slot, which has `rows` values of `W` bytes or is absent.
    #[inline]
    pub fn optional<const W: usize>(&mut self, rows: usize) -> Result<Option<&'f [[u8; W]]>, FrameError> {
        let mut ahead = self.clone();
        if ahead.take()?.is_empty() {
            *self = ahead;
            return Ok(None);
        }
        self.fixed(rows).map(Some)
    }

    /// The next slot as a bitmap of `rows` bits; absent = `None`.
    #[inline]
    pub fn bits(&mut self, rows: usize) -> Result<Option<&'f [u8]>, FrameError> {
        let index = self.next;
        let bits = self.take()?;
        if bits.is_empty() {
            return Ok(None);
        }
        if bits.len() != rows.div_ceil(8) {
            return broken(format!("slot {index} has {} bytes, a bit for each of {rows} rows wanted", bits.len()));
        }
        Ok(Some(bits))
    }
}

/// What a bundle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Process,
    Accumulate,
    Retract,
    Merge,
    Result,
}

/// A bundle's header, and its slots from the first argument on.
#[derive(Clone)]
pub struct Bundle<'f> {
    /// Index into `setup.bindings`.
    pub function: usize,
    pub operation: Operation,
    pub rows: usize,
    /// Distinct keys.
    pub keys: usize,
    /// Milliseconds; `i64::MIN` = none.
    pub watermark: i64,
    /// Milliseconds, constant in a bundle.
    pub processing_time: i64,
    pub seed: u64,
    pub slots: Slots<'f>,
}

impl<'f> Bundle<'f> {
    /// Reads the header.
    pub fn open(frame: &'f [u8]) -> Result<Self, FrameError> {
        let slots = Slots::open(frame, BUNDLE_MAGIC)?;
        let operation = match u32_at(frame, 12) {
            0 => Operation::Process,
            1 => Operation::Accumulate,
            2 => Operation::Retract,
            3 => Operation::Merge,
            4 => Operation::Result,
            other => {
                return broken(format!("operation {other} is not known; this UDF speaks version 0.1 of the contract"));
            }
        };
        let rows = u32_at(frame, 16) as usize;
        let keys = u32_at(frame, 20) as usize;
        if rows > BUNDLE_ROWS_MAX || keys > BUNDLE_ROWS_MAX {
            return broken(format!("{rows} rows and {keys} keys, at most {BUNDLE_ROWS_MAX} allowed"));
        }
        Ok(Self {
            function: u32_at(frame, 8) as usize,
            operation,
            rows,
            keys,
            watermark: u64_at(frame, 24) as i64,
            processing_time: u64_at(frame, 32) as i64,
            seed: u64_at(frame, 40),
            slots,
        })
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Done = 0,
    /// `resume-frame` has the rest.
    More = 1,
}

/// Writes a frame into a buffer that is kept from one to the next.
#[derive(Default)]
pub struct FrameWriter {
    bytes: Vec<u8>,
    slots: usize,
    next: usize,
}

impl FrameWriter {
    /// Begins a frame of `slots` slots, all absent.
    pub fn begin(&mut self, magic: u32, slots: usize) {
        self.bytes.clear();
        self.bytes.resize(padded(HEADER_BYTES + 8 * slots), 0);
        (self.slots, self.next) = (slots, 0);
        self.header_u32(0, magic);
        self.header_u32(4, slots as u32);
    }

    /// Sets four bytes of the header.
    pub fn header_u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Sets eight bytes of the header.
    pub fn header_u64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// Leaves the next `count` slots absent.
    pub fn absent(&mut self, count: usize) {
        self.next += count;
        assert!(self.next <= self.slots, "a frame of {} slots was given {}", self.slots, self.next);
    }

    /// Fills the next slot; no bytes = absent.
    #[inline]
    pub fn slot(&mut self, bytes: &[u8]) {
        self.slot_with(bytes.len(), |out| out.extend_from_slice(bytes));
    }

    /// Fills the next slot with offsets, the first of which is 0: `ends` are all that follow. No rows = absent.
    pub fn offsets(&mut self, ends: &[[u8; 4]]) {
        if ends.is_empty() {
            return self.absent(1);
        }
        self.slot_with(4 + 4 * ends.len(), |out| {
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(ends.as_flattened());
        });
    }

    /// Fills the next slot with the `length` bytes that `fill` appends.
    #[inline]
    pub fn slot_with(&mut self, length: usize, fill: impl FnOnce(&mut Vec<u8>)) {
        let entry = HEADER_BYTES + 8 * self.next;
        self.absent(1);
        if length == 0 {
            return;
        }
        let offset = padded(self.bytes.len());
        let end = padded(offset + length);
        assert!(
            end <= FRAME_BYTES_MAX,
            "the output of one bundle passes 2 GiB; give smaller rows or set a smaller bundle.size"
        );
        self.bytes.reserve(end - self.bytes.len());
        self.bytes.resize(offset, 0);
        fill(&mut self.bytes);
        debug_assert_eq!(self.bytes.len(), offset + length, "a slot has the length that it said");
        self.header_u32(entry, offset as u32);
        self.header_u32(entry + 4, length as u32);
    }

    /// Ends the frame.
    pub fn finish(&mut self) -> &[u8] {
        assert_eq!(self.next, self.slots, "a frame of {} slots was given {}", self.slots, self.next);
        self.bytes.resize(padded(self.bytes.len()), 0);
        &self.bytes
    }

    /// The frame that was last finished.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back_from_any_address() {
        let mut writer = FrameWriter::default();
        writer.begin(BUNDLE_MAGIC, 3);
        writer.slot(&7u64.to_le_bytes());
        writer.slot(&[]);
        writer.slot(&[5; 65]);
        let frame = writer.finish().to_vec();
        assert_eq!(frame.len() % 64, 0);
        for shift in 0..9 {
            let mut moved = vec![0; shift];
            moved.extend_from_slice(&frame);
            let mut slots = Slots::open(&moved[shift..], BUNDLE_MAGIC).expect("a frame");
            assert_eq!(slots.fixed::<8>(1).expect("a slot"), [7u64.to_le_bytes()]);
            assert_eq!(slots.optional::<8>(1).expect("a slot"), None);
            assert_eq!(slots.take().expect("a slot"), [5; 65]);
            assert!(slots.take().is_err());
        }
    }

    #[test]
    fn a_directory_that_points_outside_is_refused() {
        let mut writer = FrameWriter::default();
        writer.begin(BUNDLE_MAGIC, 1);
        writer.slot(&[1]);
        let mut frame = writer.finish().to_vec();
        frame[68..72].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Slots::open(&frame, BUNDLE_MAGIC).expect("a frame").take().is_err());
        frame[4..8].copy_from_slice(&1000u32.to_le_bytes());
        assert!(Slots::open(&frame, BUNDLE_MAGIC).is_err());
        assert!(Slots::open(&frame[..10], BUNDLE_MAGIC).is_err());
    }
}
