//! The threat model names tests: each of them is there.

use std::{fs, path::Path};

fn text_of(path: &Path) -> String {
    let folder = || fs::read_dir(path).unwrap().map(|entry| text_of(&entry.unwrap().path())).collect::<String>();
    if path.is_dir() { folder() } else { fs::read_to_string(path).unwrap_or_default() }
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let named: Vec<(&str, &str)> = page.split('`').filter_map(|text| text.split_once("::")).collect();
    assert!(named.len() > 30, "{named:?}");
    let tests = root.join("tests/it");
    for (module, name) in named {
        let places = [tests.join(format!("{module}.rs")), tests.join("hostile").join(format!("{module}.rs"))];
        let found = places.iter().any(|place| text_of(place).contains(&format!("fn {name}()")));
        assert!(found, "{module}::{name}");
    }
}
