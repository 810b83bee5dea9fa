//! What a guest says of its functions, and the notation of types.

use std::collections::HashSet;

use wasmill_host::data_type::{self, FieldType, canonical, display, parse};
use wasmill_host::fuzz::{Column, Function, Plan, State, declarations, loaded};
use wasmill_host::{Access, Binding, FunctionDeclaration, Kind, Loaded};

use super::effects::KINDS;

const NAME_BYTES_MAX: usize = 1000;
const DOCUMENTATION_BYTES_MAX: usize = 16 << 10;

/// The text as a type; then its lines as functions, each followed by its arguments and states.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    check_type(&text);
    let functions = functions(&text);
    check_declarations(&functions);
    check_loaded(functions);
}

/// What is a type prints as one text, which is the same type, however it is spaced.
fn check_type(text: &str) {
    let parsed = match parse(text) {
        Ok(parsed) => parsed,
        Err(error) => return check_type_error(text, &error),
    };
    let printed = display(&parsed.data_type, parsed.nullable).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(parsed.to_string(), printed);
    assert_eq!(parse(&printed).as_ref(), Ok(&parsed), "{printed}");
    for space in ["", " ", "\t\n\u{2003}"] {
        assert_eq!(parse(&spaced(&printed, space)).as_ref(), Ok(&parsed), "{printed} with {space:?} between tokens");
    }
    assert_eq!(canonical(&parsed.data_type).as_ref(), Ok(&parsed.data_type), "{printed}");
    let column = Column::new(&parsed).unwrap_or_else(|| panic!("{printed} is of the contract"));
    assert!(column.slots() >= 1, "{printed}: {} slots", column.slots());
}

fn check_type_error(text: &str, error: &data_type::DataTypeError) {
    use data_type::DataTypeError::{Syntax, TooDeep, TooLong, Unsupported};
    assert!(!error.to_string().is_empty());
    match error {
        Syntax { at, text: cut, .. } => {
            assert!(text.is_char_boundary(*at), "byte {at} of {text:?}");
            assert!(text.starts_with(cut.trim_end_matches('…')), "{cut:?} of {text:?}");
        }
        TooDeep { .. } => assert!(text.len() > data_type::NEST_MAX, "{text:?}"),
        TooLong { .. } => assert!(text.len() > data_type::TEXT_BYTES_MAX),
        Unsupported { .. } => panic!("{text:?}: what has a name is supported"),
    }
}

