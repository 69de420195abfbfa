//! What result codes mean to Call Automation, where the words for Graph would mislead; all others are shared.

use crate::source::codes;

/// The subcode, and the words.
const ROWS: &[(i64, &str)] = &[
    (5234, "The invitation was canceled before the participant was added."),
    (8501, "The call is not established yet; wait for `CallConnected` before you act on it."),
    (8508, "The operation was canceled before it was done, as by `cancelAllMediaOperations` or by the end of the call."),
    (8509, "The recognition ended because the caller had been silent for too long after speaking."),
    (8510, "The recognition ended because nobody began to speak or dial: an ordinary outcome."),
    (8514, "The caller pressed a stop tone, and the recognition ended with it."),
    (8537, "No keep-alive came, so the platform ended the call."),
    (8586, "The incoming call was not acknowledged; check that the callback URL answers."),
    (8587, "The incoming call was not answered in time; its context can no longer be used."),
];

/// What the last three digits of a telephone subcode say: they are the SIP response ("Troubleshooting in Azure Communication
/// Services": 540xxx for inbound calls, 560xxx for outbound ones).
const SIP: &[(i64, &str)] = &[
    (403, "The telephone network or the session border controller forbade the call."),
    (404, "The telephone number does not exist or is not assigned."),
    (408, "The other side of the telephone call did not answer in time."),
    (480, "The called telephone is not available, or nobody answered."),
    (484, "The telephone number is incomplete."),
    (486, "The telephone line was busy."),
    (487, "The telephone call was given up before it was answered."),
    (500, "The telephone network failed; try again or ask the carrier."),
    (503, "The telephone network is out of order; try again or ask the carrier."),
    (603, "The called party or its fraud protection declined the telephone call."),
];

/// What a code and a subcode mean; `None` if nobody has documented it.
pub(super) fn meaning(code: Option<i64>, subcode: Option<i64>) -> Option<&'static str> {
    let number = subcode?;
    let own = ROWS.iter().find(|row| row.0 == number).map(|row| row.1);
    own.or_else(|| codes::meaning(code, subcode)).or_else(|| {
        let response = matches!(number / 1000, 540 | 560).then_some(number % 1000)?;
        SIP.iter().find(|row| row.0 == response).map(|row| row.1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_words_count_before_shared_ones_and_the_telephone_network_speaks_sip() {
        let says = |code, subcode, words: &str| meaning(Some(code), Some(subcode)).is_some_and(|text| text.contains(words));
        assert!(says(400, 8508, "cancelAllMediaOperations"));
        assert!(says(487, 5234, "invitation"));
        assert!(says(400, 8535, "format"), "shared");
        assert!(says(404, 560_404, "does not exist"));
        assert!(says(486, 540_486, "busy"));
        assert_eq!(meaning(Some(400), Some(550_404)), None);
        assert_eq!(meaning(Some(400), Some(12_323)), None);
        assert_eq!(meaning(Some(400), None), None);
    }
}
