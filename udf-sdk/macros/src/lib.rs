//! The macros of `wasmill-udf`; they are documented where that crate exports them.

mod row;
mod signature;
mod states;
mod udf;

use proc_macro::TokenStream;

/// Makes a function, or an `impl` block, a UDF.
///
/// | on | kind |
/// |---|---|
/// | `#[udf] fn` | scalar: a row in, a value out |
/// | `#[udf(vectorized)] fn` | columns in (`Column<'_, T>`), a `Vec<T>` of the same length out |
/// | `#[udf(table)] fn` | a row in, `impl Iterator<Item = T>` out; it may not borrow from the arguments |
/// | `#[udf(filter)] fn` | a row in, `bool` out |
/// | `#[udf(map)] fn` | a row in, a row out |
/// | `#[udf(reduce)] fn(a: T, b: T) -> T` | two rows in, one out |
/// | `#[udf] impl Type` (and any of the above) | the same, with `fn open(&OpenContext) -> Result<Self, _>` beside it |
/// | `#[udf] impl Aggregate for Type` | aggregate |
/// | `#[udf] impl Process for Type` | process function |
///
/// What a function gives may be in a `Result` with any error that can be shown: `Err` is a row error. Options: `name = "…"` (default: the
/// name of the function, method or type), `nondeterministic` (the same bundle may give other effects).
#[proc_macro_attribute]
pub fn udf(options: TokenStream, item: TokenStream) -> TokenStream {
    udf::expand(options.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct with named fields a `struct<…>` of the contract: an argument, a row, a state, an accumulator. `Option` = nullable.
/// `#[row(name = "…")]` gives a field another name. The struct must be `Clone` to be kept in a state.
#[proc_macro_derive(Row, attributes(row))]
pub fn row(item: TokenStream) -> TokenStream {
    row::expand(item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes the fields of type `ValueState` states of a process function.
#[proc_macro_derive(States, attributes(state))]
pub fn states(item: TokenStream) -> TokenStream {
    states::expand(item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

#[cfg(test)]
mod tests;
