//! How both platforms say no: `{"error": {"code", "message", …}}`, where the code is a word or the number of a subcode as text.

use super::json::{Fields, Value};
use crate::domain::{operation::State, request::AnswerFacts, result::ResultInfo, text};

/// What an answer that is no success says.
pub(in crate::source) fn refused(status: u16, body: &[u8]) -> AnswerFacts {
    let body: Value<'_> = serde_json::from_slice(body).unwrap_or_default();
    let error = Fields::of(&body).object("error");
    let subcode = error.number("code");
    AnswerFacts {
        status: Some(status),
        state: Some(State::Refused),
        result: ResultInfo {
            code: Some(i64::from(status)),
            subcode,
            message: error.text("message").map(|message| text::tame(&text::without_telephone_numbers(message))),
            reason: error.text("code").filter(|_| subcode.is_none()).map(text::tame),
        },
        ..AnswerFacts::default()
    }
}
