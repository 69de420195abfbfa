//! The walls of the house: one crate has none, so this test reads every file under `src/` and fails on a path that
//! leads upward or sideways, and on a package outside its room.
//!
//! The floors are those of `src/lib.rs`. It reads tokens, not types: comments and strings do not count, `use` groups,
//! `super::` and `self::` are followed. Tests inside `src/` keep to the same walls; only an [`Admitted`] of their own
//! is theirs to make.
//!
//! [`Admitted`]: callback_ledger::domain::trust::Admitted

mod lexer;
mod paths;

use std::{cmp::Ordering, fs, path::Path};

use self::paths::{Mention, mentions};

/// The rooms and their floors; the leaves `config` and `telemetry` have rules of their own.
const FLOORS: &[(&str, u8)] = &[
    ("domain", 0),
    ("net", 0),
    ("source", 1),
    ("auth", 1),
    ("store", 1),
    ("receive", 2),
    ("gateway", 2),
    ("feed", 2),
    ("simulator", 2),
    ("http", 3),
    ("app", 4),
    ("client", 4),
    ("cli", 5),
    ("main", 5),
];
const LEAVES: &[&str] = &["config", "telemetry"];
const READERS_OF_LEAVES: &[&str] = &["app", "cli", "main"];

/// Neighbours on one floor, or leaves, that may be used nevertheless: (who, whom).
const NEIGHBOURS: &[(&str, &str)] = &[("net", "domain"), ("main", "cli"), ("telemetry", "config")];

/// Names and the places where alone they may stand.
const ROOMS: &[(&str, &[&str])] = &[
    ("sqlx", &["src/store/"]),
    ("jsonwebtoken", &["src/auth/"]),
    ("actix_web", &["src/http/", "src/app.rs", "src/app/"]),
    ("reqwest", &["src/net/"]),
    ("SystemTime", &["src/domain/clock.rs"]),
    ("Timestamp::now", &["src/domain/clock.rs"]),
    ("Zoned::now", &["src/domain/clock.rs"]),
    ("impl Admitted for", &["src/auth/"]),
    ("impl Asking for", &["src/http/api/guard.rs"]),
];

/// Everything that is wrong with one file, as `path:line: sentence`.
fn findings(path: &str, text: &str) -> Vec<String> {
    let Some(room) = room_of(path) else { return Vec::new() };
    let mut found = Vec::new();
    if floor(room).is_none() && !LEAVES.contains(&room) {
        found.push(format!("{path}:1: `{room}` is on no floor; give it one in tests/it/layering.rs and src/lib.rs"));
    }
    for Mention { line, what, in_test } in mentions(path, text) {
        let problem = match what.strip_prefix("crate::") {
            Some(target) => forbidden_edge(room, target),
            None if in_test && what == "impl Admitted for" => None,
            None => misplaced(path, &what),
        };
        found.extend(problem.map(|problem| format!("{path}:{line}: {problem}")));
    }
    found
}

/// The room that a file belongs to; the root of the crate is the door frame, not a room.
fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let first = inside.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first)).filter(|room| *room != "lib")
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

fn forbidden_edge(from: &str, to: &str) -> Option<String> {
    if from == to || NEIGHBOURS.contains(&(from, to)) {
        return None;
    }
    if LEAVES.contains(&to) {
        let may = READERS_OF_LEAVES.contains(&from);
        return (!may).then(|| format!("`{from}` reads the leaf `{to}`; only app and cli do, and hand plain values down"));
    }
    if LEAVES.contains(&from) {
        return Some(format!("the leaf `{from}` uses `{to}`; a leaf knows no other room"));
    }
    let Some(target) = floor(to) else { return Some(format!("`{from}` uses `crate::{to}`, which is not a room of the house")) };
    let own = floor(from)?;
    match target.cmp(&own) {
        Ordering::Greater => Some(format!("`{from}` (floor {own}) uses `{to}` (floor {target}): arrows point down")),
        Ordering::Equal => Some(format!("`{from}` uses its neighbour `{to}` on floor {own}: siblings do not know each other")),
        Ordering::Less => None,
    }
}

