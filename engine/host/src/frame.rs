//! Frames: a header of 64 bytes, a directory of slots, and the slots, each on a multiple of 64 (`wit/README.md`, "Frames").

use arrow::array::Array;
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, ScalarBuffer};
use arrow::datatypes::ArrowNativeType;

#[cfg(target_endian = "big")]
compile_error!(
    "frames are little-endian and are read in place: a big-endian host needs byte swapping in frame.rs and column.rs"
);

pub(crate) const MAGIC_BUNDLE: u32 = 0x3142_4D57;
pub(crate) const MAGIC_EFFECTS: u32 = 0x3145_4D57;
pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const FRAME_BYTES_MAX: usize = i32::MAX as usize;
pub(crate) const ROWS_MAX: usize = 1 << 24;
const ALIGNMENT: usize = 64;
/// What Arrow needs of the types that we read in place: i128 is the widest.
const READ_ALIGNMENT: usize = 16;

pub(crate) fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// A claim of the guest's that is not true. Becomes a fault that names the UDF.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Lie(pub(crate) String);

impl Lie {
    /// Puts in front which part of the frame it was.
    pub(crate) fn of(self, part: impl std::fmt::Display) -> Self {
        Lie(format!("{part}: {}", self.0))
    }
}

/// Returns a [`Lie`] from the enclosing function.
macro_rules! lie {
    ($($argument:tt)*) => {
        return Err($crate::frame::Lie(format!($($argument)*)))
    };
}
pub(crate) use lie;

/// Writes one frame after the other into the same buffer.
#[derive(Debug, Default)]
pub(crate) struct FrameWriter {
    bytes: Vec<u8>,
    slot: usize,
}

impl FrameWriter {
    /// Forgets the last frame and makes room for header and directory.
    pub(crate) fn begin(&mut self, magic: u32, slots: usize) {
        self.bytes.clear();
        self.bytes.resize(padded(HEADER_BYTES + 8 * slots), 0);
        self.slot = 0;
        self.set_u32(0, magic);
        self.set_u32(4, slots as u32);
    }

    pub(crate) fn set_u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn set_u64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// The next `count` slots are absent.
    #[inline]
    pub(crate) fn absent(&mut self, count: usize) {
        self.slot += count;
    }

    /// The next slot holds these bytes; none = absent.
    #[inline]
    pub(crate) fn slot(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.slot += 1;
            return;
        }
        let start = self.open();
        self.bytes.extend_from_slice(bytes);
        self.close(start);
    }

    /// The next slot holds what `write` appends.
    #[inline]
    pub(crate) fn slot_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.open();
        write(&mut self.bytes);
        self.close(start);
    }

    /// The next slot holds these bits, with zeros behind the last.
    pub(crate) fn bits(&mut self, bits: &BooleanBuffer) {
        if bits.is_empty() {
            self.slot += 1;
            return;
        }
        self.slot_with(|bytes| append_bits(bytes, bits));
    }

    fn open(&mut self) -> usize {
        let start = padded(self.bytes.len());
        self.bytes.resize(start, 0);
        start
    }

    fn close(&mut self, start: usize) {
        let length = self.bytes.len() - start;
        if length > 0 {
            // A frame beyond 4 GiB wraps here and is refused by `finish`.
            let entry = HEADER_BYTES + 8 * self.slot;
            self.set_u32(entry, start as u32);
            self.set_u32(entry + 4, length as u32);
        }
        self.slot += 1;
    }

    /// The frame, or its size if that is more than a frame can have.
    pub(crate) fn finish(&mut self) -> Result<&[u8], usize> {
        let end = padded(self.bytes.len());
        self.bytes.resize(end, 0);
        debug_assert_eq!(
            self.slot as u32,
            u32::from_le_bytes([self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]])
        );
        if end > FRAME_BYTES_MAX { Err(end) } else { Ok(&self.bytes) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives memory back when one bundle was far larger than they usually are.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        if self.bytes.capacity() > bytes {
            self.bytes = Vec::new();
        }
    }
}

