//! `wasmill udf inspect`: what a file offers.

use std::path::Path;

use serde_json::json;
use wasmill_host::{Access, FunctionDeclaration, StateDeclaration, data_type};

use super::build::limits;
use crate::environment::{environment, load};
use crate::report::Failure;

pub(crate) fn inspect(file: &Path, as_json: bool) -> Result<(), Failure> {
    let environment = environment()?;
    let module = load(&environment, file)?;
    let functions = module.describe(&limits(module.has_source())).map_err(Failure::Host)?;
    let imports = module.imports();
    if as_json {
        let functions = functions.iter().map(function_json).collect::<Vec<_>>();
        let all = json!({ "contract": wasmill_host::CONTRACT_VERSION, "functions": functions, "imports": imports });
        return crate::print(&format!("{all:#}"));
    }
    let blocks = functions.iter().map(block).collect::<String>();
    let imports = if imports.is_empty() { "nothing".to_owned() } else { imports.join("\n  ") };
    crate::print(&format!(
        "{}: contract {}, {} functions\n\n{blocks}\nimports beside the contract:\n  {imports}\n",
        file.display(),
        wasmill_host::CONTRACT_VERSION,
        functions.len()
    ))
}

/// Kind and signature in a line, what else there is below: signatures of rows are too long for a table.
fn block(function: &FunctionDeclaration) -> String {
    let mut text = format!("{:<10}  {}\n", function.kind.as_str(), signature(function));
    if let Some(first) = function.documentation.lines().next().filter(|line| !line.is_empty()) {
        text.push_str(&format!("{:12}{first}\n", ""));
    }
    if !function.states.is_empty() {
        let states = function.states.iter().map(state_text).collect::<Vec<_>>().join(", ");
        text.push_str(&format!("{:12}state {states}\n", ""));
    }
    text
}

/// `grade(dep_delay: float64?, arr_delay: float64?) -> utf8`
pub(crate) fn signature(function: &FunctionDeclaration) -> String {
    let arguments = function.arguments.iter().map(|argument| {
        let notation = argument.data_type.as_ref().map_or_else(|| "any".to_owned(), ToString::to_string);
        format!("{}: {notation}", argument.name)
    });
    let result = function.result.as_ref().map_or_else(|| "as the job says".to_owned(), ToString::to_string);
    format!("{}({}) -> {result}", function.name, arguments.collect::<Vec<_>>().join(", "))
}

fn notation(state: &StateDeclaration) -> String {
    data_type::display(&state.data_type, false).unwrap_or_else(|_| state.data_type.to_string())
}

fn access(state: &StateDeclaration) -> &'static str {
    match state.access {
        Access::Column => "column",
        Access::Call => "call",
    }
}

fn state_text(state: &StateDeclaration) -> String {
    let by_call = if state.access == Access::Call { " (by call)" } else { "" };
    format!("{}: {}{by_call}", state.name, notation(state))
}

fn function_json(function: &FunctionDeclaration) -> serde_json::Value {
    let arguments = function.arguments.iter().map(|argument| {
        json!({ "name": argument.name, "type": argument.data_type.as_ref().map_or_else(|| "any".to_owned(), ToString::to_string) })
    });
    let states = function
        .states
        .iter()
        .map(|state| json!({ "name": state.name, "type": notation(state), "access": access(state) }));
    json!({
        "name": function.name,
        "kind": function.kind.as_str(),
        "arguments": arguments.collect::<Vec<_>>(),
        "result": function.result.as_ref().map(ToString::to_string),
        "states": states.collect::<Vec<_>>(),
        "deterministic": function.deterministic,
        "documentation": function.documentation,
    })
}
