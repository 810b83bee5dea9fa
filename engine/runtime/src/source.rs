//! Reads splits: rows with event times and positions, and the watermark that follows from them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, NO_TIME, Positions, WATERMARK_MIN, position};
use crate::connector::{ConnectorError, Position, ReadOutcome, RejectedRow, Source, SourceReader, Split};
use crate::graph::Watermark;

/// Splits that one subtask reads at a time, a batch from each in turn.
const OPEN_SPLITS_MAX: usize = 64;

const DAY_MS: i64 = 86_400_000;

/// A split, its number in the job, and its size.
pub(crate) type Numbered = (u16, Split);

struct OpenSplit {
    number: u16,
    id: String,
    reader: Box<dyn SourceReader>,
    /// Largest event time so far.
    time_max: i64,
    done: u64,
}

/// All splits of one subtask.
pub(crate) struct Splits {
    source: Arc<dyn Source>,
    watermark: Option<Watermark>,
    waiting: VecDeque<(Numbered, Option<SplitState>)>,
    /// Read to their ends.
    ended: Vec<String>,
    open: Vec<OpenSplit>,
    next: usize,
    /// The watermark of splits that have ended: what they said last.
    ended_time_max: i64,
}

/// How far the splits of one subtask had been read, as it stands in a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SplitsState {
    /// Begun and not ended, in the order in which they are read in turn.
    pub open: Vec<SplitState>,
    pub ended: Vec<String>,
    pub ended_time_max: i64,
    /// Of `open`, whose turn it is.
    pub next: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SplitState {
    pub id: String,
    pub position: Option<Position>,
    /// Largest event time so far.
    pub time_max: i64,
}

/// What a step gave.
pub(crate) enum Step {
    Rows(Batch),
    Rejected {
        split: u16,
        rows: Vec<RejectedRow>,
    },
    /// Nothing to read in any split for this long.
    Wait(Duration),
    End,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

impl Splits {
    pub(crate) fn new(source: Arc<dyn Source>, watermark: Option<Watermark>, splits: Vec<Numbered>) -> Splits {
        let waiting = splits.into_iter().map(|split| (split, None)).collect();
        let (open, ended) = (Vec::new(), Vec::new());
        Splits { source, watermark, waiting, ended, open, next: 0, ended_time_max: NO_TIME }
    }

    /// Goes on where the subtasks of a source were that told these states.
    pub(crate) fn restore(&mut self, states: &[SplitsState]) {
        let mut known: HashMap<&str, &SplitState> =
            states.iter().flat_map(|state| &state.open).map(|split| (split.id.as_str(), split)).collect();
        let ended: HashSet<&str> = states.iter().flat_map(|state| &state.ended).map(String::as_str).collect();
        self.ended_time_max = states.iter().map(|state| state.ended_time_max).max().unwrap_or(NO_TIME);
        let mut waiting = VecDeque::new();
        for ((number, split), _) in self.waiting.drain(..) {
            if ended.contains(split.id.as_str()) {
                self.ended.push(split.id);
            } else {
                let state = known.remove(split.id.as_str()).cloned();
                waiting.push_back(((number, split), state));
            }
        }
        // Those that were open go on first, in their order: as many as were open then are open now.
        let begun =
            states.iter().flat_map(|state| &state.open).enumerate().map(|(place, split)| (split.id.as_str(), place));
        let begun: HashMap<&str, usize> = begun.collect();
        let place =
            |split: &(Numbered, Option<SplitState>)| begun.get(split.0.1.id.as_str()).copied().unwrap_or(usize::MAX);
        waiting.make_contiguous().sort_by_key(place);
        self.waiting = waiting;
        self.next = match states {
            [one] => one.next,
            _ => 0,
        };
    }

    /// How far it has come.
    pub(crate) fn state(&self) -> SplitsState {
        let open = self.open.iter().map(|split| SplitState {
            id: split.id.clone(),
            position: Some(split.reader.position()),
            time_max: split.time_max,
        });
        // What is not open yet, and was begun before.
        let waiting = self.waiting.iter().filter_map(|(_, state)| state.clone());
        SplitsState {
            open: open.chain(waiting).collect(),
            ended: self.ended.clone(),
            ended_time_max: self.ended_time_max,
            next: self.next,
        }
    }

    /// Reads from the next split in turn; `done` is told how much more of the splits' sizes has been read.
    pub(crate) fn step(&mut self, rows_max: usize, mut done: impl FnMut(u64)) -> Result<Step, ReadError> {
        let mut wait: Option<Duration> = None;
        let mut quiet = 0;
        loop {
            self.open_more()?;
            if self.open.is_empty() {
                return Ok(Step::End);
            }
            if quiet == self.open.len() {
                return Ok(Step::Wait(wait.unwrap_or_default()));
            }
            self.next %= self.open.len();
            let split = &mut self.open[self.next];
            let outcome = split.reader.next(rows_max)?;
            let read = split.reader.done();
            done(read.saturating_sub(split.done));
            split.done = read;
            match outcome {
                ReadOutcome::Rows { rows, first_row } => {
                    let times = self.watermark.map(|watermark| times_ms(rows.column(watermark.column))).transpose()?;
                    if let Some(times) = &times {
                        split.time_max = times.iter().fold(split.time_max, |max, &time| max.max(time));
                    }
                    let at = Positions::From(position(split.number, first_row));
                    self.next += 1;
                    return Ok(Step::Rows(Batch::new(rows).with_event_times(times).with_positions(at)));
                }
                ReadOutcome::Rejected(rows) => return Ok(Step::Rejected { split: split.number, rows }),
                ReadOutcome::Pending(time) => {
                    wait = Some(wait.map_or(time, |wait| wait.min(time)));
                    quiet += 1;
                    self.next += 1;
                }
                ReadOutcome::End => {
                    let ended = self.open.remove(self.next);
                    self.ended_time_max = self.ended_time_max.max(ended.time_max);
                    self.ended.push(ended.id);
                }
            }
        }
    }

