//! Columns, states and errors that are not true, of every type: each lie is found out, says which part it was, and costs the instance.
//! Frames and directories that are wrong are in `lies.rs`.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array};
use arrow::datatypes::Int64Type;
use support::{Answer, GuestText, PARROT, TestHost, bundle, engine, numbers, setup};
use wasmill_host::{Bundle, Capabilities, Effects, Fault, FaultKind, Limits, Operation, UdfModule};

/// Source rows, row kinds, 3 timers, 7 errors, 2 reserved: what follows a column in the effects of a function without states.
const SLOTS_BEHIND: usize = 14;

fn table(result: &'static str) -> GuestText {
    GuestText { result, ..GuestText::default() }
}

/// An answer whose output column has these slots; all its rows come from row 0.
fn column(rows: u32, slots: &[&[u8]]) -> Answer {
    let mut all: Vec<Vec<u8>> = slots.iter().map(|slot| slot.to_vec()).collect();
    all.push(numbers(&vec![0; rows as usize]));
    all.extend(vec![vec![]; SLOTS_BEHIND - 1]);
    Answer { status: 0, rows, slots: all }
}

fn run(module: &UdfModule, guest: &GuestText, frame: &[u8], rows: usize) -> Result<Effects, Fault> {
    let mut instance =
        module.instantiate(setup(guest), Limits::default(), Capabilities::default(), TestHost::default()).unwrap();
    // The parrot says what stands in the data of the column: that is the first row, for the others are empty.
    let mut values = vec![frame];
    values.resize(rows, b"");
    let arguments: [ArrayRef; 1] = [Arc::new(BinaryArray::from(values))];
    let result = instance.run(&bundle(&arguments, rows));
    assert_eq!(instance.is_poisoned(), result.is_err());
    result
}

fn is_lie(result: Result<Effects, Fault>, says: &str) {
    let fault = result.map(|_| ()).expect_err(says);
    assert_eq!(fault.kind, FaultKind::Lie, "{fault}");
    let text = fault.to_string();
    assert!(text.starts_with("udf \"parrot\" function \"f\" broke the contract: "), "{text}");
    assert!(text.contains(says), "{says}: {text}");
}

type Lie<'a> = (&'a str, u32, Vec<&'a [u8]>);

/// Each answer of this type is found out; the first one is true, which shows that the others are wrong for what they say.
fn lies(result: &'static str, lies: &[Lie<'_>]) {
    let guest = table(result);
    let module = engine().load("parrot", &guest.build()).unwrap();
    let (_, rows, good) = &lies[0];
    let effects = run(&module, &guest, &column(*rows, good).frame(), 1).unwrap();
    assert_eq!(effects.output_rows(), *rows as usize);
    for (says, rows, slots) in &lies[1..] {
        is_lie(run(&module, &guest, &column(*rows, slots).frame(), 1), says);
    }
}

#[test]
fn texts() {
    let (good, two, three) = (numbers(&[0, 1, 2]), numbers(&[0, 2, 2]), numbers(&[0, 2, 3]));
    let (descending, outside, late) = (numbers(&[0, 2, 1]), numbers(&[0, 1, 9]), numbers(&[1, 2, 2]));
    let (negative, inside) = (numbers(&[0, u32::MAX, 2]), numbers(&[0, 1, 2]));
    let (huge, short) = (numbers(&[0, 1, i32::MAX as u32]), numbers(&[0, 1]));
    lies(
        "utf8?",
        &[
            ("", 2, vec![b"\x03", &good, b"ab"]),
            ("offsets descend from 2 to 1 at row 1", 2, vec![b"", &descending, b"ab"]),
            ("offsets descend from 0 to -1 at row 0", 2, vec![b"", &negative, b"ab"]),
            ("the data of a utf8 or binary column has 2 bytes, expected 9", 2, vec![b"", &outside, b"ab"]),
            ("has 2 bytes, expected 2147483647", 2, vec![b"", &huge, b"ab"]),
            ("the data of a utf8 or binary column has 3 bytes, expected 2", 2, vec![b"", &good, b"abc"]),
            ("the first offset is 1, expected 0", 2, vec![b"", &late, b"ab"]),
            ("offsets has 8 bytes, expected 12", 2, vec![b"", &short, b"a"]),
            ("offsets are absent, but there are 2 rows", 2, vec![b"", b"", b"ab"]),
            ("the offsets of a column without rows must be absent", 0, vec![b"", &short, b""]),
            ("text is not UTF-8 at byte 0", 2, vec![b"", &two, b"\xff\xfe"]),
            ("text is not UTF-8 at byte 0", 2, vec![b"", &two, b"\xc0\x80"]),
            ("text is not UTF-8 at byte 0", 2, vec![b"", &three, b"\xed\xa0\x80"]),
            ("text is not UTF-8 at byte 1", 2, vec![b"", &two, b"a\xc3"]),
            // A character whose halves are in two rows, and one that stands in a row that is null.
            ("offset 1 of row 1 is inside of a UTF-8 character", 2, vec![b"", &inside, "é".as_bytes()]),
            ("text is not UTF-8 at byte 0", 2, vec![b"\x02", &two, b"\xff\xfe"]),
            ("a validity bitmap has 2 bytes, expected 1 for 2 rows", 2, vec![b"\x03\0", &good, b"ab"]),
        ],
    );
}

