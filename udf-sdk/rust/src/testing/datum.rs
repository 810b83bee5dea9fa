//! Values whose type is known at run time only: how the harness moves states between frames and its store.

use crate::data_type::{DataType, Field, Shape};
use crate::frame::{FrameError, FrameWriter, Slots};
use crate::value::CodecError;

/// A value of any type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Datum {
    Null,
    Bool(bool),
    /// Little-endian bytes of a type of fixed width.
    Fixed(Vec<u8>),
    /// Of `utf8` and `binary`.
    Bytes(Vec<u8>),
    List(Vec<Datum>),
    Struct(Vec<Datum>),
    Map(Vec<(Datum, Datum)>),
}

fn width(shape: &Shape) -> usize {
    match shape {
        Shape::Int8 | Shape::UInt8 => 1,
        Shape::Int16 | Shape::UInt16 => 2,
        Shape::Int32 | Shape::UInt32 | Shape::Float32 | Shape::Date => 4,
        Shape::Int64 | Shape::UInt64 | Shape::Float64 | Shape::Time | Shape::Timestamp(..) => 8,
        Shape::Decimal(..) => 16,
        other => unreachable!("{other:?} has no fixed width"),
    }
}

fn short<T>(what: &str) -> Result<T, FrameError> {
    Err(FrameError(format!("{what} end early")))
}

fn offsets(slots: &mut Slots<'_>, rows: usize) -> Result<Vec<usize>, FrameError> {
    if rows == 0 {
        slots.take()?;
        return Ok(vec![0]);
    }
    Ok(slots.fixed::<4>(rows + 1)?.iter().map(|offset| u32::from_le_bytes(*offset) as usize).collect())
}

/// Takes a column.
pub(super) fn read(data_type: &DataType, slots: &mut Slots<'_>, rows: usize) -> Result<Vec<Datum>, FrameError> {
    let validity = slots.bits(rows)?;
    let bit = |bits: &[u8], row: usize| bits[row / 8] & (1 << (row % 8)) != 0;
    let mut values: Vec<Datum> = match &data_type.shape {
        Shape::Bool => {
            let bits = slots.bits(rows)?.unwrap_or_default();
            (0..rows).map(|row| Datum::Bool(bit(bits, row))).collect()
        }
        Shape::Utf8 | Shape::Binary => {
            let (ends, data) = (offsets(slots, rows)?, slots.take()?);
            let texts = ends.windows(2).map(|end| data.get(end[0]..end[1]).map(|bytes| Datum::Bytes(bytes.to_vec())));
            texts.collect::<Option<_>>().map_or_else(|| short("texts"), Ok)?
        }
        Shape::List(item) => {
            let ends = offsets(slots, rows)?;
            let items = read(item, slots, ends[rows])?;
            let lists = ends.windows(2).map(|end| items.get(end[0]..end[1]).map(|items| Datum::List(items.to_vec())));
            lists.collect::<Option<_>>().map_or_else(|| short("lists"), Ok)?
        }
        Shape::Map(key, value) => {
            let ends = offsets(slots, rows)?;
            let (keys, values) = (read(key, slots, ends[rows])?, read(value, slots, ends[rows])?);
            let entries: Vec<(Datum, Datum)> = keys.into_iter().zip(values).collect();
            let maps =
                ends.windows(2).map(|end| entries.get(end[0]..end[1]).map(|entries| Datum::Map(entries.to_vec())));
            maps.collect::<Option<_>>().map_or_else(|| short("maps"), Ok)?
        }
        Shape::Struct(fields) => {
            let columns =
                fields.iter().map(|field| read(&field.data_type, slots, rows)).collect::<Result<Vec<_>, _>>()?;
            (0..rows).map(|row| Datum::Struct(columns.iter().map(|column| column[row].clone()).collect())).collect()
        }
        fixed => {
            let bytes = slots.take()?;
            if bytes.len() != rows * width(fixed) {
                return short("values");
            }
            bytes.chunks_exact(width(fixed)).map(|bytes| Datum::Fixed(bytes.to_vec())).collect()
        }
    };
    if let Some(validity) = validity {
        (0..rows).filter(|row| !bit(validity, *row)).for_each(|row| values[row] = Datum::Null);
    }
    Ok(values)
}

fn bits(flags: impl ExactSizeIterator<Item = bool>) -> Vec<u8> {
    let mut bytes = vec![0; flags.len().div_ceil(8)];
    for (at, flag) in flags.enumerate() {
        bytes[at / 8] |= u8::from(flag) << (at % 8);
    }
    bytes
}

