#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use arrow::array::{Int8Array, Int32Array, StringArray};
use arrow::datatypes::{Fields, Int8Type, TimeUnit};
use proptest::prelude::*;

use super::*;
use crate::value::ValuePlan;

fn fields() -> [DataType; 12] {
    [
        DataType::Boolean,
        DataType::Int8,
        DataType::Int32,
        DataType::UInt64,
        DataType::Float64,
        DataType::Date32,
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Paris".into())),
        DataType::Decimal128(3, 1),
        DataType::Decimal128(38, 0),
        DataType::Utf8,
        DataType::Binary,
    ]
}

/// Any type of the contract.
fn types() -> impl Strategy<Value = DataType> {
    let leaf = prop::sample::select(fields().to_vec());
    leaf.prop_recursive(3, 12, 4, |inner| {
        let nullable = (inner, any::<bool>());
        let list = nullable.clone().prop_map(|(item, nullable)| DataType::new_list(item, nullable));
        let structure = prop::collection::vec(nullable.clone(), 0..4).prop_map(|fields| {
            let field = |(index, (data_type, nullable))| Field::new(format!("f{index}"), data_type, nullable);
            DataType::Struct(fields.into_iter().enumerate().map(field).collect::<Fields>())
        });
        let map = (nullable.clone(), nullable).prop_map(|((key, _), (value, nullable))| {
            let entries = [Field::new("key", key, false), Field::new("value", value, nullable)];
            let entries = Field::new("entries", DataType::Struct(Fields::from_iter(entries)), false);
            DataType::Map(Arc::new(entries), false)
        });
        prop_oneof![list, structure, map]
    })
}

/// Writes a value of this type as `wit/README.md` says, out of random bytes.
fn write(data_type: &DataType, random: &mut impl Iterator<Item = u8>, to: &mut Vec<u8>) {
    let mut byte = || random.next().unwrap_or(0);
    let count = usize::from(byte() % 4);
    let head = (count as u32).to_le_bytes();
    match data_type {
        DataType::Boolean => to.push((count % 2) as u8),
        DataType::Utf8 => {
            let text: String = (0..count).map(|_| char::from(byte())).collect();
            to.extend_from_slice(&(text.len() as u32).to_le_bytes());
            to.extend_from_slice(text.as_bytes());
        }
        DataType::Binary => {
            to.extend_from_slice(&head);
            to.extend((0..count).map(|_| byte()));
        }
        DataType::Decimal128(3, _) => to.extend_from_slice(&(i128::from(byte()) * 7 - 800).to_le_bytes()),
        DataType::Decimal128(..) => to.extend_from_slice(&(10i128.pow(38) - 1 - i128::from(byte())).to_le_bytes()),
        DataType::List(item) => {
            to.extend_from_slice(&head);
            (0..count).for_each(|_| write_field(item, random, to));
        }
        DataType::Struct(fields) => fields.iter().for_each(|field| write_field(field, random, to)),
        DataType::Map(entries, _) => {
            to.extend_from_slice(&head);
            (0..count).for_each(|_| write_field(entries, random, to));
        }
        fixed => to.extend((0..fixed.primitive_width().unwrap()).map(|_| byte())),
    }
}

fn write_field(field: &Field, random: &mut impl Iterator<Item = u8>, to: &mut Vec<u8>) {
    let there = !field.is_nullable() || random.next().is_some_and(|byte| !byte.is_multiple_of(4));
    if field.is_nullable() {
        to.push(there.into());
    }
    if there {
        write(field.data_type(), random, to);
    }
}

fn binary(values: &[Option<Vec<u8>>]) -> BinaryArray {
    values.iter().map(|value| value.as_deref()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Values that follow the contract become a column that Arrow finds nothing wrong in, and from it, or a slice of it, come back.
    #[test]
    fn values_come_back(data_type in types(), rows in prop::collection::vec(prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..300)), 0..9)) {
        let plan = ValuePlan::new(&data_type);
        let value = |random: Vec<u8>| {
            let mut bytes = Vec::new();
            write(&data_type, &mut random.into_iter(), &mut bytes);
            bytes
        };
        let values: Vec<Option<Vec<u8>>> = rows.into_iter().map(|random| random.map(value)).collect();
        let array = decode(&data_type, &binary(&values)).unwrap();
        array.to_data().validate_full().unwrap();
        prop_assert_eq!(array.data_type(), &data_type);
        prop_assert_eq!(array.len(), values.len());
        let back = encode(&array).unwrap();
        prop_assert_eq!(&back, &binary(&values));
        for value in back.iter().flatten() {
            prop_assert!(plan.check(value).is_ok());
        }
        let (start, end) = (values.len() / 3, values.len() - values.len() / 4);
        prop_assert_eq!(encode(&array.slice(start, end - start)).unwrap(), binary(&values[start..end]));
    }

    /// Bytes are taken just if a guest could have put them, and none cause a panic.
    #[test]
    fn what_is_no_value_is_refused(data_type in types(), random in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), edge in prop::sample::select(vec![0u8, 1, 2, 0x7f, 0xff])) {
        let mut bytes = Vec::new();
        write(&data_type, &mut random.into_iter(), &mut bytes);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = edge;
        }
        let decoded = decode(&data_type, &binary(&[Some(bytes.clone())]));
        let good = ValuePlan::new(&data_type).check(&bytes).is_ok();
        match decoded {
            Ok(array) => {
                prop_assert!(good, "{}", data_type);
                prop_assert_eq!(encode(&array).unwrap(), binary(&[Some(bytes)]));
            }
            Err(ValueError::TooLarge { .. }) => {}
            Err(error) => prop_assert!(!good, "{}: {}", data_type, error),
        }
    }
}