#[test]
fn numbers_and_bits() {
    let nine = vec![0; 72];
    lies(
        "int64?",
        &[
            ("", 9, vec![b"\xff\x01", &nine]),
            ("a validity bitmap has 1 bytes, expected 2 for 9 rows", 9, vec![b"\xff", &nine]),
            ("a validity bitmap has 3 bytes, expected 2 for 9 rows", 9, vec![b"\xff\xff\xff", &nine]),
            ("a column of fixed width has 64 bytes, expected 72", 9, vec![b"", &nine[..64]]),
            ("a column of fixed width has 0 bytes, expected 72", 9, vec![b"", b""]),
            // Numbers of another type.
            ("a column of fixed width has 36 bytes, expected 72", 9, vec![b"", &nine[..36]]),
        ],
    );
    lies(
        "bool",
        &[
            ("", 9, vec![b"", b"\xff\xff"]),
            ("the bits of a bool column are absent, but it has 9 rows", 9, vec![b"", b""]),
            ("the bits of a bool column has 1 bytes, expected 2 for 9 rows", 9, vec![b"", b"\xff"]),
            ("1 nulls in a column of type bool, which has none", 9, vec![b"\xfe\x01", b"\xff\xff"]),
            // A byte for each, as other formats have it.
            ("the bits of a bool column has 9 bytes, expected 2 for 9 rows", 9, vec![b"", &[1; 9]]),
        ],
    );
    let decimal = |value: i128| value.to_le_bytes();
    let (good, large, least) = (decimal(-99_999), decimal(100_000), decimal(i128::MIN));
    lies(
        "decimal(5,2)?",
        &[
            ("", 1, vec![b"", &good]),
            ("decimal 100000 of row 0 has more than 5 digits", 1, vec![b"", &large]),
            ("decimal -170141183460469231731687303715884105728 of row 0 has more", 1, vec![b"\x01", &least]),
            ("a column of fixed width has 8 bytes, expected 16", 1, vec![b"", &good[..8]]),
        ],
    );
}

#[test]
fn lists() {
    let (good, descending, huge) = (numbers(&[0, 1, 3]), numbers(&[0, 3, 1]), numbers(&[0, 1, i32::MAX as u32]));
    let (three, two) = (vec![0; 24], vec![0; 16]);
    lies(
        "list<int64>",
        &[
            ("", 2, vec![b"", &good, b"", &three]),
            ("item: a column of fixed width has 16 bytes, expected 24", 2, vec![b"", &good, b"", &two]),
            ("offsets descend from 3 to 1 at row 1", 2, vec![b"", &descending, b"", &three]),
            ("item: a column of fixed width has 24 bytes, expected 17179869176", 2, vec![b"", &huge, b"", &three]),
            ("item: 1 nulls in a column of type int64", 2, vec![b"", &good, b"\x06", &three]),
            ("item: a validity bitmap has 4 bytes, expected 1 for 3 rows", 2, vec![b"", &good, b"\x07\0\0\0", &three]),
        ],
    );
    // What takes no bytes could be claimed without end.
    lies(
        "list<struct<>>",
        &[
            ("", 2, vec![b"", &good, b""]),
            ("item: 2147483647 rows of a struct without fields in a frame of", 2, vec![b"", &huge, b""]),
        ],
    );
    let (inner, inner_outside) = (numbers(&[0, 0, 1, 2]), numbers(&[0, 0, 1, 5]));
    lies(
        "list<list<bool?>>",
        &[
            ("", 2, vec![b"", &good, b"", &inner, b"\x01", b"\x03"]),
            ("item: item: the bits of a bool column are absent", 2, vec![b"", &good, b"", &inner, b"\x01", b""]),
            (
                "item: item: a validity bitmap has 9 bytes, expected 1 for 5 rows",
                2,
                vec![b"", &good, b"", &inner_outside, &[1; 9], b"\x03"],
            ),
        ],
    );
}