fn write_ends(lengths: impl Iterator<Item = usize>, frame: &mut FrameWriter) {
    let mut end = 0u32;
    let ends: Vec<[u8; 4]> = lengths
        .map(|length| {
            end += length as u32;
            end.to_le_bytes()
        })
        .collect();
    frame.offsets(&ends);
}

/// Fills the slots of a column.
pub(super) fn write(data_type: &DataType, values: &[&Datum], frame: &mut FrameWriter) {
    let present = bits(values.iter().map(|value| **value != Datum::Null));
    if values.contains(&&Datum::Null) {
        frame.slot(&present);
    } else {
        frame.absent(1);
    }
    match &data_type.shape {
        Shape::Bool => frame.slot(&bits(values.iter().map(|value| **value == Datum::Bool(true)))),
        Shape::Utf8 | Shape::Binary => {
            let bytes = |value: &Datum| if let Datum::Bytes(bytes) = value { bytes.clone() } else { Vec::new() };
            write_ends(values.iter().map(|value| bytes(value).len()), frame);
            frame.slot(&values.iter().flat_map(|value| bytes(value)).collect::<Vec<u8>>());
        }
        Shape::List(item) => {
            let items: Vec<&[Datum]> = values
                .iter()
                .map(|value| if let Datum::List(items) = value { items.as_slice() } else { &[] })
                .collect();
            write_ends(items.iter().map(|items| items.len()), frame);
            write(item, &items.into_iter().flatten().collect::<Vec<_>>(), frame);
        }
        Shape::Map(key, value) => {
            let maps: Vec<&[(Datum, Datum)]> =
                values.iter().map(|map| if let Datum::Map(entries) = map { entries.as_slice() } else { &[] }).collect();
            write_ends(maps.iter().map(|entries| entries.len()), frame);
            write(key, &maps.iter().copied().flatten().map(|entry| &entry.0).collect::<Vec<_>>(), frame);
            write(value, &maps.iter().copied().flatten().map(|entry| &entry.1).collect::<Vec<_>>(), frame);
        }
        Shape::Struct(fields) => {
            for (at, field) in fields.iter().enumerate() {
                let column: Vec<&Datum> = values
                    .iter()
                    .map(|value| if let Datum::Struct(fields) = value { &fields[at] } else { &Datum::Null })
                    .collect();
                write(&field.data_type, &column, frame);
            }
        }
        fixed => {
            let empty = vec![0; width(fixed)];
            let bytes = values
                .iter()
                .flat_map(|value| if let Datum::Fixed(bytes) = value { bytes.clone() } else { empty.clone() });
            frame.slot(&bytes.collect::<Vec<u8>>());
        }
    }
}

/// Appends a value in the encoding of states.
pub(super) fn encode(data_type: &DataType, value: &Datum, out: &mut Vec<u8>) {
    if data_type.nullable {
        out.push(u8::from(*value != Datum::Null));
        if *value == Datum::Null {
            return;
        }
    }
    match (&data_type.shape, value) {
        (_, Datum::Bool(value)) => out.push(u8::from(*value)),
        (_, Datum::Fixed(bytes)) => out.extend_from_slice(bytes),
        (_, Datum::Bytes(bytes)) => CodecError::put_bytes(bytes, out),
        (Shape::List(item), Datum::List(items)) => {
            CodecError::put_count(items.len(), out);
            items.iter().for_each(|value| encode(item, value, out));
        }
        (Shape::Map(key, value), Datum::Map(entries)) => {
            CodecError::put_count(entries.len(), out);
            for entry in entries {
                encode(key, &entry.0, out);
                encode(value, &entry.1, out);
            }
        }
        (Shape::Struct(fields), Datum::Struct(values)) => {
            fields.iter().zip(values).for_each(|(field, value)| encode(&field.data_type, value, out));
        }
        (_, other) => panic!("{other:?} where {data_type} was declared: a column without null holds one"),
    }
}

