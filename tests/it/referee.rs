//! Microsoft's own event models as a referee: a fixture that they cannot read would teach us something that is not so.

use std::{path::Path, process::Command};

use serde_json::Value;

/// What the referee answers where the SDK is not installed.
const NOT_INSTALLED: i32 = 77;

#[test]
fn the_sdks_own_models_read_every_fixture_of_call_automation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let told = std::env::var_os("REFEREE_PYTHON");
    let python = told.clone().unwrap_or_else(|| "python3".into());
    let script = root.join("tests/referee/call_automation.py");
    let Ok(judged) = Command::new(&python).arg(&script).arg(root.join("tests/fixtures/acs")).output() else {
        assert!(told.is_none(), "REFEREE_PYTHON cannot be run");
        eprintln!("skipped: there is no python3 here");
        return;
    };
    let said = String::from_utf8_lossy(&judged.stderr);
    if judged.status.code() == Some(NOT_INSTALLED) && told.is_none() {
        eprintln!("skipped: {said}");
        return;
    }
    let verdicts = String::from_utf8_lossy(&judged.stdout);
    let verdicts: Vec<Value> = verdicts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let bad: Vec<_> =
        verdicts.iter().filter(|verdict| verdict["verdict"] == "mismatch" || verdict["verdict"] == "error").collect();
    assert!(judged.status.success() && bad.is_empty(), "{bad:#?}\n{said}");
    let parsed = verdicts.iter().filter(|verdict| verdict["verdict"] == "parsed").count();
    assert!(parsed >= 80, "only {parsed} of {} events were parsed", verdicts.len());
    eprintln!("the SDK's models read {parsed} of {} events; the others have their reasons", verdicts.len());
}
