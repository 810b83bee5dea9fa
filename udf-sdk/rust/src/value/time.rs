//! Days, times of day and instants.

use std::marker::PhantomData;

use super::fixed::fixed_column;
use super::{
    Cell, Codec, CodecError, Fixed, FixedReader, FixedWriter, FromColumn, ListItem, NonNull, NullFound, ToColumn, Typed,
};
use crate::data_type::{DataType, Shape, TimeUnit};
use crate::frame::{FrameError, Slots};

/// Days since 1970-01-01.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(pub i32);

/// Microseconds since midnight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

/// What a timestamp counts.
pub trait Unit: Copy + 'static {
    const UNIT: TimeUnit;
    /// How many make a second.
    const PER_SECOND: i64;
}

/// The zone of a timestamp. The instant is UTC whatever the zone is; the zone says how to show it.
pub trait Zone: Copy + 'static {
    /// An IANA name or an offset; `None` = a timestamp without a zone.
    const NAME: Option<&'static str>;
}

macro_rules! units {
    ($($name:ident $unit:ident $per_second:literal $doc:literal;)*) => {$(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name;

        impl Unit for $name {
            const UNIT: TimeUnit = TimeUnit::$unit;
            const PER_SECOND: i64 = $per_second;
        }
    )*};
}

units! {
    Seconds Second 1 "Counts seconds.";
    Millis Millisecond 1_000 "Counts milliseconds.";
    Micros Microsecond 1_000_000 "Counts microseconds.";
    Nanos Nanosecond 1_000_000_000 "Counts nanoseconds.";
}

/// No zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoZone;

impl Zone for NoZone {
    const NAME: Option<&'static str> = None;
}

/// The zone `UTC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Utc;

impl Zone for Utc {
    const NAME: Option<&'static str> = Some("UTC");
}

/// An instant since 1970-01-01T00:00Z, counted in `U`: `Timestamp` is `timestamp(us)`, `Timestamp<Millis, Utc>` is
/// `timestamp(ms,UTC)`. Any other zone is a type of yours that implements [`Zone`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp<U: Unit = Micros, Z: Zone = NoZone>(pub i64, PhantomData<(U, Z)>);

impl<U: Unit, Z: Zone> Timestamp<U, Z> {
    /// From a count of `U`.
    pub const fn new(count: i64) -> Self {
        Self(count, PhantomData)
    }

    /// Whole seconds, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(U::PER_SECOND)
    }

    /// Milliseconds, rounded down: the unit of event times and watermarks. `None` = does not fit.
    pub fn millis(self) -> Option<i64> {
        if U::PER_SECOND >= 1_000 {
            return Some(self.0.div_euclid(U::PER_SECOND / 1_000));
        }
        self.0.checked_mul(1_000)
    }

    /// The day in UTC. `None` = does not fit.
    pub fn date(self) -> Option<Date> {
        i32::try_from(self.seconds().div_euclid(86_400)).ok().map(Date)
    }
}

impl Fixed<4> for Date {
    #[inline(always)]
    fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(i32::from_le_bytes(bytes))
    }

    #[inline(always)]
    fn to_bytes(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }
}

impl Fixed<8> for Time {
    #[inline(always)]
    fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(i64::from_le_bytes(bytes))
    }

    #[inline(always)]
    fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }
}

impl<U: Unit, Z: Zone> Fixed<8> for Timestamp<U, Z> {
    #[inline(always)]
    fn from_bytes(bytes: [u8; 8]) -> Self {
        Self::new(i64::from_le_bytes(bytes))
    }

    #[inline(always)]
    fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }
}

fixed_column!([] Date, 4, Shape::Date);
fixed_column!([] Time, 8, Shape::Time);
fixed_column!([U: Unit, Z: Zone] Timestamp<U, Z>, 8, Shape::Timestamp(U::UNIT, Z::NAME.map(str::to_owned)));

impl ListItem for Date {}
impl ListItem for Time {}
impl<U: Unit, Z: Zone> ListItem for Timestamp<U, Z> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_round_down() {
        assert_eq!(Timestamp::<Micros>::new(-1).seconds(), -1);
        assert_eq!(Timestamp::<Micros>::new(-1).millis(), Some(-1));
        assert_eq!(Timestamp::<Seconds>::new(i64::MAX).millis(), None);
        assert_eq!(Timestamp::<Nanos>::new(-1).date(), Some(Date(-1)));
        assert_eq!(Timestamp::<Millis>::new(86_400_000).date(), Some(Date(1)));
    }
}
