//! As much JSON as it takes to read `replay.json`: a crate of UDFs brings no other crates along for it.

/// A value. Numbers stay as they are written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

/// Nested deeper is nothing that we have written.
const DEPTH_MAX: usize = 32;

impl Json {
    pub(super) fn parse(text: &str) -> Result<Json, String> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.space();
        if reader.at == text.len() { Ok(value) } else { reader.wrong("the end") }
    }

    pub(super) fn get(&self, name: &str) -> Result<&Json, String> {
        let found = match self {
            Json::Map(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        };
        found.ok_or_else(|| format!("there is no \"{name}\""))
    }

    pub(super) fn text(&self, name: &str) -> Result<String, String> {
        match self.get(name)? {
            Json::Text(text) => Ok(text.clone()),
            _ => Err(format!("\"{name}\" is no text")),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<u32, String> {
        let number = match self.get(name)? {
            Json::Number(number) => number.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| format!("\"{name}\" is no whole number below 2^32"))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, String> {
        match self.get(name)? {
            Json::Bool(flag) => Ok(*flag),
            _ => Err(format!("\"{name}\" is neither true nor false")),
        }
    }

    pub(super) fn list(&self, name: &str) -> Result<&[Json], String> {
        match self.get(name)? {
            Json::List(items) => Ok(items),
            _ => Err(format!("\"{name}\" is no list")),
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn wrong<T>(&self, wanted: &str) -> Result<T, String> {
        Err(format!("at byte {} {wanted} was wanted", self.at))
    }

    /// Takes `word` if it comes next.
    fn takes(&mut self, word: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn value(&mut self, depth: usize) -> Result<Json, String> {
        if depth > DEPTH_MAX {
            return self.wrong("less nesting");
        }
        for (word, value) in [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))] {
            if self.takes(word) {
                return Ok(value);
            }
        }
        if self.takes("[") {
            let mut items = Vec::new();
            while !self.takes("]") {
                if !items.is_empty() && !self.takes(",") {
                    return self.wrong("a comma");
                }
                items.push(self.value(depth + 1)?);
            }
            return Ok(Json::List(items));
        }
        if self.takes("{") {
            let mut entries = Vec::new();
            while !self.takes("}") {
                if !entries.is_empty() && !self.takes(",") {
                    return self.wrong("a comma");
                }
                let name = self.text()?;
                if !self.takes(":") {
                    return self.wrong("a colon");
                }
                entries.push((name, self.value(depth + 1)?));
            }
            return Ok(Json::Map(entries));
        }
        if self.rest().starts_with('"') {
            return self.text().map(Json::Text);
        }
        let end = self.rest().find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c)).unwrap_or(self.rest().len());
        if end == 0 {
            return self.wrong("a value");
        }
        let number = self.rest()[..end].to_owned();
        self.at += end;
        Ok(Json::Number(number))
    }

    fn text(&mut self) -> Result<String, String> {
        if !self.takes("\"") {
            return self.wrong("a text");
        }
        let mut text = String::new();
        loop {
            let Some(end) = self.rest().find(['"', '\\']) else { return self.wrong("the end of a text") };
            text.push_str(&self.rest()[..end]);
            self.at += end;
            if self.takes("\"") {
                return Ok(text);
            }
            self.at += 1;
            text.push(self.escaped()?);
        }
    }

    /// What stands behind a backslash.
    fn escaped(&mut self) -> Result<char, String> {
        const PLAIN: [(&str, char); 8] = [
            ("\"", '"'),
            ("\\", '\\'),
            ("/", '/'),
            ("n", '\n'),
            ("t", '\t'),
            ("r", '\r'),
            ("b", '\u{8}'),
            ("f", '\u{c}'),
        ];
        for (word, c) in PLAIN {
            if self.rest().starts_with(word) {
                self.at += 1;
                return Ok(c);
            }
        }
        // Only control characters are written so: none takes two of them.
        let hex = self.rest().strip_prefix('u').and_then(|rest| rest.get(..4));
        match hex.and_then(|hex| char::from_u32(u32::from_str_radix(hex, 16).ok()?)) {
            Some(c) => {
                self.at += 5;
                Ok(c)
            }
            None => self.wrong("an escaped character"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serde_writes_is_read() {
        let text = r#" { "a": [1, -2.5e3, "x\"\\\n\u0001ä"], "b": {}, "c": null, "d": true, "e": [] } "#;
        let json = Json::parse(text).expect("it is JSON");
        assert_eq!(json.list("a").expect("a list")[2], Json::Text("x\"\\\n\u{1}ä".to_owned()));
        assert_eq!(json.list("a").expect("a list")[1], Json::Number("-2.5e3".to_owned()));
        assert_eq!((json.get("c"), json.flag("d")), (Ok(&Json::Null), Ok(true)));
        assert_eq!(json.list("e"), Ok(&[][..]));
        assert_eq!(json.text("z"), Err("there is no \"z\"".to_owned()));
        assert_eq!(json.number("d"), Err("\"d\" is no whole number below 2^32".to_owned()));
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "{", "[1 2]", "\"a", "{\"a\" 1}", "\"\\x\"", "1 2", &"[".repeat(100)] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
    }
}
