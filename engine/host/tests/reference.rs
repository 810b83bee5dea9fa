//! The reference guest (`guests/reference`, Rust): every type, every kind, both ways to state, every way to fail.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray, new_null_array};
use arrow::datatypes::{Field, Float64Type, Int64Type};
use support::{TestHost, bundle, cached_engine, reference, sample::Sampler};
use wasmill_host::{
    Access, Binding, Bundle, Capabilities, Effects, FaultKind, FunctionDeclaration, HostError, Kind, Limits, Operation,
    Resource, Setup, UdfInstance, UdfModule,
};

/// Compiled once for all tests here.
fn module() -> UdfModule {
    static MODULE: OnceLock<UdfModule> = OnceLock::new();
    MODULE.get_or_init(|| cached_engine(100).load("reference", &reference()).unwrap()).clone()
}

fn declared(module: &UdfModule) -> Vec<FunctionDeclaration> {
    module.describe(&Limits::default()).unwrap()
}

fn binding(function: &FunctionDeclaration) -> Binding {
    let arguments = function.arguments.iter().map(|a| a.data_type.clone().unwrap().to_field(&a.name)).collect();
    Binding {
        function: function.name.clone(),
        arguments,
        key: vec![],
        result: None,
        access: vec![],
        parameters: vec![],
    }
}

fn setup_of(bindings: Vec<Binding>) -> Setup {
    Setup { job: "job".into(), operator: "operator".into(), subtask: 0, parallelism: 1, bindings, resources: vec![] }
}

fn open_with(
    change: impl FnOnce(&mut Setup),
    function: &str,
    limits: Limits,
) -> Result<UdfInstance<TestHost>, HostError> {
    let module = module();
    let declared = declared(&module);
    let mut setup = setup_of(vec![binding(declared.iter().find(|declared| declared.name == function).unwrap())]);
    change(&mut setup);
    module.instantiate(setup, limits, Capabilities::default(), TestHost::default())
}

