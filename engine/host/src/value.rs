//! Values: one value of a state with access `call`, as bytes (`wit/README.md`, "Values"). Here they are only checked: they come from a
//! guest, are kept by the engine and go back to a guest, of another version perhaps. [`value_column`](crate::value_column) makes
//! columns of them.

use arrow::datatypes::DataType;

use crate::frame::{Lie, lie};

/// A type, resolved to what its bytes look like.
#[derive(Debug, Clone)]
pub(crate) enum ValuePlan {
    Bool,
    Fixed(usize),
    /// A decimal of this precision.
    Decimal(u8),
    Utf8,
    Binary,
    List(Box<ValuePlan>),
    Struct(Vec<ValuePlan>),
    Map(Box<ValuePlan>, Box<ValuePlan>),
    Nullable(Box<ValuePlan>),
}

impl ValuePlan {
    /// Resolves a canonical type.
    pub(crate) fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Utf8 => Self::Utf8,
            DataType::Binary => Self::Binary,
            DataType::Decimal128(precision, _) => Self::Decimal(*precision),
            DataType::List(item) => Self::List(Box::new(Self::of(item))),
            DataType::Struct(fields) => Self::Struct(fields.iter().map(|field| Self::of(field)).collect()),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) => Self::Map(Box::new(Self::of(&fields[0])), Box::new(Self::of(&fields[1]))),
                _ => unreachable!("a canonical map has a struct of entries"),
            },
            other => Self::Fixed(other.primitive_width().expect("the other types of the contract have a fixed width")),
        }
    }

    fn of(field: &arrow::datatypes::Field) -> Self {
        let plan = Self::new(field.data_type());
        if field.is_nullable() { Self::Nullable(Box::new(plan)) } else { plan }
    }

    /// Checks that `bytes` is one value and nothing else.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), Lie> {
        let mut rest = bytes;
        self.take(&mut rest)?;
        if !rest.is_empty() {
            lie!("{} bytes behind the value", rest.len());
        }
        Ok(())
    }

    fn take(&self, rest: &mut &[u8]) -> Result<(), Lie> {
        match self {
            Self::Fixed(width) => take(rest, *width).map(|_| ()),
            Self::Bool => take_flag(rest).map(|_| ()),
            Self::Decimal(precision) => {
                let bytes = take(rest, 16)?.try_into().expect("16 bytes were taken");
                check_digits(i128::from_le_bytes(bytes), *precision)
            }
            Self::Utf8 => {
                let length = take_count(rest)?;
                match std::str::from_utf8(take(rest, length)?) {
                    Ok(_) => Ok(()),
                    Err(error) => lie!("text is not UTF-8 at byte {}", error.valid_up_to()),
                }
            }
            Self::Binary => {
                let length = take_count(rest)?;
                take(rest, length).map(|_| ())
            }
            Self::List(item) => take_many(&[item], rest),
            Self::Map(key, value) => take_many(&[key, value], rest),
            Self::Struct(fields) => fields.iter().try_for_each(|field| field.take(rest)),
            Self::Nullable(plan) => {
                if take_flag(rest)? {
                    plan.take(rest)
                } else {
                    Ok(())
                }
            }
        }
    }
}

/// Checks that a decimal of this precision can be so large.
pub(crate) fn check_digits(value: i128, precision: u8) -> Result<(), Lie> {
    let bound = 10i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
    if value <= -bound || value >= bound {
        lie!("a decimal of more than {precision} digits");
    }
    Ok(())
}

pub(crate) fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], Lie> {
    let Some((taken, left)) = rest.split_at_checked(bytes) else {
        lie!("the value ends {} bytes early", bytes - rest.len());
    };
    *rest = left;
    Ok(taken)
}

pub(crate) fn take_flag(rest: &mut &[u8]) -> Result<bool, Lie> {
    match take(rest, 1)?[0] {
        0 => Ok(false),
        1 => Ok(true),
        other => lie!("a flag is {other}, expected 0 or 1"),
    }
}

pub(crate) fn take_count(rest: &mut &[u8]) -> Result<usize, Lie> {
    let bytes = take(rest, 4)?.try_into().expect("4 bytes were taken");
    Ok(u32::from_le_bytes(bytes) as usize)
}

fn take_many(plans: &[&ValuePlan], rest: &mut &[u8]) -> Result<(), Lie> {
    let count = take_count(rest)?;
    for done in 0..count {
        let before = rest.len();
        plans.iter().try_for_each(|plan| plan.take(rest))?;
        // Elements without bytes are all alike: no need to look at four billion of them.
        if rest.len() == before && done == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn check(text: &str, bytes: &[u8]) -> Result<(), String> {
        let plan = ValuePlan::new(&crate::data_type::parse(text).unwrap().data_type);
        plan.check(bytes).map_err(|lie| lie.0)
    }

    #[test]
    fn good_values_pass() {
        check("int64", &[0; 8]).unwrap();
        check("bool", &[1]).unwrap();
        check("utf8", &[2, 0, 0, 0, 0xC3, 0xA9]).unwrap();
        check("list<int8?>", &[2, 0, 0, 0, 0, 1, 7]).unwrap();
        check("struct<a: bool, b: map<utf8, date>>", &[0, 1, 0, 0, 0, 1, 0, 0, 0, b'k', 1, 2, 3, 4]).unwrap();
        check("list<struct<>>", &[0xFF, 0xFF, 0xFF, 0xFF]).unwrap();
    }

    #[test]
    fn lies_are_named() {
        for (text, bytes, problem) in [
            ("int64", &[0u8; 7][..], "ends 1 bytes early"),
            ("int64", &[0; 9], "1 bytes behind"),
            ("bool", &[2], "a flag is 2"),
            ("utf8", &[1, 0, 0, 0, 0xC3], "not UTF-8"),
            ("utf8", &[0xFF, 0xFF, 0xFF, 0xFF, 0], "early"),
            ("list<int8?>", &[1, 0, 0, 0, 9], "a flag is 9"),
            ("list<list<int8>>", &[0xFF, 0xFF, 0xFF, 0xFF], "early"),
            ("decimal(1,0)", &[10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "more than 1 digits"),
        ] {
            let got = check(text, bytes).unwrap_err();
            assert!(got.contains(problem), "{text} {bytes:?}: {got}");
        }
    }
}
