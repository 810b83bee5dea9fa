//! What a user reads who writes something that is not a UDF.

use proc_macro2::TokenStream;

fn tokens(text: &str) -> TokenStream {
    text.parse().expect("tokens")
}

fn udf(options: &str, item: &str) -> String {
    crate::udf::expand(tokens(options), tokens(item)).expect_err(item).to_string()
}

fn row(item: &str) -> String {
    crate::row::expand(tokens(item)).expect_err(item).to_string()
}

fn states(item: &str) -> String {
    crate::states::expand(tokens(item)).expect_err(item).to_string()
}

#[test]
fn what_is_not_a_udf_is_refused_in_words() {
    let cases = [
        ("", "fn f(x: i64) {}", "a UDF gives a value: say its type after `->`"),
        ("", "fn f<T>(x: T) -> T { x }", "a UDF has no type parameters"),
        ("", "async fn f() -> i64 { 1 }", "async UDFs are not in this version of the contract"),
        ("", "fn f(x: impl Sized) -> i64 { 1 }", "an argument of a UDF has one type, which the host knows: name it"),
        ("", "struct F;", "#[udf] goes on a function, an `impl` block, or an `impl Aggregate` or `impl Process`"),
        ("table, map", "fn f(x: i64) -> i64 { x }", "a UDF has one kind"),
        (
            "tabel",
            "fn f(x: i64) -> i64 { x }",
            "options are scalar, vectorized, table, filter, map, reduce, name = \"…\" and nondeterministic",
        ),
        ("filter", "fn f(x: i64) -> i64 { x }", "a filter gives `bool` or `Result<bool, _>`"),
        (
            "reduce",
            "fn f(a: i64, b: i32) -> i64 { a }",
            "a reduce takes two values of one type and gives one of it: `fn(a: T, b: T) -> T`",
        ),
        ("table", "fn f(x: i64) -> i64 { x }", "say what it gives: `impl Iterator<Item = T> + 'static` or `Vec<T>`"),
        (
            "table",
            "fn f(x: i64) -> impl Sized { x }",
            "say what the iterator gives: `impl Iterator<Item = T> + 'static`",
        ),
        (
            "vectorized",
            "fn f() -> Vec<i64> { vec![] }",
            "a vectorized UDF takes at least one `Column<'_, T>`: it says how many rows there are",
        ),
        (
            "",
            "impl F { fn a(&self) -> i64 { 1 } fn b(&self) -> i64 { 2 } }",
            "there is one UDF in a #[udf] impl: `open`, and one method; put others in an `impl` block of their own",
        ),
        (
            "",
            "impl F { fn a(&mut self) -> i64 { 1 } }",
            "the method takes `&self`: state per key belongs in a process function, not in `self`",
        ),
        ("", "impl F { fn open() {} fn a(&self) -> i64 { 1 } }", "`open` gives `Result<Self, _>` or `Self`"),
        ("", "impl Clone for F {}", "a UDF is an `impl Aggregate for …` or an `impl Process for …`"),
        ("map", "impl Process for F {}", "the trait says the kind: write #[udf] alone"),
    ];
    for (options, item, wanted) in cases {
        assert_eq!(udf(options, item), wanted, "{item}");
    }
}

#[test]
fn what_is_not_a_row_or_states_is_refused_in_words() {
    assert_eq!(row("enum R { A }"), "only a struct can be a row");
    assert_eq!(row("struct R(i64);"), "a row has named fields: they are the columns' names");
    assert_eq!(row("struct R {}"), "a row has at least one field");
    assert_eq!(row("struct R<T> { a: T }"), "a row may have one lifetime and no other parameters");
    assert_eq!(row("struct R { a: i64, #[row(name = \"a\")] b: i64 }"), "there are two fields `a`");
    assert_eq!(row("struct R { #[row(nam = \"a\")] b: i64 }"), "there is only #[row(name = \"…\")]");
    assert_eq!(states("struct S(ValueState<i64>);"), "states take their fields' names: name the fields");
    assert_eq!(
        states("struct S { #[state(access = \"row\")] a: ValueState<i64> }"),
        "access is \"column\" (the default) or \"call\""
    );
    assert_eq!(
        states("struct S { a: ValueState<i64>, #[state(name = \"a\")] b: ValueState<i64> }"),
        "there are two states `a`"
    );
}

#[test]
fn options_are_written_into_what_is_known_of_the_function() {
    let item = "/// First line,\n/// second line.\n///\n/// More.\nfn f(_x: i64, (a, b): (i64, i64)) -> i64 { a }";
    let expanded =
        crate::udf::expand(tokens("name = \"g\", nondeterministic"), tokens(item)).expect("a UDF").to_string();
    let meta = "name : \"g\" , arguments : & [\"x\" , \"arg1\"] , documentation : \"First line, second line.\" , deterministic : false";
    assert!(expanded.contains(meta), "{expanded}");
}