/// Takes a value off the front.
pub(super) fn decode(data_type: &DataType, bytes: &mut &[u8]) -> Result<Datum, CodecError> {
    if data_type.nullable && CodecError::fixed(bytes)? == [0] {
        return Ok(Datum::Null);
    }
    Ok(match &data_type.shape {
        Shape::Bool => Datum::Bool(CodecError::fixed(bytes)? == [1]),
        Shape::Utf8 | Shape::Binary => Datum::Bytes(CodecError::bytes(bytes)?.to_vec()),
        Shape::List(item) => {
            let count = CodecError::count(bytes)?;
            Datum::List((0..count).map(|_| decode(item, bytes)).collect::<Result<_, _>>()?)
        }
        Shape::Map(key, value) => {
            let count = CodecError::count(bytes)?;
            Datum::Map((0..count).map(|_| Ok((decode(key, bytes)?, decode(value, bytes)?))).collect::<Result<_, _>>()?)
        }
        Shape::Struct(fields) => {
            Datum::Struct(fields.iter().map(|field| decode(&field.data_type, bytes)).collect::<Result<_, _>>()?)
        }
        fixed => {
            let wanted = width(fixed);
            let (value, rest) = bytes.split_at_checked(wanted).ok_or(CodecError::Short { wanted, got: bytes.len() })?;
            *bytes = rest;
            Datum::Fixed(value.to_vec())
        }
    })
}

/// A value for a person. Dates and times are numbers in their unit, binary is hex.
pub(super) fn show(data_type: &DataType, value: &Datum) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    match (value, &data_type.shape) {
        (Datum::Null, _) => "null".to_owned(),
        (Datum::Bool(value), _) => value.to_string(),
        (Datum::Bytes(bytes), Shape::Utf8) => format!("{:?}", String::from_utf8_lossy(bytes)),
        (Datum::Bytes(bytes), _) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        (Datum::List(items), Shape::List(item)) => {
            format!("[{}]", joined(items.iter().map(|value| show(item, value)).collect()))
        }
        (Datum::Map(entries), Shape::Map(key, item)) => {
            let entry = |(k, v): &(Datum, Datum)| format!("{}: {}", show(key, k), show(item, v));
            format!("{{{}}}", joined(entries.iter().map(entry).collect()))
        }
        (Datum::Struct(values), Shape::Struct(fields)) => {
            let field = |(field, value): (&Field, &Datum)| format!("{}: {}", field.name, show(&field.data_type, value));
            format!("{{{}}}", joined(fields.iter().zip(values).map(field).collect()))
        }
        (Datum::Fixed(bytes), shape) => number(shape, bytes),
        (other, _) => format!("{other:?}"),
    }
}

fn number(shape: &Shape, bytes: &[u8]) -> String {
    let mut wide = [0; 16];
    wide[..bytes.len()].copy_from_slice(bytes);
    let unsigned = u128::from_le_bytes(wide);
    // The sign is in the last byte that there is.
    let signed = (unsigned << (128 - 8 * bytes.len())) as i128 >> (128 - 8 * bytes.len());
    match shape {
        Shape::UInt8 | Shape::UInt16 | Shape::UInt32 | Shape::UInt64 => unsigned.to_string(),
        Shape::Float32 => f32::from_bits(unsigned as u32).to_string(),
        Shape::Float64 => f64::from_bits(unsigned as u64).to_string(),
        Shape::Decimal(_, scale) if *scale > 0 => {
            let digits = format!("{:0width$}", signed.unsigned_abs(), width = usize::from(*scale) + 1);
            let (whole, fraction) = digits.split_at(digits.len() - usize::from(*scale));
            format!("{}{whole}.{fraction}", if signed < 0 { "-" } else { "" })
        }
        _ => signed.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown() {
        let shown = |text: &str, value: Datum| show(&DataType::parse(text).expect(text), &value);
        let fixed = |bytes: &[u8]| Datum::Fixed(bytes.to_vec());
        assert_eq!(shown("int16", fixed(&(-2i16).to_le_bytes())), "-2");
        assert_eq!(shown("uint16", fixed(&u16::MAX.to_le_bytes())), "65535");
        assert_eq!(shown("float64", fixed(&1.5f64.to_le_bytes())), "1.5");
        assert_eq!(shown("decimal(5,2)", fixed(&(-7i128).to_le_bytes())), "-0.07");
        assert_eq!(shown("utf8?", Datum::Null), "null");
        let pair = Datum::Struct(vec![fixed(&3i64.to_le_bytes()), Datum::List(vec![Datum::Bytes(b"x".to_vec())])]);
        assert_eq!(shown("struct<a: int64, b: list<utf8>>", pair), "{a: 3, b: [\"x\"]}");
    }
}
