//! Bundles and effects with keys, states and errors, against the golden vectors of the contract.

use serde_json::Value as Json;
use wasmill_udf::data_type::{DataType, Field};
use wasmill_udf::frame::{BUNDLE_MAGIC, EFFECTS_MAGIC, FrameWriter, Slots};
use wasmill_udf::function::{Access, Binding};
use wasmill_udf::instance::{Instance, Setup};
use wasmill_udf::prelude::*;
use wasmill_udf::value::{ColumnWriter, ToColumn, Value};
use wasmill_udf::{Millis, export};

fn vector(part: &str, name: &str) -> Json {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/vectors/frames.json");
    let text = std::fs::read_to_string(path).expect("wit/vectors/frames.json");
    let vectors: Json = serde_json::from_str(&text).expect("vectors are JSON");
    let found = vectors[part].as_array().expect("a list").iter().find(|vector| vector["name"] == name).cloned();
    found.unwrap_or_else(|| panic!("a vector `{name}` of {part}"))
}

fn hex_of(vector: &Json) -> &str {
    vector["hex"].as_str().expect("hex")
}

fn bytes(vector: &Json) -> Vec<u8> {
    let hex = hex_of(vector);
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Opens a function as a bundle's vector binds it.
fn open(vector: &Json, function: &str) -> Instance {
    let fields = |part: &str| -> Vec<Field> {
        let field = |field: &Json| Field {
            name: field["name"].as_str().expect("a name").to_owned(),
            data_type: DataType::parse(field["type"].as_str().expect("a type")).expect("a type"),
        };
        vector["binding"][part].as_array().expect("fields").iter().map(field).collect()
    };
    let states = vector["binding"]["states"].as_array().expect("states").iter();
    let access = |state: &Json| if state["access"] == "call" { Access::Call } else { Access::Column };
    let access = states.map(|state| (state["name"].as_str().expect("a name").to_owned(), access(state))).collect();
    let binding = Binding {
        function: function.to_owned(),
        arguments: fields("arguments"),
        key: fields("key"),
        access,
        ..Binding::default()
    };
    Instance::load(WASMILL_FUNCTIONS, &Setup { bindings: vec![binding], ..Setup::default() })
        .expect("the function opens")
}

/// Values of the one output column of effects, and the effects' status.
fn output<T: Value>(effects: &[u8]) -> Vec<T> {
    let rows = u32::from_le_bytes(effects[12..16].try_into().expect("four bytes")) as usize;
    let reader = T::open(&mut Slots::open(effects, EFFECTS_MAGIC).expect("effects"), rows).expect("a column");
    // SAFETY: the column was opened with `rows` rows.
    (0..rows).map(|row| unsafe { T::get(&reader, row) }.expect("no null inside")).collect()
}

#[derive(Clone, Debug, Row)]
struct Delay {
    carrier: String,
    tailnum: Option<String>,
    delay: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Row)]
struct Last {
    at: Timestamp<Millis>,
    tags: Option<Vec<Option<String>>>,
}

#[derive(States)]
struct Keyed {
    sum: ValueState<i64>,
    #[state(access = "call")]
    big: ValueState<Vec<String>>,
    last: ValueState<Last>,
}

/// Tells all that it sees, and changes nothing.
#[udf]
impl Process for Keyed {
    type In = (Delay,);
    type Out = String;

    fn process(&mut self, (row,): (Delay,), context: &mut Context<'_, String>) -> Result {
        let (carrier, tailnum) = (context.key::<&str>(0)?.to_owned(), context.key::<Option<String>>(1)?);
        assert_eq!((carrier, tailnum), (row.carrier, row.tailnum), "rows of this bundle carry their key");
        assert_eq!(
            context.key::<i64>(0).expect_err("another type").to_string(),
            "key field `carrier` is utf8, int64 was asked for"
        );
        assert!(self.big.get().is_none());
        let last = self.last.get().map(|last| (last.at.0, last.tags));
        context.emit(format!("{:?} {:?} {:?} {last:?}", row.delay, context.event_time(), self.sum.get()));
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Row)]
struct Counted {
    k: String,
    n: i64,
}