fn parsed(text: &str) -> DataType {
    data_type::parse(text).unwrap().data_type
}

fn one(text: &str, bytes: &[u8]) -> ArrayRef {
    decode(&parsed(text), &binary(&[Some(bytes.to_vec())])).unwrap()
}

#[test]
fn values_mean_what_the_contract_says() {
    assert_eq!(one("int32", &[1, 1, 0, 0]).as_ref(), &Int32Array::from(vec![257]) as &dyn Array);
    assert_eq!(one("utf8", &[2, 0, 0, 0, 0xC3, 0xA9]).as_ref(), &StringArray::from(vec!["é"]) as &dyn Array);
    let list = one("list<int8?>", &[2, 0, 0, 0, 0, 1, 7]);
    let items = ListArray::from_iter_primitive::<Int8Type, _, _>([Some([None, Some(7)])]);
    assert_eq!(list.as_ref(), &items as &dyn Array);
    let structure = one("struct<a: bool, b: int8?>", &[1, 0]);
    assert!(structure.as_struct().column(0).as_boolean().value(0));
    assert!(structure.as_struct().column(1).is_null(0));
    let map = one("map<utf8, int8>", &[1, 0, 0, 0, 1, 0, 0, 0, b'k', 5]);
    assert_eq!(map.as_map().keys().as_string::<i32>().value(0), "k");
    assert_eq!(map.as_map().values().as_ref(), &Int8Array::from(vec![5]) as &dyn Array);
}

#[test]
fn values_without_bytes_cost_nothing() {
    let many = one("list<struct<a: struct<>>>", &[0xFF, 0xFF, 0xFF, 0x7F]);
    assert_eq!(many.as_list::<i32>().value_length(0), i32::MAX);
    assert_eq!(encode(&many).unwrap().value(0), [0xFF, 0xFF, 0xFF, 0x7F]);
    let more = decode(&parsed("list<struct<>>"), &binary(&[Some(vec![0xFF; 4])])).unwrap_err();
    assert!(matches!(more, ValueError::TooLarge { row: 0, .. }), "{more}");
}

#[test]
fn nulls_of_wide_structs_are_bounded() {
    let columns: Vec<String> = (0..10_000).map(|column| format!("c{column}: int64")).collect();
    let wide = parsed(&format!("list<struct<{}>?>", columns.join(", ")));
    let nulls = |count: u32| [&count.to_le_bytes()[..], &vec![0; count as usize]].concat();
    assert_eq!(decode(&wide, &binary(&[Some(nulls(10))])).unwrap().len(), 1);
    let error = decode(&wide, &binary(&[Some(nulls(10)), Some(nulls(1_000_000))])).unwrap_err();
    assert!(matches!(error, ValueError::TooLarge { row: 1, .. }), "{error}");
}

#[test]
fn columns_that_no_guest_could_be_given_are_refused() {
    let error = decode(&DataType::LargeUtf8, &binary(&[])).unwrap_err();
    assert!(matches!(error, ValueError::Type(_)), "{error}");
    let wide = arrow::array::Decimal128Array::from(vec![1000]).with_data_type(DataType::Decimal128(3, 0));
    let error = encode(&(Arc::new(wide) as ArrayRef)).unwrap_err();
    assert_eq!(error.to_string(), "value 0 is no decimal(3,0): a decimal of more than 3 digits");
    let error = decode(&DataType::Int64, &binary(&[None, Some(vec![0; 7])])).unwrap_err();
    assert_eq!(error.to_string(), "value 1 is no int64: the value ends 1 bytes early");
}
