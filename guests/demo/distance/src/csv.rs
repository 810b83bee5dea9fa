//! Comma-separated values as RFC 4180 has them: a field in quotes may hold commas, line ends and doubled quotes.

/// The records of a text, each a list of fields; empty lines are no records.
pub fn records(text: &str) -> impl Iterator<Item = Vec<String>> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(['\r', '\n']);
        if rest.is_empty() {
            return None;
        }
        let mut fields = Vec::new();
        loop {
            let (field, behind) = field(rest);
            fields.push(field);
            match behind.strip_prefix(',') {
                Some(next) => rest = next,
                None => {
                    rest = behind;
                    return Some(fields);
                }
            }
        }
    })
}

/// A field, and the text from the comma or line end behind it.
fn field(text: &str) -> (String, &str) {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([',', '\r', '\n']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut field = String::new();
    // A quote that is never closed ends with the text.
    while let Some((part, behind)) = rest.split_once('"') {
        field.push_str(part);
        match behind.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => {
                let end = behind.find([',', '\r', '\n']).unwrap_or(behind.len());
                field.push_str(&behind[..end]);
                return (field, &behind[end..]);
            }
        }
    }
    field.push_str(rest);
    (field, "")
}

#[cfg(test)]
mod tests {
    use super::records;

    #[test]
    fn quoted_fields_may_hold_anything() {
        let text = "a,b\r\n\"x, y\",\"say \"\"hi\"\"\"\n\n\"two\nlines\",\n,last";
        let got: Vec<Vec<String>> = records(text).collect();
        assert_eq!(got, [["a", "b"], ["x, y", "say \"hi\""], ["two\nlines", ""], ["", "last"]]);
    }

    #[test]
    fn an_open_quote_ends_with_the_text() {
        assert_eq!(records("\"a,b\nc").collect::<Vec<_>>(), [["a,b\nc"]]);
    }
}