#[test]
fn structs_and_maps() {
    let (two, one, offsets) = (vec![0; 16], vec![0; 8], numbers(&[0, 1, 2]));
    lies(
        "struct<a: int64, b: utf8?>",
        &[
            ("", 2, vec![b"", b"", &two, b"\x01", &offsets, b"xy"]),
            ("a: a column of fixed width has 8 bytes, expected 16", 2, vec![b"", b"", &one, b"", &offsets, b"xy"]),
            ("a: 1 nulls in a column of type int64", 2, vec![b"", b"\x01", &two, b"", &offsets, b"xy"]),
            ("b: text is not UTF-8 at byte 1", 2, vec![b"", b"", &two, b"", &offsets, b"x\xff"]),
            (
                "1 nulls in a column of type struct<a: int64, b: utf8?>",
                2,
                vec![b"\x01", b"", &two, b"", &offsets, b"xy"],
            ),
            ("b: a validity bitmap has 2 bytes, expected 1", 2, vec![b"", b"", &two, b"\x01\x01", &offsets, b"xy"]),
        ],
    );
    let keys = numbers(&[0, 1, 2]);
    lies(
        "map<utf8, int64?>",
        &[
            ("", 2, vec![b"", &offsets, b"", &keys, b"kl", b"\x01", &two]),
            (
                "key: 1 nulls in a column of type utf8, which has none",
                2,
                vec![b"", &offsets, b"\x01", &keys, b"kl", b"", &two],
            ),
            (
                "value: a column of fixed width has 8 bytes, expected 16",
                2,
                vec![b"", &offsets, b"", &keys, b"kl", b"", &one],
            ),
            ("key: offsets has 12 bytes, expected 8", 1, vec![b"", &offsets[..8], b"", &keys, b"kl", b"", &one]),
        ],
    );
}

/// Rows that come from where no row is, in bundles of more than one row.
#[test]
fn rows_and_errors() {
    let guest = table("int64");
    let module = engine().load("parrot", &guest.build()).unwrap();
    let scalar = GuestText { kind: 0, ..table("int64") };
    let scalar_module = engine().load("parrot", &scalar.build()).unwrap();
    let of = |sources: &[u32]| Answer::of(&vec![7; sources.len()], sources).frame();
    assert_eq!(run(&module, &guest, &of(&[0, 0, 2]), 3).unwrap().output_rows(), 3);
    is_lie(run(&module, &guest, &of(&[1, 0]), 3), "source rows descend");
    is_lie(run(&module, &guest, &of(&[0, 3]), 3), "row 1 comes from input row 3, but there are 3");
    is_lie(run(&module, &guest, &of(&[u32::MAX]), 3), "comes from input row 4294967295, but there are 3");
    is_lie(run(&module, &guest, &of(&[0; 3])[..256], 3), "behind the frame's 256 bytes");
    is_lie(run(&module, &guest, &Answer::of(&[7; 4], &[]).frame(), 3), "4 rows without source rows, for 3 input rows");
    is_lie(run(&scalar_module, &scalar, &of(&[0, 2, 1]), 3), "row 1 comes from input row 2, expected 1");
    is_lie(run(&scalar_module, &scalar, &of(&[0, 0, 1]), 3), "row 1 comes from input row 0, expected 1");
    is_lie(run(&scalar_module, &scalar, &of(&[0, 1]), 3), "2 rows for 3 input rows: kind scalar answers each row once");

    let errors = |rows: &[u32]| {
        let mut answer = Answer::of(&[], &[]);
        answer.slots[7] = numbers(rows);
        for (at, text) in [(8, b"k"), (10, b"m"), (12, b"t")] {
            answer.slots[at] = numbers(&(0..=rows.len() as u32).collect::<Vec<_>>());
            answer.slots[at + 1] = text.repeat(rows.len());
        }
        answer.frame()
    };
    assert_eq!(run(&module, &guest, &errors(&[0, 2]), 3).unwrap().errors.len(), 2);
    is_lie(run(&module, &guest, &errors(&[2, 1]), 3), "rows do not ascend");
    is_lie(run(&module, &guest, &errors(&[1, 1]), 3), "rows do not ascend");
    is_lie(run(&module, &guest, &errors(&[0, 3]), 3), "error 1 is of input row 3, but there are 3");
}