fn misplaced(path: &str, what: &str) -> Option<String> {
    let (_, places) = ROOMS.iter().find(|(name, _)| *name == what)?;
    let at_home = places.iter().any(|place| path.starts_with(place));
    (!at_home).then(|| format!("`{what}` belongs in {} only", places.join(" and ")))
}

/// Every Rust file below a folder, as paths from the crate's root, with their texts.
fn files(root: &Path, folder: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files.extend(self::files(root, &path));
        } else if Path::new(&path).extension().is_some_and(|extension| extension == "rs") {
            files.push((path, fs::read_to_string(entry.path()).unwrap()));
        }
    }
    files
}

#[test]
fn arrows_point_down_and_packages_stay_in_their_rooms() {
    let files = files(Path::new(env!("CARGO_MANIFEST_DIR")), "src");
    assert!(files.len() > 10, "the sources were not found");
    let found: Vec<_> = files.iter().flat_map(|(path, text)| findings(path, text)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[track_caller]
fn finds(path: &str, text: &str, expected: &[&str]) {
    assert_eq!(findings(path, text), expected);
}

#[test]
fn an_upward_edge_is_found() {
    finds(
        "src/domain/call.rs",
        "use std::fmt;\nuse crate::store::Ledger;\n",
        &["src/domain/call.rs:2: `domain` (floor 0) uses `store` (floor 1): arrows point down"],
    );
    finds(
        "src/receive/mod.rs",
        "fn f() { let x: crate::http::X = todo(); }",
        &["src/receive/mod.rs:1: `receive` (floor 2) uses `http` (floor 3): arrows point down"],
    );
    finds(
        "src/domain/a.rs",
        "use crate::net::X;",
        &["src/domain/a.rs:1: `domain` uses its neighbour `net` on floor 0: siblings do not know each other"],
    );
}

#[test]
fn a_sideways_edge_is_found_in_a_group() {
    finds(
        "src/auth/verify.rs",
        "use crate::{domain::{ids, trust::Admitted}, net,\n    source::{self, graph::Graph}};\n",
        &["src/auth/verify.rs:2: `auth` uses its neighbour `source` on floor 1: siblings do not know each other"],
    );
    finds(
        "src/gateway/mod.rs",
        "use crate::{feed};",
        &["src/gateway/mod.rs:1: `gateway` uses its neighbour `feed` on floor 2: siblings do not know each other"],
    );
}

#[test]
fn a_path_that_climbs_by_super_is_followed() {
    let found = ["src/source/graph/read.rs:1: `source` uses its neighbour `store` on floor 1: siblings do not know each other"];
    finds("src/source/graph/read.rs", "use super::super::super::store::Ledger;", &found);
    finds("src/source/graph/read.rs", "use super::{mod_a, super::{Inbound, super::store}};", &found);
    finds(
        "src/net/mod.rs",
        "use super::store;",
        &["src/net/mod.rs:1: `net` (floor 0) uses `store` (floor 1): arrows point down"],
    );
    finds("src/source/graph/mod.rs", "use super::super::source; mod tests { use super::super::store; }", &[]);
    finds(
        "src/config.rs",
        "mod tests { use super::super::app::App; }",
        &["src/config.rs:1: the leaf `config` uses `app`; a leaf knows no other room"],
    );
    finds("src/main.rs", "use callback_ledger::store;\nfn main() { callback_ledger::cli::run() }", &[]);
}

#[test]
fn leaves_are_read_by_app_and_cli_only() {
    finds(
        "src/http/mod.rs",
        "use crate::config::Config;",
        &["src/http/mod.rs:1: `http` reads the leaf `config`; only app and cli do, and hand plain values down"],
    );
    finds(
        "src/config/check.rs",
        "use crate::source::SOURCES;",
        &["src/config/check.rs:1: the leaf `config` uses `source`; a leaf knows no other room"],
    );
    finds(
        "src/config.rs",
        "use crate::telemetry;",
        &["src/config.rs:1: `config` reads the leaf `telemetry`; only app and cli do, and hand plain values down"],
    );
    for reader in ["src/app.rs", "src/cli/serve.rs", "src/telemetry.rs"] {
        finds(reader, "use crate::config::Config;", &[]);
    }
}

#[test]
fn a_package_outside_its_room_is_found() {
    for (name, home) in [
        ("sqlx::query", "src/store/sqlite/mod.rs"),
        ("jsonwebtoken::decode", "src/auth/verify.rs"),
        ("actix_web::web", "src/app.rs"),
        ("actix_web::web", "src/http/public.rs"),
        ("reqwest::Client", "src/net/mod.rs"),
        ("std::time::SystemTime", "src/domain/clock.rs"),
        ("jiff::Timestamp::now", "src/domain/clock.rs"),
    ] {
        finds(home, &format!("use {name};"), &[]);
        assert_eq!(findings("src/cli/mod.rs", &format!("fn f() {{ {name}(); }}")).len(), 1, "{name}");
        assert_eq!(findings("src/cli/mod.rs", &format!("#[cfg(test)]\nmod tests {{ use {name}; }}")).len(), 1, "{name}");
    }
    finds(
        "src/app.rs",
        "use sqlx as s;\nuse std::{time::{Duration, SystemTime}};",
        &["src/app.rs:1: `sqlx` belongs in src/store/ only", "src/app.rs:2: `SystemTime` belongs in src/domain/clock.rs only"],
    );
    finds("src/http/trace.rs", "use tracing_actix_web::TracingLogger; fn f(sqlx_like: u8) {}", &[]);
}

#[test]
fn an_admission_is_made_by_auth_alone() {
    let found = ["src/http/mod.rs:1: `impl Admitted for` belongs in src/auth/ only"];
    finds("src/http/mod.rs", "impl Admitted for X {}", &found);
    finds("src/http/mod.rs", "impl<T: Clone> crate::domain::trust::Admitted for X<T> {}", &found);
    finds("src/http/mod.rs", "use crate::domain::trust::Admitted as A; impl A for X {}", &found);
    finds(
        "src/http/mod.rs",
        "#[cfg(test)]\nuse std::fmt;\nmod real { impl Admitted for X {} }",
        &["src/http/mod.rs:3: `impl Admitted for` belongs in src/auth/ only"],
    );
    finds(
        "src/http/mod.rs",
        "#[cfg(test)]\nmod tests { fn a() {} } impl Admitted for X {}",
        &["src/http/mod.rs:2: `impl Admitted for` belongs in src/auth/ only"],
    );
    finds("src/auth/mod.rs", "impl Admitted for Admission {}", &[]);
    finds("src/store/mod.rs", "#[cfg(test)]\n#[rustfmt::skip]\nmod tests { impl Admitted for X {} }", &[]);
    finds("src/store/mod.rs", "fn record(by: &dyn Admitted) { for x in y {} }", &[]);
}

#[test]
fn a_room_without_a_floor_is_found() {
    finds("src/utils.rs", "", &["src/utils.rs:1: `utils` is on no floor; give it one in tests/it/layering.rs and src/lib.rs"]);
    finds("src/app.rs", "use crate::utils::x;", &["src/app.rs:1: `app` uses `crate::utils`, which is not a room of the house"]);
    finds("src/domain/a.rs", "use crate::*;", &["src/domain/a.rs:1: `domain` uses `crate::*`, which is not a room of the house"]);
    finds(
        "src/domain/a.rs",
        "use crate as c;",
        &["src/domain/a.rs:1: `domain` uses `crate::as`, which is not a room of the house"],
    );
}

#[test]
fn comments_strings_and_visibilities_are_not_paths() {
    let text = r##"
        //! [`crate::store::Ledger`]
        /* crate::http /* nested */ sqlx::x */
        pub(crate) fn f<'a>(x: &'a str) -> char { '"' }
        pub(in crate::domain) const S: &str = "use crate::store; \" sqlx::query";
        const R: &[u8] = br#"crate::app " reqwest"#;
        const C: [char; 2] = ['\'', '\u{1f600}'];
        fn crate_like() { self::g(); Self::h() }
    "##;
    finds("src/domain/a.rs", text, &[]);
    finds(
        "src/domain/a.rs",
        &format!("{text}use crate::app;"),
        &["src/domain/a.rs:9: `domain` (floor 0) uses `app` (floor 4): arrows point down"],
    );
}