/// A printed type with other white space between its tokens.
fn spaced(printed: &str, space: &str) -> String {
    let mut text = String::new();
    let (mut quoted, mut escaped) = (false, false);
    for c in printed.chars() {
        let token = !quoted && matches!(c, '<' | '>' | ':' | ',' | '?');
        // A zone is one token, and has colons.
        let zone = c == ':' && text.rsplit_once(['<', '(']).is_some_and(|(before, _)| before.ends_with("timestamp"));
        match c {
            ' ' if !quoted => {}
            _ if token && !zone => text.extend([space, c.encode_utf8(&mut [0; 4]), space]),
            _ => text.push(c),
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
    }
    text
}

/// A line is a kind, a name, a result and documentation; or `argument`, a name and a type; or `column` or `call`, and the name and type
/// of a state. Others mean nothing.
fn functions(text: &str) -> Vec<Function> {
    let mut functions: Vec<Function> = Vec::new();
    for line in text.lines() {
        let mut parts = line.split('\t');
        let mut part = || parts.next().map(str::to_owned);
        let (Some(first), name) = (part(), part().unwrap_or_default()) else { continue };
        if let Some(kind) = KINDS.into_iter().find(|kind| first == kind.as_str()) {
            functions.push(Function {
                name: name.clone(),
                kind,
                arguments: Vec::new(),
                result: part().filter(|result| !result.is_empty()),
                states: Vec::new(),
                deterministic: line.len().is_multiple_of(2),
                documentation: part().unwrap_or_default(),
            });
        }
        let Some(function) = functions.last_mut() else { continue };
        let data_type = || line.rsplit('\t').next().unwrap_or_default().to_owned();
        match first.as_str() {
            "argument" => function.arguments.push((name, data_type())),
            "column" => function.states.push(State { name, data_type: data_type(), access: Access::Column }),
            "call" => function.states.push(State { name, data_type: data_type(), access: Access::Call }),
            _ => {}
        }
    }
    functions
}

fn check_declarations(functions: &[Function]) {
    let mut names = HashSet::new();
    let good = |function: &Function| {
        let mut arguments = HashSet::new();
        let argument = |(name, data_type): &(String, String)| {
            name_fits(name) && arguments.insert(name.clone()) && (data_type.trim() == "any" || parse(data_type).is_ok())
        };
        let name = name_fits(&function.name) && !function.name.is_empty();
        name && function.arguments.iter().all(argument)
            && function.result.as_ref().is_none_or(|result| result_fits(function.kind, result))
            && states_fit(function.kind, &function.states, false)
    };
    let good = functions.iter().all(|function| good(function) && names.insert(&function.name));
    match declarations(functions.to_vec()) {
        Ok(declared) => {
            assert!(good, "the host takes what breaks the contract: {functions:#?}");
            assert_eq!(declared.len(), functions.len());
            functions.iter().zip(&declared).for_each(|(function, declared)| check_declaration(function, declared));
        }
        Err(problem) => assert!(!good, "the host refuses what fits the contract: {problem}\n{functions:#?}"),
    }
}

/// Each thing that was said is in the declaration.
fn check_declaration(function: &Function, declared: &FunctionDeclaration) {
    assert_eq!((&declared.name, declared.kind), (&function.name, function.kind));
    assert_eq!(declared.deterministic, function.deterministic);
    let documentation = declared.documentation.trim_end_matches('…');
    assert!(function.documentation.starts_with(documentation));
    let whole = declared.documentation == function.documentation;
    assert!(whole || function.documentation.len() > DOCUMENTATION_BYTES_MAX);
    assert_eq!(declared.arguments.len(), function.arguments.len());
    for (declared, (name, text)) in declared.arguments.iter().zip(&function.arguments) {
        assert_eq!((&declared.name, declared.data_type.as_ref()), (name, parse(text).ok().as_ref()));
    }
    assert_eq!(declared.result, function.result.as_ref().and_then(|result| parse(result).ok()));
    check_states(&function.states, &declared.states);
}

fn check_states(states: &[State], declared: &[wasmill_host::StateDeclaration]) {
    let said = |state: &State| (state.name.clone(), parse(&state.data_type).ok().map(|t| t.data_type), state.access);
    let said: Vec<_> = states.iter().map(said).collect();
    let declared: Vec<_> = declared.iter().map(|s| (s.name.clone(), Some(s.data_type.clone()), s.access)).collect();
    assert_eq!(said, declared);
}

/// The same functions, as opened: each is loaded just if it fits, and what is loaded has a plan.
fn check_loaded(functions: Vec<Function>) {
    for function in functions {
        let result = function.result.unwrap_or_default();
        let good = result_fits(function.kind, &result) && states_fit(function.kind, &function.states, true);
        let binding = Binding {
            function: function.name,
            arguments: Vec::new(),
            key: Vec::new(),
            result: None,
            access: Vec::new(),
            parameters: Vec::new(),
        };
        let answers = vec![(result.clone(), function.states.clone())];
        let bindings = [binding];
        assert!(loaded(Vec::new(), &bindings, &[function.kind]).is_err(), "an answer is missing");
        match loaded(answers, &bindings, &[function.kind]).as_deref() {
            Ok([one]) => {
                assert!(good, "{one:?}");
                assert_eq!(Some(&one.result), parse(&result).ok().as_ref());
                check_states(&function.states, &one.states);
                check_plan(&bindings[0], function.kind, one);
            }
            Ok(several) => panic!("{} functions for one binding", several.len()),
            Err(problem) => assert!(!good, "{problem}: {result:?} {:?}", function.states),
        }
    }
}

fn check_plan(binding: &Binding, kind: Kind, loaded: &Loaded) {
    let plan = Plan::new(binding, kind, loaded).expect("all of its types are of the contract");
    let slots = |field: FieldType| Column::new(&field).map_or(0, |column| column.slots());
    let by_column = loaded.states.iter().filter(|state| state.access == Access::Column);
    // A state has a bitmap besides.
    let states: usize = by_column.map(|state| slots(FieldType::nullable(state.data_type.clone())) + 1).sum();
    assert_eq!(plan.effects_slots(), slots(loaded.result.clone()) + 2 + states + 3 + 7 + 2);
}

fn name_fits(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)
}

fn result_fits(kind: Kind, text: &str) -> bool {
    match parse(text) {
        Ok(result) => kind != Kind::Filter || result.to_string().trim_end_matches('?') == "bool",
        Err(_) => false,
    }
}

fn states_fit(kind: Kind, states: &[State], opened: bool) -> bool {
    let mut names = HashSet::new();
    let fits = |state: &State| {
        let data_type = parse(&state.data_type).is_ok_and(|parsed| !parsed.nullable);
        name_fits(&state.name) && names.insert(state.name.clone()) && data_type
    };
    let only = match kind {
        Kind::Aggregate => "accumulator",
        Kind::Reduce => "reduced",
        _ => return states.iter().all(fits),
    };
    let is_only = |state: &State| state.name == only && state.access == Access::Column;
    states.iter().all(fits)
        && match states {
            [] => !opened,
            [one] => is_only(one),
            _ => false,
        }
}