#[test]
fn messages_of_errors_are_cut() {
    let mut answer = Answer::of(&[], &[]);
    answer.slots[7] = numbers(&[0]);
    for at in [8, 10, 12] {
        // In the middle of a character of two bytes.
        let text = format!("a{}", "é".repeat(100_000));
        answer.slots[at] = numbers(&[0, text.len() as u32]);
        answer.slots[at + 1] = text.into_bytes();
    }
    let guest = table("int64");
    let module = engine().load("parrot", &guest.build()).unwrap();
    let effects = run(&module, &guest, &answer.frame(), 1).unwrap();
    let error = &effects.errors[0];
    for text in [&error.kind, &error.message, &error.traceback] {
        assert!(text.starts_with("aéé") && text.ends_with("é…") && text.len() < 17 << 10, "{} bytes", text.len());
    }
}

/// Keeps what it is told while it accumulates, and answers with it when a result is asked for.
fn aggregate() -> GuestText {
    let run = "(if (i32.eq (i32.load offset=12 (local.get 0)) (i32.const 4)) (then (return (i32.const 24))))
        (memory.copy (i32.const 131072) (i32.add (local.get 0) (i32.load offset=80 (local.get 0))) (i32.load offset=84 (local.get 0)))
        (i32.store (i32.const 24) (i32.const 131072)) (i32.store (i32.const 28) (i32.load offset=84 (local.get 0)))
        (i32.store (i32.const 16) (i32.const 512)) (i32.store (i32.const 20) (i32.const 256)) (i32.const 16)";
    GuestText {
        kind: 6,
        states: vec![("accumulator", "int64", false)],
        run: run.into(),
        functions: r#"(data (i32.const 512) "WME1\13")"#.into(),
        ..GuestText::default()
    }
}

/// What the host makes of an answer to a question for the results of two keys.
fn result_of(answer: &Answer) -> Result<Effects, Fault> {
    let guest = aggregate();
    let mut instance = engine()
        .load("parrot", &guest.build())
        .unwrap()
        .instantiate(setup(&guest), Limits::default(), Capabilities::default(), TestHost::default())
        .unwrap();
    let frame = answer.frame();
    let arguments: [ArrayRef; 1] = [Arc::new(BinaryArray::from(vec![&frame[..]]))];
    let states: [ArrayRef; 1] = [Arc::new(Int64Array::from(vec![None, Some(1)]))];
    let index = [1];
    let accumulate = Bundle {
        operation: Operation::Accumulate,
        key_index: Some(&index),
        keys: 2,
        states: &states,
        ..bundle(&arguments, 1)
    };
    instance.run(&accumulate)?;
    instance.run(&Bundle { operation: Operation::Result, keys: 2, states: &states, ..bundle(&[], 0) })
}

#[test]
fn keys_of_results() {
    let answer = |values: &[i64], sources: &[u32]| {
        let mut answer = Answer::of(values, sources);
        // A state has its three slots behind the row kinds.
        answer.slots.splice(4..4, vec![vec![]; 3]);
        answer
    };
    let effects = result_of(&answer(&[5, 6], &[])).unwrap();
    assert_eq!(effects.outputs[0].column.as_primitive::<Int64Type>().values(), &[5, 6]);
    for (says, answer) in [
        ("1 rows without source rows, for 2 input rows", answer(&[5], &[])),
        ("3 rows without source rows, for 2 input rows", answer(&[5, 6, 7], &[])),
        ("row 1 comes from input row 2, but there are 2", answer(&[5, 6], &[0, 2])),
        ("row 0 comes from input row 1, expected 0", answer(&[5, 6], &[1, 1])),
        ("0 rows for 2 input rows: kind aggregate answers each row once", answer(&[], &[])),
        ("error 0 is of input row 2, but there are 2", {
            let mut lie = answer(&[5, 6], &[]);
            lie.slots[10] = numbers(&[2]);
            lie
        }),
        ("state \"accumulator\": a column of fixed width has 8 bytes, expected 16", {
            let mut lie = answer(&[5, 6], &[]);
            lie.slots[5] = vec![0; 8];
            lie.slots[6] = vec![1];
            lie
        }),
    ] {
        is_lie(result_of(&answer), says);
    }
    // While it accumulates it has nothing to give out.
    let guest = GuestText { run: PARROT.into(), ..aggregate() };
    let frame = answer(&[5], &[0]).frame();
    let arguments: [ArrayRef; 1] = [Arc::new(BinaryArray::from(vec![&frame[..]]))];
    let states: [ArrayRef; 1] = [Arc::new(Int64Array::from(vec![None::<i64>]))];
    for operation in [Operation::Accumulate, Operation::Retract] {
        let mut instance = support::open(&guest, Limits::default()).unwrap();
        let index = [0];
        let told = Bundle { operation, key_index: Some(&index), keys: 1, states: &states, ..bundle(&arguments, 1) };
        is_lie(instance.run(&told), &format!("output: 1 rows, but {operation:?} has none"));
    }
}