fn append_bits(bytes: &mut Vec<u8>, bits: &BooleanBuffer) {
    let (offset, length) = (bits.offset(), bits.len());
    if offset.is_multiple_of(8) {
        let first = offset / 8;
        bytes.extend_from_slice(&bits.values()[first..first + length.div_ceil(8)]);
    } else {
        let end = bytes.len() + length.div_ceil(8);
        let chunks = bits.bit_chunks();
        for chunk in chunks.iter() {
            bytes.extend_from_slice(&chunk.to_le_bytes());
        }
        let rest = chunks.remainder_bits().to_le_bytes();
        bytes.extend_from_slice(&rest[..end - bytes.len()]);
    }
    let used = length % 8;
    if used > 0 {
        let last = bytes.last_mut().expect("a slot with bits has a byte");
        *last &= (1u8 << used) - 1;
    }
}

/// Reads a frame slot by slot, in order, and believes none of it.
pub(crate) struct FrameReader {
    frame: Buffer,
    slots: usize,
    slot: usize,
    /// Where the last present slot, or the directory, ended.
    end: usize,
    /// Most rows of a column that takes no bytes.
    bare_rows_max: usize,
}

impl FrameReader {
    /// Checks size, magic and number of slots. The bytes are kept and shared by the arrays read from them, not copied.
    pub(crate) fn new(bytes: Vec<u8>, magic: u32, slots: usize) -> Result<Self, Lie> {
        if bytes.len() < HEADER_BYTES || !bytes.len().is_multiple_of(ALIGNMENT) || bytes.len() > FRAME_BYTES_MAX {
            lie!("a frame of {} bytes: at least 64, a multiple of 64, at most {FRAME_BYTES_MAX}", bytes.len());
        }
        let frame = aligned(bytes);
        let bare_rows_max = frame.len();
        let reader = Self { frame, slots, slot: 0, end: HEADER_BYTES + 8 * slots, bare_rows_max };
        let got = reader.u32(0);
        if got != magic {
            lie!("a frame with magic {got:#010x}, expected {magic:#010x}");
        }
        let got = reader.u32(4);
        if got as usize != slots {
            lie!("a frame of {got} slots, expected {slots}");
        }
        if reader.frame.len() < padded(reader.end) {
            lie!("a frame of {} bytes cannot hold a directory of {slots} slots", reader.frame.len());
        }
        Ok(reader)
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        let bytes = &self.frame[at..at + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }

    pub(crate) fn check_zero(&self, from: usize, to: usize, what: &str) -> Result<(), Lie> {
        let bytes = &self.frame[from..to];
        // Usually all are: one pass that the compiler makes a vector loop of.
        if bytes.iter().fold(0, |all, byte| all | byte) == 0 {
            return Ok(());
        }
        let at = bytes.iter().position(|byte| *byte != 0).unwrap_or_default();
        lie!("byte {} of {what} is {:#04x}, expected zero", from + at, bytes[at])
    }

    pub(crate) fn frame_bytes(&self) -> usize {
        self.frame.len()
    }

    /// The frame may be about so many rows.
    pub(crate) fn expect_rows(&mut self, rows: usize) {
        self.bare_rows_max = self.bare_rows_max.max(rows);
    }

    pub(crate) fn bare_rows_max(&self) -> usize {
        self.bare_rows_max
    }

    /// Where the next slot lies, as (start, length); (0, 0) = absent.
    #[inline]
    pub(crate) fn range(&mut self) -> Result<(usize, usize), Lie> {
        debug_assert!(self.slot < self.slots, "a plan reads the slots it counted");
        let entry = HEADER_BYTES + 8 * self.slot;
        let (start, length) = (self.u32(entry) as usize, self.u32(entry + 4) as usize);
        let slot = self.slot;
        self.slot += 1;
        if length == 0 {
            if start != 0 {
                lie!("slot {slot} is absent but has offset {start}");
            }
            return Ok((0, 0));
        }
        if !start.is_multiple_of(ALIGNMENT) {
            lie!("slot {slot} lies at {start}, not a multiple of {ALIGNMENT}");
        }
        if start < self.end {
            lie!("slot {slot} lies at {start}, inside of what comes before it (up to {})", self.end);
        }
        let end = start + length;
        if end > self.frame.len() {
            lie!("slot {slot} ends at {end}, behind the frame's {} bytes", self.frame.len());
        }
        self.check_zero(self.end, start, "a gap")?;
        self.end = end;
        Ok((start, length))
    }

    /// The next slot, which must have exactly this many bytes.
    #[inline]
    pub(crate) fn exactly(&mut self, bytes: usize, what: &str) -> Result<Buffer, Lie> {
        let (start, length) = self.range()?;
        if length != bytes {
            lie!("{what} has {length} bytes, expected {bytes}");
        }
        Ok(self.frame.slice_with_length(start, length))
    }

    /// The next slot, whatever its length.
    #[inline]
    pub(crate) fn any(&mut self) -> Result<Buffer, Lie> {
        let (start, length) = self.range()?;
        Ok(self.frame.slice_with_length(start, length))
    }

    /// The next slot: absent, or exactly this many numbers.
    #[inline]
    pub(crate) fn numbers<T: ArrowNativeType>(
        &mut self,
        count: usize,
        what: &str,
    ) -> Result<Option<ScalarBuffer<T>>, Lie> {
        let (start, length) = self.range()?;
        if length == 0 {
            return Ok(None);
        }
        let bytes = count * size_of::<T>();
        if length != bytes {
            lie!("{what} has {length} bytes, expected {bytes}");
        }
        Ok(Some(ScalarBuffer::new(self.frame.slice_with_length(start, length), 0, count)))
    }

    /// The next slot: absent, or a bit for each of `count` rows.
    #[inline]
    pub(crate) fn bits(&mut self, count: usize, what: &str) -> Result<Option<BooleanBuffer>, Lie> {
        let (start, length) = self.range()?;
        if length == 0 {
            return Ok(None);
        }
        if length != count.div_ceil(8) {
            lie!("{what} has {length} bytes, expected {} for {count} rows", count.div_ceil(8));
        }
        Ok(Some(BooleanBuffer::new(self.frame.slice_with_length(start, length), 0, count)))
    }

    /// The next `count` slots must be absent.
    pub(crate) fn absent(&mut self, count: usize, what: &str) -> Result<(), Lie> {
        if self.skip_if_absent(count) {
            return Ok(());
        }
        for _ in 0..count {
            if self.range()?.1 > 0 {
                lie!("{what} must be absent");
            }
        }
        Ok(())
    }

    /// The next `count` slots, if all are absent and say so rightly; otherwise nothing has been read.
    #[inline]
    pub(crate) fn skip_if_absent(&mut self, count: usize) -> bool {
        debug_assert!(self.slot + count <= self.slots, "a plan reads the slots it counted");
        let entries = &self.frame[HEADER_BYTES + 8 * self.slot..][..8 * count];
        // Offset and length are zero: one look at them all.
        let absent = entries.as_chunks::<8>().0.iter().fold(0, |all, entry| all | u64::from_ne_bytes(*entry)) == 0;
        if absent {
            self.slot += count;
        }
        absent
    }

    /// Checks that the frame ends where its last slot does.
    pub(crate) fn finish(&mut self) -> Result<(), Lie> {
        debug_assert_eq!(self.slot, self.slots, "a plan reads all the slots it counted");
        if padded(self.end) != self.frame.len() {
            lie!("a frame of {} bytes whose last slot ends at {}", self.frame.len(), self.end);
        }
        self.check_zero(self.end, self.frame.len(), "the padding")
    }
}

/// The bytes as a buffer that numbers can be read from in place. An allocator that aligns to 16 (as those of 64-bit systems do)
/// makes this free; otherwise it is a copy.
fn aligned(bytes: Vec<u8>) -> Buffer {
    if (bytes.as_ptr() as usize).is_multiple_of(READ_ALIGNMENT) {
        return Buffer::from_vec(bytes);
    }
    let mut copy = MutableBuffer::with_capacity(bytes.len());
    copy.extend_from_slice(&bytes);
    copy.into()
}

/// Whether any row of an array is null, as the column's validity would say.
pub(crate) fn has_nulls(array: &dyn Array) -> bool {
    array.nulls().is_some_and(|nulls| nulls.null_count() > 0)
}
