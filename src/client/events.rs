//! Server-sent events out of bytes that are cut anywhere
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>).

use std::collections::VecDeque;

/// Reads events out of bytes.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    /// What has come of a line that is not whole.
    line: Vec<u8>,
    event: RawEvent,
    ready: VecDeque<RawEvent>,
}

/// An event as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RawEvent {
    /// Its id, where it has one that is a position.
    pub(super) id: Option<i64>,
    /// Its type.
    pub(super) kind: String,
    /// Its data; `None` if it only tells a position.
    pub(super) data: Option<String>,
}

impl EventReader {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    self.take(String::from_utf8_lossy(&line).trim_end_matches('\r'));
                }
                byte => self.line.push(*byte),
            }
        }
    }

    /// The next event that has come whole.
    pub(super) fn next(&mut self) -> Option<RawEvent> {
        self.ready.pop_front()
    }

    fn take(&mut self, line: &str) {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if event != RawEvent::default() {
                self.ready.push_back(event);
            }
            return;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.event.id = value.parse().ok(),
            "event" => value.clone_into(&mut self.event.kind),
            "data" => {
                let data = self.event.data.take();
                self.event.data = Some(data.map_or_else(|| value.to_owned(), |data| format!("{data}\n{value}")));
            }
            // comments, `retry`, and what nobody has thought of yet
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_wherever_the_bytes_are_cut() {
        let text =
            "retry: 1000\nid: 7\n\n: nothing new\n\nid: 8\r\nevent: call\r\ndata: {\"a\":\ndata: \"ü\"}\n\nid: 9\nevent: op";
        let event = |id, kind: &str, data: Option<&str>| RawEvent {
            id: Some(id),
            kind: kind.to_owned(),
            data: data.map(ToOwned::to_owned),
        };
        let expected = [event(7, "", None), event(8, "call", Some("{\"a\":\n\"ü\"}"))];
        for length in 1..text.len() {
            let mut reader = EventReader::default();
            text.as_bytes().chunks(length).for_each(|chunk| reader.push(chunk));
            let read: Vec<_> = std::iter::from_fn(|| reader.next()).collect();
            assert_eq!(read, expected, "in pieces of {length}");
        }
    }
}