/// A frame of a nested type with a few rows, in which nothing is absent.
fn nested() -> (GuestText, Vec<u8>) {
    let guest = table("struct<a: list<utf8?>?, m: map<int32, bool>, d: decimal(5,2)?>");
    let (ends, values) = (numbers(&[0, 1, 2]), numbers(&[4, 5]));
    let slots: Vec<&[u8]> =
        vec![b"", b"\x03", &ends, b"\x01", &ends, b"xy", b"", &ends, b"", &values, b"", b"\x02", b"\x01", &[0; 32]];
    let frame = column(2, &slots).frame();
    (guest, frame)
}

#[test]
fn a_frame_cut_off_anywhere_is_a_lie() {
    let (guest, frame) = nested();
    let module = engine().load("parrot", &guest.build()).unwrap();
    assert_eq!(run(&module, &guest, &frame, 1).unwrap().output_rows(), 2);
    for length in 0..frame.len() {
        let fault = run(&module, &guest, &frame[..length], 1).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Lie, "{length} bytes: {fault}");
    }
    for more in [1, 63, 64, 128, 1 << 16] {
        let longer = [&frame[..], &vec![0; more]].concat();
        assert_eq!(run(&module, &guest, &longer, 1).unwrap_err().kind, FaultKind::Lie, "{more} bytes more");
    }
}

/// Whatever stands in a byte: the host takes it for what it says or finds it out, and what it takes can be looked at.
#[test]
fn a_frame_with_any_byte_changed_is_true_or_a_lie() {
    let (guest, frame) = nested();
    let module = engine().load("parrot", &guest.build()).unwrap();
    let (mut taken, mut found_out) = (0, 0);
    for at in 0..frame.len() {
        for byte in [0x00, 0x01, 0x40, 0x7f, 0x80, 0xff] {
            let mut changed = frame.clone();
            changed[at] = byte;
            match run(&module, &guest, &changed, 1) {
                Ok(effects) => {
                    for output in &effects.outputs {
                        output.column.to_data().validate_full().unwrap();
                        assert!(!format!("{:?}", output.column).is_empty());
                    }
                    taken += 1;
                }
                Err(fault) => {
                    assert_eq!(fault.kind, FaultKind::Lie, "byte {at} = {byte:#04x}: {fault}");
                    found_out += 1;
                }
            }
        }
    }
    assert!(taken > 100 && found_out > 1000, "{taken} taken, {found_out} found out");
}

/// The frame itself may lie anywhere, also where no number should.
#[test]
fn a_frame_at_an_odd_address_is_read() {
    let (guest, frame) = nested();
    for address in [131_073, 131_074, 131_080, 131_087] {
        let run_body = format!(
            "(memory.copy (i32.const {address}) (i32.add (local.get 0) (i32.load offset=80 (local.get 0))) (i32.load offset=84 (local.get 0)))
            (i32.store (i32.const 16) (i32.const {address})) (i32.store (i32.const 20) (i32.load offset=84 (local.get 0))) (i32.const 16)"
        );
        let guest = GuestText { run: run_body, ..table(guest.result) };
        let module = engine().load("parrot", &guest.build()).unwrap();
        let effects = run(&module, &guest, &frame, 1).unwrap();
        let column = effects.outputs[0].column.as_struct();
        assert_eq!(column.column(0).as_list::<i32>().value(0).as_string::<i32>().value(0), "x");
    }
}