#[udf(reduce)]
fn reduced(a: Counted, b: Counted) -> Counted {
    Counted { k: a.k, n: a.n + b.n }
}

#[derive(Default)]
struct Summed;

#[derive(Clone, Debug, Default, PartialEq, Row)]
struct SoFar {
    n: i64,
    sum: Option<f64>,
}

#[udf]
impl Aggregate for Summed {
    type Accumulator = SoFar;
    type Input = Option<f64>;
    type Output = String;

    fn accumulate(&self, so_far: &mut SoFar, value: Option<f64>) -> Result {
        so_far.n += 1;
        so_far.sum = so_far.sum.zip(value).map(|(sum, value)| sum + value).or(so_far.sum).or(value);
        Ok(())
    }

    fn retract(&self, so_far: &mut SoFar, value: Option<f64>) -> Result {
        so_far.n -= 1;
        so_far.sum = Some(so_far.sum.unwrap_or(0.0) - value.unwrap_or(0.0));
        Ok(())
    }

    fn merge(&self, so_far: &mut SoFar, other: SoFar) -> Result {
        so_far.n += other.n;
        so_far.sum = so_far.sum.zip(other.sum).map(|(sum, other)| sum + other).or(so_far.sum).or(other.sum);
        Ok(())
    }

    fn result(&self, so_far: &SoFar) -> Result<String> {
        Ok(format!("{so_far:?}"))
    }
}

export!(Keyed, reduced, Summed);

#[test]
fn keys_times_and_states_of_a_bundle_are_read() {
    let vector = vector("bundles", "process with key and states");
    let effects = open(&vector, "Keyed").run(&bytes(&vector)).expect("runs").to_vec();
    let lines: Vec<String> = output(&effects);
    assert_eq!(
        lines,
        [
            r#"Some(2.0) Some(10) Some(5) Some((1, Some([Some("x"), None])))"#,
            "None Some(20) None None",
            r#"Some(7.5) Some(30) Some(5) Some((1, Some([Some("x"), None])))"#,
        ]
    );
}

#[test]
fn a_reduce_goes_on_from_its_state() {
    let vector = vector("bundles", "reduce");
    let effects = open(&vector, "reduced").run(&bytes(&vector)).expect("runs").to_vec();
    let counted = |k: &str, n| Counted { k: k.to_owned(), n };
    assert_eq!(output::<Counted>(&effects), [counted("a", 11), counted("b", 2)]);
}

/// The accumulators that effects of `Summed` have written.
fn written(effects: &[u8]) -> Vec<(Option<SoFar>, bool)> {
    let mut slots = Slots::open(effects, EFFECTS_MAGIC).expect("effects");
    slots.skip(3 + 2).expect("an output of text, sources and kinds");
    let reader = <SoFar as wasmill_udf::value::FromColumn>::open(&mut slots, 2).expect("a column");
    let bits = slots.take().expect("a bitmap")[0];
    let value = |key| {
        let null = wasmill_udf::value::Reader::is_null(&reader, key);
        // SAFETY: the column was opened with two rows.
        (!null)
            .then(|| unsafe { <SoFar as wasmill_udf::value::FromColumn>::get(&reader, key) }.expect("no null inside"))
    };
    (0..2).map(|key| (value(key), bits & (1 << key) != 0)).collect()
}

