//! A callback of Graph: its body, or headers, an empty line and the body.
#![no_main]

use callback_ledger::source::graph::Graph;
use callback_ledger_fuzz::body;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| body::check(&Graph, input));
