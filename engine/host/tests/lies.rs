//! Answers that are not true, from a guest that says whatever it is told: each is found out, names the UDF and costs the instance.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use support::{Answer, GuestText, numbers, parrot};
use wasmill_host::{FaultKind, Operation};

/// An answer of an `int64` table function to a bundle of one row, with one thing wrong.
fn lie(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut frame = Answer::of(&[7, 8], &[0, 0]).frame();
    change(&mut frame);
    told(&GuestText::default(), &frame)
}

fn lying(change: impl FnOnce(&mut Answer)) -> String {
    let mut answer = Answer::of(&[7, 8], &[0, 0]);
    change(&mut answer);
    told(&GuestText::default(), &answer.frame())
}

fn told(guest: &GuestText, frame: &[u8]) -> String {
    let fault = parrot(guest, frame).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Lie, "{fault}");
    let text = fault.to_string();
    assert!(text.starts_with("udf \"parrot\" function \"f\" broke the contract: "), "{text}");
    assert!(text.ends_with("rebuild it with the SDK of this engine"), "{text}");
    text
}

fn set(frame: &mut [u8], at: usize, value: u32) {
    frame[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn frames_that_are_none() {
    for (what, text) in [
        ("a frame of 0 bytes", told(&GuestText::default(), b"")),
        ("a frame of 5 bytes", told(&GuestText::default(), b"WME1\0")),
        ("magic 0x31424d57, expected 0x31454d57", lie(|frame| frame[2] = b'B')),
        ("a frame of 15 slots, expected 16", lie(|frame| set(frame, 4, 15))),
        ("a frame of 4294967295 slots", lie(|frame| set(frame, 4, u32::MAX))),
        ("status 2 (waiting)", lie(|frame| set(frame, 8, 2))),
        ("status 9", lie(|frame| set(frame, 8, 9))),
        ("output rows in a frame, limit", lie(|frame| set(frame, 12, u32::MAX))),
        ("byte 63 of the header is 0x01", lie(|frame| frame[63] = 1)),
        ("of the padding is 0x01", lie(|frame| *frame.last_mut().unwrap() = 1)),
        ("of a gap is 0x01", lie(|frame| frame[64 + 16 * 8 + 17] = 1)),
        ("whose last slot ends at", lie(|frame| frame.extend([0; 64]))),
        ("a frame of 65 bytes", lie(|frame| frame.truncate(65))),
        ("behind the frame's", lie(|frame| frame.truncate(192))),
        ("cannot hold a directory of 16 slots", lie(|frame| frame.truncate(128))),
    ] {
        assert!(text.contains(what), "{what}: {text}");
    }
}

#[test]
fn directories_that_are_wrong() {
    let values = 64 + 8;
    let sources = 64 + 16;
    for (what, text) in [
        ("slot 1 lies at 193, not a multiple of 64", lie(|frame| set(frame, values, 193))),
        ("slot 1 lies at 64, inside of what comes before it", lie(|frame| set(frame, values, 64))),
        ("slot 2 lies at 192, inside of what comes before it", lie(|frame| set(frame, sources, 192))),
        ("slot 1 ends at 4294967487, behind the frame's", lie(|frame| set(frame, values + 4, u32::MAX))),
        ("slot 1 ends at 4294967248, behind", lie(|frame| set(frame, values, u32::MAX - 63))),
        ("has 15 bytes, expected 16", lie(|frame| set(frame, values + 4, 15))),
        ("slot 0 is absent but has offset 192", lie(|frame| set(frame, 64, 192))),
    ] {
        assert!(text.contains(what), "{what}: {text}");
    }
}

#[test]
fn outputs_that_do_not_fit() {
    let scalar = GuestText { kind: 0, ..GuestText::default() };
    let table = GuestText::default();
    let with = |slot: usize, bytes: &[u8]| lying(|answer| answer.slots[slot] = bytes.to_vec());
    for (what, text) in [
        ("row 1 comes from input row 1, but there are 1", with(2, &numbers(&[0, 1]))),
        ("source rows has 4 bytes, expected 8", with(2, &numbers(&[0]))),
        ("2 rows without source rows, for 1 input rows", with(2, &[])),
        ("row 1 has an unknown row kind", with(3, &[0, 4])),
        ("row kinds has 3 bytes, expected 2", with(3, &[0, 0, 0])),
        ("a validity bitmap has 2 bytes, expected 1", with(0, &[3, 3])),
        ("1 nulls in a column of type int64", with(0, &[1])),
        ("timers (not in contract 0.1) must be absent", with(4, &[1; 8])),
        ("metric deltas and requests (not in contract 0.1) must be absent", with(14, &[1])),
        ("kind scalar answers each row once", told(&scalar, &Answer::of(&[7, 8], &[0, 0]).frame())),
        ("0 rows for 1 input rows: kind scalar answers each row once", told(&scalar, &Answer::of(&[], &[]).frame())),
        (
            "has 16 bytes, expected 8",
            told(&scalar, &{
                let mut answer = Answer::of(&[7, 8], &[]);
                answer.rows = 1;
                answer.frame()
            }),
        ),
    ] {
        assert!(text.contains(what), "{what}: {text}");
    }
    assert_eq!(parrot(&table, &Answer::of(&[], &[]).frame()).unwrap().outputs.len(), 0);
}

#[test]
fn errors_that_do_not_fit() {
    let one = numbers(&[0, 1]);
    let errors = |rows: &[u32], slots: [&[u8]; 6]| {
        lying(|answer| {
            answer.slots[7] = numbers(rows);
            for (i, slot) in slots.into_iter().enumerate() {
                answer.slots[8 + i] = slot.to_vec();
            }
        })
    };
    let good: [&[u8]; 6] = [&one, b"k", &one, b"m", &one, b"t"];
    let two = numbers(&[0, 1, 1]);
    for (what, text) in [
        ("error 0 is of input row 1, but there are 1", errors(&[1], good)),
        ("rows do not ascend", errors(&[0, 0], [&two, b"k", &two, b"m", &two, b"t"])),
        ("rows have 3 bytes", lying(|answer| answer.slots[7] = vec![0; 3])),
        ("kinds, messages and tracebacks (without rows) must be absent", errors(&[], good)),
        ("kinds: offsets are absent", errors(&[0], [&[], b"k", &one, b"m", &one, b"t"])),
        ("messages: offsets do not go from 0 to 2", errors(&[0], [&one, b"k", &one, b"mm", &one, b"t"])),
        ("tracebacks: text is not UTF-8 at byte 0", errors(&[0], [&one, b"k", &one, b"m", &one, b"\xFF"])),
        ("messages: offsets do not go from 0 to 1", errors(&[0], [&one, b"k", &numbers(&[1, 1]), b"m", &one, b"t"])),
    ] {
        assert!(text.contains(what), "{what}: {text}");
    }
}

#[test]
fn an_error_takes_back_what_its_row_gave_out() {
    let one = numbers(&[0, 1]);
    let mut answer = Answer::of(&[7, 8], &[0, 0]);
    for (slot, bytes) in [(7, &numbers(&[0])[..]), (8, &one), (9, b"k"), (10, &one), (11, b"m"), (12, &one), (13, b"t")]
    {
        answer.slots[slot] = bytes.to_vec();
    }
    let effects = parrot(&GuestText::default(), &answer.frame()).unwrap();
    assert_eq!((effects.output_rows(), effects.errors.len()), (0, 1));
    assert_eq!((effects.errors[0].kind.as_str(), effects.errors[0].traceback.as_str()), ("k", "t"));
}

/// States of one `int64` by column, for two keys: slots validity, values, sources, kinds, then state validity, values, bitmap.
#[test]
fn states_that_do_not_fit() {
    let guest = GuestText { kind: 7, states: vec![("s", "int64", false)], ..GuestText::default() };
    let answer = |status: u32, slots: &[(usize, &[u8])]| {
        let mut answer = Answer { status, rows: 0, slots: vec![vec![]; 19] };
        slots.iter().for_each(|(slot, bytes)| answer.slots[*slot] = bytes.to_vec());
        answer.frame()
    };
    let run = |frame: &[u8]| {
        let mut instance = support::open(&guest, wasmill_host::Limits::default()).unwrap();
        let row = support::OneRow::new(frame);
        let states: [arrow::array::ArrayRef; 1] =
            [std::sync::Arc::new(arrow::array::Int64Array::from(vec![None, Some(1)]))];
        let index = [1];
        let bundle = wasmill_host::Bundle { key_index: Some(&index), keys: 2, states: &states, ..row.bundle() };
        assert_eq!(bundle.operation, Operation::Process);
        instance.run(&bundle)
    };
    for (what, frame) in [
        (
            "state \"s\": the written bitmap has 2 bytes, expected 1 for 2 rows",
            answer(0, &[(5, &[0; 16]), (6, &[1, 1])]),
        ),
        ("state \"s\": a column of fixed width has 8 bytes, expected 16", answer(0, &[(5, &[0; 8]), (6, &[1])])),
        ("state \"s\": the bitmap says written, but the values are absent", answer(0, &[(6, &[1])])),
        ("states (while the status is more) must be absent", answer(1, &[(5, &[0; 16]), (6, &[1])])),
    ] {
        let fault = run(&frame).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Lie);
        assert!(fault.message.contains(what), "{what}: {fault}");
    }
    let effects = run(&answer(0, &[(4, &[0b10]), (5, &[9; 16]), (6, &[0b11])])).unwrap();
    assert_eq!(effects.states[0].written.count_set_bits(), 2);
    assert_eq!(effects.states[0].values.null_count(), 1);
    let effects = run(&answer(0, &[(5, &[9; 16])])).unwrap();
    assert_eq!((effects.states[0].values.len(), effects.states[0].written.len()), (0, 0));
}