#[test]
fn aggregates_know_their_operations() {
    let so_far = |n, sum| SoFar { n, sum };
    let cases = [
        ("aggregate: accumulate", [so_far(2, Some(2.0)), so_far(2, Some(4.0))]),
        ("aggregate: retract", [so_far(0, Some(2.0)), so_far(-2, Some(-4.0))]),
        ("aggregate: merge", [so_far(5, Some(2.0)), so_far(5, Some(6.0))]),
    ];
    for (name, wanted) in cases {
        let vector = vector("bundles", name);
        let got = written(open(&vector, "Summed").run(&bytes(&vector)).expect("runs"));
        assert_eq!(got, wanted.map(|so_far| (Some(so_far), true)), "{name}");
    }
    let vector = vector("bundles", "aggregate: result");
    let effects = open(&vector, "Summed").run(&bytes(&vector)).expect("runs").to_vec();
    assert_eq!(output::<String>(&effects), ["SoFar { n: 1, sum: Some(2.0) }", "SoFar { n: 0, sum: None }"]);
}

/// A frame with one column of a state, to load it from.
fn column<T: ToColumn>(frame: &mut FrameWriter, values: &[Option<T>])
where
    Option<T>: ToColumn,
{
    let mut writer = <Option<T> as ToColumn>::Writer::default();
    <Option<T> as ToColumn>::push_all(values, &mut writer);
    writer.write(frame);
}

/// Loads three keys of `Keyed`, changes them, and writes effects with an output of texts.
fn effects_of(change: impl FnOnce(&mut Keyed), output: &[Option<&str>], sources: &[u32], more: bool) -> String {
    use wasmill_udf::States;
    use wasmill_udf::effects::{Effects, Output};
    use wasmill_udf::frame::Status;
    let last = |at, tags| Last { at: Timestamp::new(at), tags };
    let mut frame = FrameWriter::default();
    frame.begin(BUNDLE_MAGIC, 2 + 8);
    column(&mut frame, &[Some(1i64), Some(2), Some(3)]);
    column(&mut frame, &[Some(last(1, None)), None, Some(last(6, None))]);
    let frame = frame.finish().to_vec();
    let mut slots = Slots::open(&frame, BUNDLE_MAGIC).expect("a frame");
    let mut states = Keyed::create(&Keyed::declare());
    states.visit(&mut |state| state.load(&mut slots, 3)).expect("loads");
    change(&mut states);
    let mut writer = <Option<&str> as ToColumn>::Writer::default();
    <Option<&str> as ToColumn>::push_all(output, &mut writer);
    let sources: Vec<[u8; 4]> = sources.iter().map(|source| source.to_le_bytes()).collect();
    let mut effects = Effects::default();
    effects.begin((3 + 2 + 3 + 9 + 3 + 7 + 2, 3 + 9));
    let status = if more { Status::More } else { Status::Done };
    effects.finish(
        Output { status, sources: Some(&sources), rows: output.len() },
        |frame| writer.write(frame),
        |frame| {
            states
                .visit(&mut |state| {
                    state.store(frame);
                    Ok(())
                })
                .expect("stores")
        },
    );
    hex(effects.bytes())
}

#[test]
fn written_and_cleared_states_are_effects() {
    use wasmill_udf::States;
    let write_sums = |states: &mut Keyed| {
        states.select(0);
        states.sum.set(7);
        states.commit();
        states.select(1);
        states.sum.clear();
        states.commit();
        // What a row that fails has written is not seen.
        states.select(2);
        states.sum.set(99);
        states.sum.clear();
        states.undo();
    };
    let write_all = |states: &mut Keyed| {
        write_sums(states);
        states.select(0);
        states.last.clear();
        states.select(1);
        states.last.set(Last { at: Timestamp::new(5), tags: Some(vec![Some("x".to_owned()), None]) });
        states.select(2);
        let last = states.last.get().expect("a value");
        states.last.set(last);
        states.commit();
    };
    let wanted = |name: &str| hex_of(&vector("effects", name)).to_owned();
    let got = effects_of(write_all, &[Some("x"), None], &[0, 2], false);
    assert_eq!(got, wanted("process, states written and cleared"));
    assert_eq!(effects_of(write_sums, &[], &[], false), wanted("process, one state written"));
}