    fn open_more(&mut self) -> Result<(), ConnectorError> {
        while self.open.len() < OPEN_SPLITS_MAX {
            let Some(((number, split), state)) = self.waiting.pop_front() else { return Ok(()) };
            let from = state.as_ref().and_then(|state| state.position.as_ref());
            let reader = self.source.open(&split, from)?;
            let time_max = state.map_or(NO_TIME, |state| state.time_max);
            self.open.push(OpenSplit { number, id: split.id, reader, time_max, done: 0 });
        }
        Ok(())
    }

    /// Bounded out-of-orderness, as in Flink: the largest time − delay − 1, least over the splits still to be read. A
    /// split that has not begun holds it back: its rows may be older than all others.
    pub(crate) fn watermark(&self) -> i64 {
        let Some(watermark) = self.watermark else { return WATERMARK_MIN };
        if !self.waiting.is_empty() {
            return WATERMARK_MIN;
        }
        let time = self.open.iter().map(|split| split.time_max).min().unwrap_or(self.ended_time_max);
        if time == NO_TIME {
            return WATERMARK_MIN;
        }
        time.saturating_sub(watermark.delay_ms).saturating_sub(1)
    }
}

/// When watermarks are emitted: only larger ones, not more often than the interval.
pub(crate) struct WatermarkEmitter {
    interval: Duration,
    next: Duration,
    last: i64,
}

impl WatermarkEmitter {
    pub(crate) fn new(interval: Duration, now: Duration) -> WatermarkEmitter {
        WatermarkEmitter { interval, next: now + interval, last: WATERMARK_MIN }
    }

    /// `now` is asked for the time only if there is something to emit.
    pub(crate) fn due(&mut self, watermark: i64, now: impl FnOnce() -> Duration) -> Option<i64> {
        if watermark <= self.last {
            return None;
        }
        let now = now();
        if now < self.next {
            return None;
        }
        self.next = now + self.interval;
        self.last = watermark;
        Some(watermark)
    }
}

/// A column as milliseconds since 1970, rounded down.
fn times_ms(column: &ArrayRef) -> Result<ScalarBuffer<i64>, ArrowError> {
    let (values, scale): (ScalarBuffer<i64>, Scale) = match column.data_type() {
        DataType::Timestamp(unit, _) => {
            let values = cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().values().clone();
            let scale = match unit {
                TimeUnit::Second => Scale::Times(1000),
                TimeUnit::Millisecond => Scale::Times(1),
                TimeUnit::Microsecond => Scale::Over(1000),
                TimeUnit::Nanosecond => Scale::Over(1_000_000),
            };
            (values, scale)
        }
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>().values();
            (days.iter().map(|&day| i64::from(day)).collect(), Scale::Times(DAY_MS))
        }
        _ => (column.as_primitive::<Int64Type>().values().clone(), Scale::Times(1)),
    };
    let ms = |value: i64| match scale {
        Scale::Times(factor) => value.saturating_mul(factor),
        Scale::Over(divisor) => value.div_euclid(divisor),
    };
    match column.nulls() {
        None if matches!(scale, Scale::Times(1)) => Ok(values),
        None => Ok(values.iter().map(|&value| ms(value)).collect()),
        Some(nulls) => {
            let each = values.iter().zip(nulls.iter());
            Ok(each.map(|(&value, valid)| if valid { ms(value) } else { NO_TIME }).collect())
        }
    }
}

#[derive(Clone, Copy)]
enum Scale {
    Times(i64),
    Over(i64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, TimestampMicrosecondArray, TimestampSecondArray};
    use std::sync::Arc;

    #[test]
    fn times_round_down_and_nulls_are_none() {
        let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(1_999), None, Some(-1)]));
        assert_eq!(times_ms(&micros).unwrap().as_ref(), &[1, NO_TIME, -1]);
        let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![2]));
        assert_eq!(times_ms(&seconds).unwrap().as_ref(), &[2000]);
        let days: ArrayRef = Arc::new(Date32Array::from(vec![-1]));
        assert_eq!(times_ms(&days).unwrap().as_ref(), &[-DAY_MS]);
    }

    #[test]
    fn watermarks_only_grow_and_not_too_often() {
        let second = Duration::from_secs(1);
        let mut emitter = WatermarkEmitter::new(second, second);
        let mut due = |watermark, at| emitter.due(watermark, || at);
        assert_eq!(due(WATERMARK_MIN, 9 * second), None);
        assert_eq!(due(5, second), None);
        assert_eq!(due(5, 2 * second), Some(5));
        assert_eq!(due(6, 2 * second), None);
        for old in [5, 4] {
            assert_eq!(due(old, 9 * second), None);
        }
        assert_eq!(due(6, 3 * second), Some(6));
    }
}
