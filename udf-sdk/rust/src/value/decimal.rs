//! `decimal(p,s)`.

use std::fmt;
use std::str::FromStr;

use super::fixed::fixed_column;
use super::{
    Cell, Codec, CodecError, Fixed, FixedReader, FixedWriter, FromColumn, ListItem, NonNull, NullFound, ToColumn, Typed,
};
use crate::data_type::{DataType, Shape};
use crate::frame::{FrameError, Slots};

/// A number of at most `P` digits, `S` of them behind the point: the value is the integer inside / 10^`S`.
/// `P` is 1 to 38 and `S` 0 to `P`; others do not compile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal<const P: u8, const S: u8>(i128);

/// Why a value is not a `decimal(p,s)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecimalError {
    /// More digits before the point than the type has.
    TooLarge { precision: u8, scale: u8 },
    /// Not digits with at most one point.
    NotANumber { text: String },
}

impl fmt::Display for DecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { precision, scale } => write!(f, "the value does not fit decimal({precision},{scale})"),
            Self::NotANumber { text } => write!(f, "`{text}` is not a decimal number"),
        }
    }
}

impl std::error::Error for DecimalError {}

impl<const P: u8, const S: u8> Decimal<P, S> {
    const LIMIT: i128 = {
        assert!(P >= 1 && P <= 38 && S <= P, "decimal(p,s) has 1 ≤ p ≤ 38 and 0 ≤ s ≤ p");
        10i128.pow(P as u32)
    };

    /// From the integer that is the value · 10^`S`. `None` = more than `P` digits.
    pub const fn from_unscaled(unscaled: i128) -> Option<Self> {
        if unscaled > -Self::LIMIT && unscaled < Self::LIMIT { Some(Self(unscaled)) } else { None }
    }

    /// The value · 10^`S`.
    pub const fn unscaled(self) -> i128 {
        self.0
    }

    /// To another precision and scale, half rounded away from zero. `None` = does not fit (in SQL: null).
    pub fn rescale<const Q: u8, const T: u8>(self) -> Option<Decimal<Q, T>> {
        if T >= S {
            let scaled = self.0.checked_mul(10i128.checked_pow(u32::from(T - S))?)?;
            return Decimal::from_unscaled(scaled);
        }
        let divisor = 10i128.pow(u32::from(S - T));
        let (quotient, rest) = (self.0 / divisor, self.0 % divisor);
        let away = if rest.abs() >= divisor / 2 { self.0.signum() } else { 0 };
        Decimal::from_unscaled(quotient + away)
    }

    /// The sum. `None` = more than `P` digits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(Self::from_unscaled)
    }

    /// The difference. `None` = more than `P` digits.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).and_then(Self::from_unscaled)
    }

    /// The nearest `f64`.
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / 10f64.powi(i32::from(S))
    }
}

impl<const P: u8, const S: u8> fmt::Display for Decimal<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:0>width$}", self.0.unsigned_abs(), width = usize::from(S) + 1);
        let (whole, part) = digits.split_at(digits.len() - usize::from(S));
        f.write_str(if self.0 < 0 { "-" } else { "" })?;
        f.write_str(whole)?;
        if S > 0 { write!(f, ".{part}") } else { Ok(()) }
    }
}

impl<const P: u8, const S: u8> FromStr for Decimal<P, S> {
    type Err = DecimalError;

    /// Reads `-12.345`; digits behind the scale are rounded, half away from zero.
    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let not = || DecimalError::NotANumber { text: text.to_owned() };
        let large = || DecimalError::TooLarge { precision: P, scale: S };
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.len() + part.len() == 0 || !whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit()) {
            return Err(not());
        }
        let kept = &part[..part.len().min(usize::from(S))];
        let mut unscaled: i128 = 0;
        let zeros = std::iter::repeat_n(b'0', usize::from(S) - kept.len());
        for digit in whole.bytes().chain(kept.bytes()).chain(zeros) {
            let next = unscaled.checked_mul(10).and_then(|value| value.checked_add(i128::from(digit - b'0')));
            unscaled = next.ok_or_else(large)?;
        }
        if part.as_bytes().get(usize::from(S)).is_some_and(|digit| *digit >= b'5') {
            unscaled += 1;
        }
        let signed = if text.starts_with('-') { -unscaled } else { unscaled };
        Self::from_unscaled(signed).ok_or_else(large)
    }
}

impl<const P: u8, const S: u8> Fixed<16> for Decimal<P, S> {
    #[inline(always)]
    fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(i128::from_le_bytes(bytes))
    }

    #[inline(always)]
    fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }
}

fixed_column!([const P: u8, const S: u8] Decimal<P, S>, 16, {
    let _checked = Self::LIMIT;
    Shape::Decimal(P, S)
});

impl<const P: u8, const S: u8> ListItem for Decimal<P, S> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for (text, shown) in
            [("1.5", "1.50"), ("-0.005", "-0.01"), ("7", "7.00"), (".25", "0.25"), ("+3.", "3.00"), ("-0.004", "0.00")]
        {
            assert_eq!(text.parse::<Decimal<5, 2>>().expect(text).to_string(), shown);
        }
        assert_eq!("1000".parse::<Decimal<5, 2>>(), Err(DecimalError::TooLarge { precision: 5, scale: 2 }));
        assert_eq!("999.995".parse::<Decimal<5, 2>>(), Err(DecimalError::TooLarge { precision: 5, scale: 2 }));
        assert!(
            "".parse::<Decimal<5, 2>>().is_err()
                && "1e5".parse::<Decimal<5, 2>>().is_err()
                && "--1".parse::<Decimal<5, 2>>().is_err()
        );
    }

    #[test]
    fn rescaling_rounds_half_away_from_zero() {
        let value = |unscaled| Decimal::<10, 3>::from_unscaled(unscaled).expect("few digits");
        assert_eq!(value(1_245).rescale::<10, 2>(), Decimal::from_unscaled(125));
        assert_eq!(value(-1_245).rescale::<10, 2>(), Decimal::from_unscaled(-125));
        assert_eq!(value(1_244).rescale::<10, 2>(), Decimal::from_unscaled(124));
        assert_eq!(value(1_000).rescale::<3, 3>(), None);
        assert_eq!(value(1).rescale::<38, 38>(), Decimal::from_unscaled(10i128.pow(35)));
    }
}
