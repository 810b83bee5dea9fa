//! What several connectors read from a node's options.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use wasmill_host::data_type;
use wasmill_runtime::connector::{ConnectorContext, ConnectorError};
use wasmill_runtime::value::{Location, OptionError, Options, Value};

/// Of many mistakes of one kind so many are told.
const ERRORS_TOLD_MAX: usize = 10;

/// An option's error as a connector's; the place in the job file goes along as the source.
pub(crate) fn wrong(error: OptionError) -> ConnectorError {
    ConnectorError::new(error.to_string()).caused_by(error)
}

/// What is wrong with `key`, which stands at `at`.
pub(crate) fn wrong_at(at: Location, key: &str, message: impl Into<String>) -> ConnectorError {
    wrong(OptionError { at, key: key.to_owned(), message: message.into() })
}

/// The option `path`, which must say something: nothing would mean the whole folder of the job.
pub(crate) fn path(options: &mut Options) -> Result<String, ConnectorError> {
    let at = options.at("path");
    let path = options.required_string("path").map_err(wrong)?;
    if path.trim().is_empty() {
        return Err(wrong_at(at, "path", "is empty: give a file, a directory or a URL"));
    }
    Ok(path)
}

/// All of `errors` in one, at the place of the first; `what` they are, in the plural. Of many only the first few are told.
pub(crate) fn together(mut errors: Vec<ConnectorError>, what: &str) -> Result<(), ConnectorError> {
    let count = errors.len();
    match count {
        0 => return Ok(()),
        1 => return Err(errors.remove(0)),
        _ => {}
    }
    let mut message = format!("{count} {what}:");
    for error in errors.iter().take(ERRORS_TOLD_MAX) {
        let place = error.source.as_deref().and_then(|source| source.downcast_ref::<OptionError>());
        let line = place
            .filter(|place| place.at.is_known())
            .map_or(String::new(), |place| format!("line {}: ", place.at.line));
        message += &format!("\n  {line}{}", error.message);
    }
    if count > ERRORS_TOLD_MAX {
        message += &format!("\n  and {} more", count - ERRORS_TOLD_MAX);
    }
    let first = errors.remove(0);
    Err(ConnectorError { message, ..first })
}

/// The option `schema: {column: type}`, in order.
pub(crate) fn schema(context: &mut ConnectorContext<'_>) -> Result<Option<SchemaRef>, ConnectorError> {
    let Some(columns) = context.options.options("schema").map_err(wrong)? else { return Ok(None) };
    let mut fields = Vec::new();
    for (name, value) in columns.into_entries() {
        fields.push(field(&name.text, &value)?);
    }
    Ok(Some(Arc::new(Schema::new(fields))))
}

fn field(name: &str, value: &Value) -> Result<Field, ConnectorError> {
    let key = format!("schema.{name}");
    let Some(text) = value.as_text() else {
        let message = format!("is {}; a type such as int64, utf8? or timestamp(us) is wanted", value.describe());
        return Err(wrong_at(value.at, &key, message));
    };
    let parsed = data_type::parse(text).map_err(|error| {
        // `{amount: decimal(5,2)}` in YAML is amount: decimal(5, and a second key.
        let is_cut = |open, close| text.matches(open).count() > text.matches(close).count();
        let hint = match is_cut('(', ')') || is_cut('<', '>') {
            true => "; inside { } a comma ends the value: put a type that has one in quotes, as in \"decimal(5,2)\"",
            false => "",
        };
        wrong_at(value.at, &key, format!("{error}{hint}"))
    })?;
    Ok(parsed.to_field(name))
}

/// An option that is one ASCII character; `tab` and `\t` mean the tabulator.
pub(crate) fn character(options: &mut Options, key: &str) -> Result<Option<u8>, ConnectorError> {
    let at = options.at(key);
    let Some(text) = options.string(key).map_err(wrong)? else { return Ok(None) };
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(Some(b'\t')),
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(Some(*byte)),
        _ => Err(wrong_at(at, key, format!("is {text:?}; one ASCII character or \"tab\" is wanted"))),
    }
}

/// The option `columns`: which columns of `schema` to read, and in which order; all without it.
pub(crate) fn projection(
    options: &mut Options,
    schema: &Schema,
    named: &str,
) -> Result<Option<Vec<usize>>, ConnectorError> {
    let Some(names) = options.strings("columns").map_err(wrong)? else { return Ok(None) };
    let mut indices = Vec::with_capacity(names.len());
    for name in &names {
        let index = schema.index_of(&name.text).map_err(|_| {
            let known = schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
            wrong_at(name.at, "columns", format!("{named} has no column \"{name}\"; it has {known}"))
        })?;
        if indices.contains(&index) {
            return Err(wrong_at(name.at, "columns", format!("\"{name}\" stands twice: remove one")));
        }
        indices.push(index);
    }
    Ok(Some(indices))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_type_that_a_comma_cut_off_is_told_as_such() {
        let message = |yaml: &str| {
            let mut options = testing::options(yaml);
            schema(&mut ConnectorContext { base: Path::new("."), options: &mut options }).unwrap_err().to_string()
        };
        let hint = "; inside { } a comma ends the value: put a type that has one in quotes, as in \"decimal(5,2)\"";
        for yaml in ["schema: {amount: decimal(5,2)}", "schema: {m: map<utf8, int64>}"] {
            assert!(message(yaml).ends_with(hint), "{}", message(yaml));
        }
        assert!(!message("schema: {amount: decimal}").contains("comma"));
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Connectors built from YAML, as a job file would.
    use std::path::Path;

    use wasmill_runtime::connector::ConnectorContext;
    use wasmill_runtime::value::{Options, Value, ValueKind};

    pub(crate) fn options(yaml: &str) -> Options {
        let value: Value = serde_saphyr::from_str(yaml).unwrap();
        match value.kind {
            ValueKind::Map(entries) => Options::from_map(entries).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// What `build` makes of `yaml`; every key must have been taken.
    pub(crate) fn build<T, E>(
        base: &Path,
        yaml: &str,
        build: impl Fn(ConnectorContext<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut options = options(yaml);
        let built = build(ConnectorContext { base, options: &mut options })?;
        assert_eq!(options.finish(), []);
        Ok(built)
    }
}
