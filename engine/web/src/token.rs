//! What tells who may ask from who may not.

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// 256 random bits, in hexadecimal digits. Never shown in messages.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// A token that nobody has had before.
    pub(crate) fn random() -> Result<Token, getrandom::Error> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Token(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The text that goes over the wire.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// In a time that does not tell how much of `given` is right.
    pub(crate) fn is(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_are_not_shown() {
        let (one, other) = (Token::random().unwrap(), Token::random().unwrap());
        assert_eq!(one.secret().len(), 64);
        assert!(one.is(one.secret().as_bytes()));
        assert!(!one.is(other.secret().as_bytes()) && !one.is(b"") && !one.is(&one.secret().as_bytes()[..63]));
        assert_eq!(format!("{one:?}"), "Token(…)");
    }
}
