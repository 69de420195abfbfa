//! A callback's headers and body out of one input: lines `name: value` and an empty line, if it begins with such lines, then the body.
//! Most seeds are a body and nothing else.

use callback_ledger::{domain::delivery::Correlation, source::Head};

/// A callback.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// What the head says of the body.
    pub head: Head,
    /// The headers that identify the delivery.
    pub correlation: Correlation,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Takes an input apart.
    #[must_use]
    pub fn of(input: &'a [u8]) -> Self {
        let mut request = Request::default();
        let mut rest = input;
        while let Some((line, behind)) = line(rest) {
            if line.is_empty() {
                return Request { body: behind, ..request };
            }
            let Some(()) = str::from_utf8(line).ok().and_then(|line| request.take(line)) else { break };
            rest = behind;
        }
        Request { body: input, ..Request::default() }
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let (name, value) = line.split_once(": ")?;
        match name {
            "content-type" => self.head.content_type = Some(value.to_owned()),
            "message-id" => self.correlation.message_id = Some(value.to_owned()),
            "chain-id" => self.correlation.chain_id = Some(value.to_owned()),
            "scenario-id" => self.correlation.scenario_id = Some(value.to_owned()),
            _ => _ = self.head.attributes.insert(name.strip_prefix("ce-")?.to_owned(), value.to_owned()),
        }
        Some(())
    }
}

fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    Some((&text[..end], &text[end + 1..]))
}
