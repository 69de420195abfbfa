//! What a span is about, as JSON.
//!
//! There is a span for each request, and hardly any is ever told of: `tracing_subscriber`'s own formatter makes a tree of values of the
//! fields first, and then text of that.

use std::fmt;

use serde::Serializer as _;
use tracing::span::Record;
use tracing_serde::SerdeMapVisitor;
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FormatFields, FormattedFields, format::Writer},
};

/// How much room there is for a span's fields at first, in bytes: that of a request takes less.
const ROOM: usize = 256;

/// Writes fields as the members of a JSON object, in the order of the span.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonFields;

impl<'writer> FormatFields<'writer> for JsonFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        writer.write_str(&object(fields)?)
    }

    /// A field that was there already comes twice then; whoever reads takes the last.
    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let more = object(fields)?;
        let (Some(before), Some(behind)) = (current.fields.strip_suffix('}'), more.strip_prefix('{')) else {
            current.fields = more;
            return Ok(());
        };
        if behind == "}" {
            return Ok(());
        }
        let comma = if before == "{" { "" } else { "," };
        current.fields = format!("{before}{comma}{behind}");
        Ok(())
    }
}

fn object(fields: impl RecordFields) -> Result<String, fmt::Error> {
    let mut text = Vec::with_capacity(ROOM);
    let mut serializer = serde_json::Serializer::new(&mut text);
    let mut visitor = SerdeMapVisitor::new(serializer.serialize_map(None).map_err(|_error| fmt::Error)?);
    fields.record(&mut visitor);
    visitor.finish().map_err(|_error| fmt::Error)?;
    String::from_utf8(text).map_err(|_error| fmt::Error)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use serde_json::{Value, json};
    use tracing::field::{Empty, display};
    use tracing_subscriber::{fmt, layer::SubscriberExt as _};

    use super::JsonFields;

    /// Lines that were logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The `span` of each line that is logged meanwhile.
    fn spans(log: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().json().flatten_event(true).with_span_list(false).fmt_fields(JsonFields);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer.with_writer(move || writer.clone())), log);
        let written = lines.0.lock().unwrap();
        let spans = written.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        spans.map(|line| serde_json::from_slice::<Value>(line).unwrap()["span"].clone()).collect()
    }

    #[test]
    fn a_line_says_what_its_span_is_about() {
        let told = spans(|| {
            let span = tracing::info_span!("request", http.method = %"POST", route = Some("/a\"b"), id = None::<&str>, many = 7);
            span.in_scope(|| tracing::info!("here"));
        });
        assert_eq!(told, [json!({ "name": "request", "http.method": "POST", "route": "/a\"b", "many": 7 })]);
    }

    #[test]
    fn what_is_added_to_a_span_is_said_from_then_on() {
        let told = spans(|| {
            let span = tracing::info_span!("request", first = Empty, second = Empty, third = 3);
            span.in_scope(|| tracing::info!("here"));
            span.record("first", 1);
            span.record("second", display("two"));
            span.record("third", 33);
            span.in_scope(|| tracing::info!("there"));
            let empty = tracing::info_span!("empty", only = Empty);
            empty.record("only", true);
            empty.in_scope(|| tracing::info!("and there"));
        });
        let expected = [
            json!({ "name": "request", "third": 3 }),
            json!({ "name": "request", "first": 1, "second": "two", "third": 33 }),
            json!({ "name": "empty", "only": true }),
        ];
        assert_eq!(told, expected);
    }
}
