//! A UDF call as a job writes it: `legs.grade(dep_delay, arr_delay)`, `legs.Inherited`, `delays.Summary(*)`.

/// `udf.function(arguments)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub udf: String,
    pub function: String,
    pub arguments: Arguments,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Arguments {
    /// No parentheses: each argument takes the column of its name, a row what its fields ask for.
    ByName,
    /// `(*)`: the whole row.
    Row,
    List(Vec<Argument>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    Column(String),
    Integer(i64),
    Float(f64),
    Text(String),
    Bool(bool),
    Null,
}

impl std::fmt::Display for Argument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Argument::Column(name) => write!(f, "column \"{name}\""),
            Argument::Integer(value) => write!(f, "{value}"),
            Argument::Float(value) => write!(f, "{value}"),
            Argument::Text(text) => write!(f, "'{text}'"),
            Argument::Bool(value) => write!(f, "{value}"),
            Argument::Null => f.write_str("null"),
        }
    }
}

/// What is wrong with the text of a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is no call: {problem}; write udf.function(column, 'text', 1), or udf.function to take columns by name"
)]
pub struct CallError {
    pub text: String,
    pub problem: String,
}

/// Column names that are no identifiers stand in double quotes, texts in single quotes (doubled to write one).
pub fn parse(text: &str) -> Result<Call, CallError> {
    let mut parser = Parser { text, rest: text.trim() };
    let udf = parser.identifier("the name of a UDF")?;
    parser.expect('.')?;
    let function = parser.identifier("the name of a function")?;
    let arguments = parser.arguments()?;
    match parser.rest {
        "" => Ok(Call { udf, function, arguments }),
        rest => Err(parser.wrong(format!("\"{rest}\" follows its end"))),
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl Parser<'_> {
    fn wrong(&self, problem: String) -> CallError {
        CallError { text: self.text.to_owned(), problem }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), CallError> {
        if self.eat(wanted) {
            return Ok(());
        }
        let got = self.rest.chars().next().map_or("its end".to_owned(), |c| format!("\"{c}\""));
        Err(self.wrong(format!("\"{wanted}\" is wanted, not {got}")))
    }

    fn word(&mut self) -> &str {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn identifier(&mut self, what: &str) -> Result<String, CallError> {
        self.skip_space();
        match self.word() {
            "" => Err(self.wrong(format!("{what} is missing"))),
            word => Ok(word.to_owned()),
        }
    }

    fn arguments(&mut self) -> Result<Arguments, CallError> {
        if !self.eat('(') {
            return Ok(Arguments::ByName);
        }
        if self.eat('*') {
            self.expect(')')?;
            return Ok(Arguments::Row);
        }
        let mut list = Vec::new();
        if self.eat(')') {
            return Ok(Arguments::List(list));
        }
        loop {
            list.push(self.argument()?);
            if !self.eat(',') {
                self.expect(')')?;
                return Ok(Arguments::List(list));
            }
        }
    }

    fn argument(&mut self) -> Result<Argument, CallError> {
        self.skip_space();
        match self.rest.chars().next() {
            Some('"') => self.quoted('"').map(Argument::Column),
            Some('\'') => self.quoted('\'').map(Argument::Text),
            Some(c) if c.is_ascii_digit() || c == '-' || c == '+' => self.number(),
            _ => {
                let word = self.identifier("an argument")?;
                if self.rest.trim_start().starts_with(['(', '.']) {
                    let problem = format!("the argument \"{word}…\" is itself a call: compute it in a `with` before");
                    return Err(self.wrong(problem));
                }
                Ok(match word.as_str() {
                    "true" => Argument::Bool(true),
                    "false" => Argument::Bool(false),
                    "null" => Argument::Null,
                    _ => Argument::Column(word),
                })
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, CallError> {
        let mut out = String::new();
        let mut rest = &self.rest[1..];
        loop {
            let Some(end) = rest.find(quote) else {
                return Err(self.wrong(format!("a closing {quote} is missing")));
            };
            out.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix(quote) {
                Some(after) => {
                    out.push(quote);
                    rest = after;
                }
                None => {
                    self.rest = rest;
                    return Ok(out);
                }
            }
        }
    }

    fn number(&mut self) -> Result<Argument, CallError> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        if let Ok(value) = digits.parse() {
            return Ok(Argument::Integer(value));
        }
        digits.parse().map(Argument::Float).map_err(|_| self.wrong(format!("\"{digits}\" is no number")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_calls() {
        let call = parse("legs.grade( dep_delay , \"odd \"\"name\"\"\", 'it''s', -1, 2.5, true, null)").unwrap();
        assert_eq!((call.udf.as_str(), call.function.as_str()), ("legs", "grade"));
        let Arguments::List(list) = call.arguments else { panic!() };
        let expected = [
            Argument::Column("dep_delay".into()),
            Argument::Column("odd \"name\"".into()),
            Argument::Text("it's".into()),
            Argument::Integer(-1),
            Argument::Float(2.5),
            Argument::Bool(true),
            Argument::Null,
        ];
        assert_eq!(list, expected);
        assert_eq!(parse("legs.Inherited").unwrap().arguments, Arguments::ByName);
        assert_eq!(parse("legs.now()").unwrap().arguments, Arguments::List(vec![]));
        assert_eq!(parse("legs.f(*)").unwrap().arguments, Arguments::Row);
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, problem) in [
            ("", "the name of a UDF is missing"),
            ("legs", "\".\" is wanted, not its end"),
            ("legs.", "the name of a function is missing"),
            ("legs.f(a", "\")\" is wanted, not its end"),
            ("legs.f(a b)", "\")\" is wanted, not \"b\""),
            ("legs.f(a,)", "an argument is missing"),
            ("legs.f(legs.g(a))", "the argument \"legs…\" is itself a call: compute it in a `with` before"),
            ("legs.f('a)", "a closing ' is missing"),
            ("legs.f(1x)", "\"1x\" is no number"),
            ("legs.f(a) b", "\"b\" follows its end"),
        ] {
            assert_eq!(parse(text).unwrap_err().problem, problem, "{text}");
        }
    }
}
