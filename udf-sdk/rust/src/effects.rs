//! What a bundle led to, written as one frame.

use crate::frame::{EFFECTS_MAGIC, FrameWriter, Status};
use crate::function::{Access, Loaded};
use crate::value::{BytesWriter, ColumnWriter};

/// A function answers `more` when its output passes this.
pub const MORE_BYTES: usize = 1 << 20;

/// Slots of timers.
const TIMER_SLOTS: usize = 3;
const ERROR_SLOTS: usize = 7;
/// Metric deltas and requests, a slot each.
const LAST_SLOTS: usize = 2;

/// Rows that failed.
#[derive(Default)]
struct Errors {
    rows: Vec<[u8; 4]>,
    kinds: BytesWriter,
    messages: BytesWriter,
    tracebacks: BytesWriter,
}

/// The effects of one bundle in the making; its buffers are kept from one to the next.
#[derive(Default)]
pub struct Effects {
    frame: FrameWriter,
    errors: Errors,
    slots: usize,
    state_slots: usize,
}

/// The output of one call.
pub struct Output<'o> {
    pub status: Status,
    /// `None` = output row i comes from input row i.
    pub sources: Option<&'o [[u8; 4]]>,
    pub rows: usize,
}

/// Slots of the effects of a binding, and how many of them are of states.
pub(crate) fn effect_slots(loaded: &Loaded) -> (usize, usize) {
    let column = |access: &Access| *access == Access::Column;
    let states =
        loaded.states.iter().filter(|state| column(&state.access)).map(|state| state.data_type.slots() + 1).sum();
    (loaded.result.slots() + 2 + states + TIMER_SLOTS + ERROR_SLOTS + LAST_SLOTS, states)
}

impl Effects {
    /// Begins the effects of a binding.
    pub fn begin(&mut self, slots: (usize, usize)) {
        (self.slots, self.state_slots) = slots;
        self.errors.rows.clear();
        self.errors.kinds.truncate(0);
        self.errors.messages.truncate(0);
        self.errors.tracebacks.truncate(0);
    }

    /// Notes that a row (operation result: a key) failed. Rows come in ascending order.
    #[cold]
    pub fn error(&mut self, row: usize, kind: &str, message: &str) {
        let row = u32::try_from(row).expect("a bundle has at most 2^24 rows");
        self.errors.rows.push(row.to_le_bytes());
        self.errors.kinds.push(kind.as_bytes());
        self.errors.messages.push(message.as_bytes());
        self.errors.tracebacks.push(b"");
    }

    /// Ends them: `write` fills the output's slots, `states` those of the states.
    pub fn finish(
        &mut self,
        output: Output<'_>,
        write: impl FnOnce(&mut FrameWriter),
        states: impl FnOnce(&mut FrameWriter),
    ) {
        let frame = &mut self.frame;
        frame.begin(EFFECTS_MAGIC, self.slots);
        frame.header_u32(8, output.status as u32);
        frame.header_u32(12, u32::try_from(output.rows).expect("rows are at least a bit each, and frames below 2 GiB"));
        write(frame);
        match output.sources {
            Some(sources) => frame.slot(sources.as_flattened()),
            None => frame.absent(1),
        }
        frame.absent(1);
        match output.status {
            Status::Done => states(frame),
            Status::More => frame.absent(self.state_slots),
        }
        frame.absent(TIMER_SLOTS);
        self.errors.write(frame);
        frame.absent(LAST_SLOTS);
        frame.finish();
        self.begin((self.slots, self.state_slots));
    }

    /// The frame.
    pub fn bytes(&self) -> &[u8] {
        self.frame.bytes()
    }
}

impl Errors {
    fn write(&self, frame: &mut FrameWriter) {
        if self.rows.is_empty() {
            return frame.absent(ERROR_SLOTS);
        }
        frame.slot(self.rows.as_flattened());
        for texts in [&self.kinds, &self.messages, &self.tracebacks] {
            texts.write_without_validity(frame);
        }
    }
}