fn open(function: &str) -> UdfInstance<TestHost> {
    open_with(|_| {}, function, Limits::default()).unwrap()
}

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn int_outputs(effects: &Effects) -> Vec<i64> {
    effects.outputs.iter().flat_map(|output| output.column.as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[test]
fn every_type_comes_back_as_it_went_in() {
    let module = module();
    let functions: Vec<_> =
        declared(&module).into_iter().filter(|f| f.name.starts_with("id_") || f.name.starts_with("maybe_")).collect();
    assert!(functions.len() > 30);
    let setup = setup_of(functions.iter().map(binding).collect());
    let mut instance =
        module.instantiate(setup, Limits::default(), Capabilities::default(), TestHost::default()).unwrap();
    for (at, function) in functions.iter().enumerate() {
        let field = function.arguments[0].data_type.clone().unwrap().to_field("value");
        for rows in [0, 1, 7, 100, 3000] {
            let array = Sampler(rows as u64).array(&field, rows + 3);
            for array in [array.slice(3, rows), array.slice(0, rows)] {
                let arguments = [array.clone()];
                let effects = instance.run(&Bundle { function: at as u32, ..bundle(&arguments, rows) }).unwrap();
                assert!(effects.errors.is_empty(), "{}: {:?}", function.name, effects.errors);
                match effects.outputs.as_slice() {
                    [] => assert_eq!(rows, 0),
                    [output] => assert_eq!(&output.column, &array, "{}", function.name),
                    // Beyond a mebibyte the guest sends several.
                    outputs => assert_eq!(outputs.iter().map(|output| output.column.len()).sum::<usize>(), rows),
                }
            }
        }
    }
}

#[test]
fn functions_are_declared_with_kind_types_and_states() {
    let declared = declared(&module());
    let find = |name: &str| declared.iter().find(|declared| declared.name == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(find("add_one").kind, Kind::Scalar);
    assert_eq!(find("add_columns").kind, Kind::Vectorized);
    assert_eq!(find("count_to").kind, Kind::Table);
    assert_eq!(find("large").kind, Kind::Filter);
    assert_eq!(find("enrich").kind, Kind::Map);
    assert_eq!(find("total").kind, Kind::Reduce);
    assert_eq!(find("Statistics").kind, Kind::Aggregate);
    let average = find("KeyedAverage");
    assert_eq!(average.kind, Kind::Process);
    let states: Vec<_> = average.states.iter().map(|state| (state.name.as_str(), state.access)).collect();
    assert_eq!(states, [("count", Access::Column), ("sum", Access::Column)]);
    assert_eq!(find("KeyedAverageByCall").states[0].access, Access::Call);
    assert!(average.result.as_ref().unwrap().to_string().contains("average: float64"));
}

#[test]
fn a_large_output_comes_in_pieces() {
    let mut instance = open("count_to");
    let arguments = [ints(&[3, 0, 300_000, 2])];
    let effects = instance.run(&bundle(&arguments, 4)).unwrap();
    assert!(effects.outputs.len() > 2, "{}", effects.outputs.len());
    assert_eq!(effects.output_rows(), 300_005);
    let sources: Vec<u32> = effects.outputs.iter().flat_map(|output| output.source_rows.clone().unwrap()).collect();
    assert_eq!((sources[0], sources[2], sources[3], sources[300_002], sources[300_003]), (0, 0, 2, 2, 3));
}

#[test]
fn rows_that_fail_are_named_and_the_others_go_on() {
    let mut instance = open("fails_on_odd");
    let arguments = [ints(&[2, 3, 4, 5])];
    let effects = instance.run(&bundle(&arguments, 4)).unwrap();
    let outputs = int_outputs(&effects);
    assert_eq!((outputs[0], outputs[2]), (1, 2));
    let errors: Vec<_> = effects.errors.iter().map(|error| (error.row, error.message.as_str())).collect();
    assert_eq!(errors, [(1, "3 is odd"), (3, "5 is odd")]);
}

/// The average of two keys over two bundles, by whatever access: outputs, and the states of the second bundle.
fn averages(function: &str) -> Vec<f64> {
    let key = Field::new("k", arrow::datatypes::DataType::Utf8, true);
    let mut instance = open_with(|setup| setup.bindings[0].key = vec![key], function, Limits::default()).unwrap();
    let access = instance.loaded()[0].states[0].access;
    let keys: [ArrayRef; 1] = [Arc::new(StringArray::from(vec![Some("a"), None]))];
    let mut columns: Vec<ArrayRef> = match access {
        Access::Column => instance.loaded()[0].states.iter().map(|state| new_null_array(&state.data_type, 2)).collect(),
        Access::Call => vec![],
    };
    let mut averages = Vec::new();
    for values in [[1.0, 2.0, 3.0], [5.0, 4.0, 9.0]] {
        let arguments = [Arc::new(Float64Array::from(values.to_vec())) as ArrayRef];
        let (index, states) = ([0, 1, 0], columns.clone());
        let bundle =
            Bundle { key_index: Some(&index), keys: 2, key_columns: &keys, states: &states, ..bundle(&arguments, 3) };
        let effects = instance.run(&bundle).unwrap();
        assert!(effects.errors.is_empty(), "{:?}", effects.errors);
        for output in &effects.outputs {
            averages.extend(output.column.as_struct().column(1).as_primitive::<Float64Type>().values());
        }
        for (column, writes) in columns.iter_mut().zip(&effects.states) {
            assert_eq!(writes.written.count_set_bits(), 2);
            *column = writes.values.clone();
        }
        let host = instance.host_mut();
        for call in effects.state_calls.iter() {
            host.state.retain(|(at, _)| *at != (call.state, call.key));
            host.state.extend(call.value.map(|value| ((call.state, call.key), value.to_vec())));
        }
    }
    averages
}

#[test]
fn state_means_the_same_however_it_is_reached() {
    let want = [1.0, 2.0, 2.0, 3.0, 3.0, 4.5];
    for function in ["KeyedAverage", "KeyedAverageByCall", "KeyedAverageOneByOne"] {
        assert_eq!(averages(function), want, "{function}");
    }
}

#[test]
fn an_aggregate_folds_and_gives() {
    let mut instance = open("Statistics");
    let state = instance.loaded()[0].states[0].data_type.clone();
    let (arguments, index) = ([ints(&[4, 6, 10])], [0, 1, 0]);
    let empty = [new_null_array(&state, 2)];
    let fold = Bundle {
        operation: Operation::Accumulate,
        key_index: Some(&index),
        keys: 2,
        states: &empty,
        ..bundle(&arguments, 3)
    };
    let folded = instance.run(&fold).unwrap().states.remove(0);
    assert_eq!(folded.written.count_set_bits(), 2);
    let sources = [folded.values.clone()];
    let (states, index) = ([new_null_array(&state, 1)], [0, 0]);
    let merge = Bundle {
        operation: Operation::Merge,
        key_index: Some(&index),
        keys: 1,
        states: &states,
        sources: &sources,
        ..bundle(&[], 2)
    };
    let merged = [instance.run(&merge).unwrap().states.remove(0).values];
    let result = Bundle { operation: Operation::Result, keys: 1, states: &merged, ..bundle(&[], 0) };
    let effects = instance.run(&result).unwrap();
    let row = effects.outputs[0].column.as_struct();
    let number = |at: usize| row.column(at).as_primitive::<Int64Type>().value(0);
    assert_eq!((number(0), number(1), number(2), number(3)), (3, 20, 4, 10));
}

#[test]
fn parameters_and_resources_reach_open() {
    let change = |setup: &mut Setup| {
        setup.bindings[0].parameters = vec![("factor".into(), "10".into())];
        setup.resources = vec![Resource { name: "offset.txt".into(), content: Arc::from(*b" 5\n") }];
    };
    let mut instance = open_with(change, "scaled", Limits::default()).unwrap();
    let arguments = [ints(&[1, 2])];
    assert_eq!(int_outputs(&instance.run(&bundle(&arguments, 2)).unwrap()), [15, 25]);
}

#[test]
fn what_open_says_or_panics_with_is_told() {
    let error = open_with(|_| {}, "fails_to_open", Limits::default()).err().unwrap();
    assert!(matches!(&error, HostError::Problem { during: "load-functions", .. }), "{error:?}");
    assert!(error.to_string().contains("no-such-file.csv"), "{error}");
    let error = open_with(|_| {}, "panics_in_open", Limits::default()).err().unwrap();
    let HostError::Fault { fault, during: "load-functions" } = &error else { panic!("{error:?}") };
    assert_eq!(fault.kind, FaultKind::Panic);
    assert_eq!(fault.message, "panicked: open does not like it here");
    assert!(fault.location.contains("failing.rs:"), "{fault}");
}

#[test]
fn an_unknown_function_is_told_with_those_there_are() {
    let module = module();
    let mut unknown = binding(&declared(&module)[0]);
    unknown.function = "no_such".into();
    let error = module
        .instantiate(setup_of(vec![unknown]), Limits::default(), Capabilities::default(), TestHost::default())
        .err()
        .unwrap();
    assert!(matches!(error, HostError::UnknownFunction { .. }));
    assert!(error.to_string().starts_with(r#"udf "reference" has no function "no_such": it has "#), "{error}");
}

#[test]
fn each_way_to_fail_is_named() {
    let limits = Limits { call_time_max: Duration::from_millis(100), memory_bytes_max: 16 << 20, ..Limits::default() };
    for (function, argument, kind, says) in [
        ("panics_on", 13, FaultKind::Panic, "panicked: no row may be 13 (at "),
        ("overflows", i64::MAX, FaultKind::Panic, "panicked: attempt to add with overflow (at "),
        ("loops_on", 13, FaultKind::Deadline, "ran longer than 100 ms for a bundle of 2 rows: "),
        ("hogs", 100, FaultKind::MemoryLimit, "of memory, limit 16 MiB: raise udfs.reference.memory.max"),
        ("recurses", 10_000_000, FaultKind::StackOverflow, "recursed deeper than its stack: "),
    ] {
        let mut instance = open_with(|_| {}, function, limits.clone()).unwrap();
        let good = [ints(&[1])];
        assert!(instance.run(&bundle(&good, 1)).unwrap().errors.is_empty(), "{function}");
        let bad = [ints(&[1, argument])];
        let fault = instance.run(&bundle(&bad, 2)).unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(fault.to_string().contains(says), "{fault}");
        assert!(fault.to_string().starts_with(&format!("udf \"reference\" function \"{function}\" ")), "{fault}");
        assert!(instance.is_poisoned());
    }
}

#[test]
fn a_division_by_zero_names_its_place() {
    let mut instance = open("divides");
    let arguments = [ints(&[1]), ints(&[0])];
    let fault = instance.run(&bundle(&arguments, 1)).unwrap_err();
    assert!(fault.message.contains("attempt to divide by zero"), "{fault}");
    assert!(fault.location.contains("failing.rs:21"), "{fault}");
}

#[test]
fn the_same_bundle_has_the_same_effects() {
    let mut results = HashMap::new();
    for _ in 0..3 {
        let mut instance = open("Echo");
        let arguments = [ints(&[1, 2, 3])];
        let effects = instance.run(&bundle(&arguments, 3)).unwrap();
        *results.entry(format!("{effects:?}")).or_insert(0) += 1;
    }
    assert_eq!(results.len(), 1, "{results:?}");
}

#[test]
fn a_bundle_that_does_not_fit_is_refused_and_costs_nothing() {
    let mut instance = open("add_one");
    let texts: [ArrayRef; 1] = [Arc::new(StringArray::from(vec!["x"]))];
    let nulls: [ArrayRef; 1] = [Arc::new(Int64Array::from(vec![None]))];
    let one = [ints(&[1])];
    let index = [1];
    for (bundle, says) in [
        (bundle(&texts, 1), "argument \"x\" is of type utf8, the binding says int64"),
        (bundle(&nulls, 1), "argument \"x\" has 1 nulls"),
        (bundle(&one, 2), "argument \"x\" has 1 rows, the bundle 2"),
        (bundle(&[], 1), "0 arguments, the binding has 1"),
        (Bundle { function: 1, ..bundle(&one, 1) }, "function 1 of 1"),
        (Bundle { key_index: Some(&index), keys: 1, ..bundle(&one, 1) }, "row 0 has key index 1, limit 1"),
        (Bundle { event_times: Some(&[1, 2]), ..bundle(&one, 1) }, "2 event times, the bundle has 1 rows"),
        (Bundle { operation: Operation::Accumulate, ..bundle(&one, 1) }, "operation Accumulate is not for kind scalar"),
    ] {
        let fault = instance.run(&bundle).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Input);
        assert!(fault.message.contains(says), "{fault}");
    }
    assert_eq!(int_outputs(&instance.run(&bundle(&one, 1)).unwrap()), [2]);
}

#[test]
fn a_thousand_instances_come_and_go() {
    let module = module();
    let setup = setup_of(vec![binding(declared(&module).iter().find(|declared| declared.name == "add_one").unwrap())]);
    for round in 0..1000 {
        let mut instance =
            module.instantiate(setup.clone(), Limits::default(), Capabilities::default(), TestHost::default()).unwrap();
        let arguments = [ints(&[round])];
        assert_eq!(int_outputs(&instance.run(&bundle(&arguments, 1)).unwrap()), [round + 1]);
        assert!(instance.memory_bytes() > 0);
    }
}

#[test]
fn more_instances_than_there_are_places_for_is_an_error() {
    let module = cached_engine(10).load("reference", &reference()).unwrap();
    let setup = setup_of(vec![binding(&declared(&module)[0])]);
    let mut open = Vec::new();
    let error = loop {
        match module.instantiate(setup.clone(), Limits::default(), Capabilities::default(), TestHost::default()) {
            Ok(instance) => open.push(instance),
            Err(error) => break error,
        }
    };
    assert_eq!(open.len(), 10);
    assert!(matches!(error, HostError::InstancesExhausted { instances_max: 10, .. }), "{error}");
}
