//! A delivery of Event Grid: its body, or headers (`ce-type: …`), an empty line and the body.
#![no_main]

use callback_ledger::source::event_grid::EventGrid;
use callback_ledger_fuzz::body;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| body::check(&EventGrid, input));
