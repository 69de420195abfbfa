//! What can be configured, and what is said when it cannot.

use std::{collections::BTreeSet, error::Error as _, fs, path::PathBuf, time::Duration};

use callback_ledger::config::{
    Config, ConfigError, DEFAULTS, DEV_AUDIENCE, KnownSource, ParticipantJoining, RejectReason, Scope,
};

const GRAPH: KnownSource =
    KnownSource { name: "graph", usual_path: "/api/calls", secret_suffices: false, issuers_by_tenant: false };
const ACS: KnownSource = KnownSource { name: "acs", usual_path: "/api/callbacks", ..GRAPH };
const EVENT_GRID: KnownSource =
    KnownSource { name: "event-grid", usual_path: "/api/events", secret_suffices: true, issuers_by_tenant: true };
const SOURCES: &[KnownSource] = &[GRAPH, ACS, EVENT_GRID];
const RECEIVER: &str = "[[receiver]]\npath = \"/api/calls\"\nsource = \"graph\"\naudience = [\"app\"]\n";
const TOKEN: &str = "[[private.token]]\nname = \"ops\"\n\
    sha256 = \"E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n";

/// Loads a file with this text and these variables.
fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.toml");
    fs::write(&path, text).unwrap();
    Config::load(Some(&path), env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

/// The message, without the folder of the file.
fn message(error: &ConfigError) -> String {
    let message = error.to_string();
    message.find("ledger.toml:").map_or(message.clone(), |at| message[at..].to_owned())
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    refused_with(text, &[], expected);
}

#[track_caller]
fn refused_with(text: &str, env: &[(&str, &str)], expected: &str) {
    let error = load(text, env).and_then(|config| config.for_service(SOURCES)).unwrap_err();
    assert_eq!(message(&error), expected);
}

/// A receiver with its path or audience changed, or keys added.
fn receiver(from: &str, to: &str) -> String {
    assert!(RECEIVER.contains(from));
    RECEIVER.replacen(from, to, 1)
}

#[test]
fn the_defaults_load_and_are_what_the_manual_says() {
    let config = Config::load(None, []).unwrap();
    assert_eq!(config.public.bind.to_string(), "0.0.0.0:8080");
    assert_eq!(config.public.max_body_bytes, 1_048_576);
    assert_eq!(config.private.bind.to_string(), "127.0.0.1:8081");
    assert!(config.private.tokens.is_empty() && config.receivers.is_empty());
    assert_eq!(config.ledger.url.to_string(), "sqlite://callback-ledger.db");
    assert_eq!(config.lifecycle.deadline_seconds.default, Duration::from_mins(5));
    assert!(config.lifecycle.deadline_seconds.by_kind.is_empty());
    assert_eq!(config.lifecycle.disconnect_grace_seconds.get(), 30);
    assert_eq!(config.log.filter, "info,sqlx=warn,actix_http=off");
    assert_eq!(config.dev.issuer_key, None);
}

/// The defaults with every setting that is commented out put in force.
fn every_setting() -> String {
    let setting = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with('[') || rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    DEFAULTS.lines().map(setting).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_example_in_the_defaults_is_a_configuration_that_serves() {
    let config = load(&every_setting(), &[]).unwrap().for_service(SOURCES).unwrap();
    let sources: Vec<&str> = config.receivers.iter().map(|receiver| receiver.source.as_str()).collect();
    assert_eq!(sources, ["graph", "acs", "event-grid", "graph"]);
    assert_eq!(config.receivers[3].trust.len(), 2);
    assert_eq!(config.private.tokens[0].scopes, [Scope::Read]);
    assert_eq!(config.lifecycle.deadline_seconds.by_kind["recordOperation"], Duration::from_hours(1));
    assert_eq!(config.dev.issuer_key, Some(PathBuf::from("dev-issuer.pem")));
}

#[test]
fn every_key_is_documented_in_the_defaults() {
    let documented: toml::Table = every_setting().parse().unwrap();
    let mut seen = 0;
    for section in [
        "",
        "public",
        "private",
        "private.token[]",
        "ledger",
        "receiver[]",
        "receiver[].trust[]",
        "forward[]",
        "feed",
        "lifecycle",
        "gateway",
        "log",
        "dev",
    ] {
        // An unknown key makes the parser name the known ones: these are the fields, whatever anybody forgot.
        let mut whole = documented.clone();
        let mut at = &mut whole;
        for part in section.split('.').filter(|part| !part.is_empty()) {
            at = match part.strip_suffix("[]") {
                Some(array) => at[array].as_array_mut().unwrap().last_mut().unwrap().as_table_mut().unwrap(),
                None => at[part].as_table_mut().unwrap(),
            };
        }
        at.insert("zzz".to_owned(), true.into());
        let error = load(&toml::to_string(&whole).unwrap(), &[]).unwrap_err().to_string();
        let (_, known) = error.split_once("unknown key `zzz`, expected ").unwrap();
        for field in known.split('`').skip(1).step_by(2) {
            let heading = [section.replace("[]", ""), field.to_owned()].join(".");
            let heading = heading.trim_start_matches('.');
            let is_documented = DEFAULTS.lines().any(|line| {
                let line = line.strip_prefix('#').unwrap_or(line);
                line.starts_with(&format!("{field} = "))
                    || line.starts_with(&format!("[{heading}]"))
                    || line.starts_with(&format!("[{heading}."))
                    || line.starts_with(&format!("[[{heading}]]"))
            });
            assert!(is_documented, "config/default.toml does not document `{heading}`");
            seen += 1;
        }
    }
    assert!(seen > 25, "only {seen} keys were found: the parser words its message otherwise");
}

#[test]
fn an_unknown_key_in_a_file_is_named_with_its_line() {
    refused(
        "[public]\nbind = \"127.0.0.1:0\"\nbnid = 1\n",
        "ledger.toml:3:1: public.bnid: unknown key `bnid`, expected one of `bind`, `max_body_bytes`, `remembered_tokens`, `max_waiting_for_keys`, `head_timeout_seconds`, `body_timeout_seconds`, `max_connections`, `max_connections_per_address`, `trusted_proxies`, `tls`",
    );
    refused(
        &format!("{RECEIVER}  secert = \"s\"\n"),
        "ledger.toml:5:3: receiver[0].secert: unknown key `secert`, expected one of `path`, `source`, `audience`, `tenants`, `issuers`, `metadata`, `secret`, `publishers`, `allow_networks`, `allowed_origins`, `allowed_rate`, `max_body_bytes`, `participant_joining`, `trust`, `redirect`",
    );
    let error = load("[gatway]\ngraph = \"https://graph.microsoft.com\"\n", &[]).unwrap_err();
    assert!(message(&error).starts_with("ledger.toml:1:2: gatway: unknown key `gatway`, "), "{error}");
    let error = load("[lifecycle]\ndisconnect_grace = 30\n", &[]).unwrap_err();
    assert!(message(&error).starts_with("ledger.toml:2:1: lifecycle.disconnect_grace: unknown key"), "{error}");
    let error = load("[lifecycle]\ndisconnect_grace_seconds = 0\n", &[]).unwrap_err();
    assert!(
        message(&error).starts_with("ledger.toml:2:1: lifecycle.disconnect_grace_seconds: invalid value: integer `0`"),
        "{error}"
    );
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_line() {
    refused(
        "[public]\n\nmax_body_bytes = \"much\"\n",
        "ledger.toml:3:1: public.max_body_bytes: invalid type: string \"much\", expected usize",
    );
    refused("[public]\nbind = \"everywhere\"\n", "ledger.toml:2:1: public.bind: invalid socket address syntax");
    refused(
        "[log]\nformat = \"xml\"\n",
        "ledger.toml:2:1: log.format: unknown variant `xml`, expected one of `auto`, `text`, `json`",
    );
    refused("[[receiver]]\nsource = \"graph\"\naudience = []\n", "ledger.toml:1:1: receiver[0]: missing key `path`");
}

#[test]
fn a_file_that_is_not_toml_is_named_with_its_line() {
    let error = load("[public]\nbind = \n", &[]).unwrap_err();
    assert!(message(&error).starts_with("ledger.toml:2:"), "{error}");
    let error = load("[public]\nbind = \"127.0.0.1:1\"\nbind = \"127.0.0.1:2\"\n", &[]).unwrap_err();
    assert!(message(&error).starts_with("ledger.toml:3:1: duplicate key"), "{error}");
}

#[test]
fn a_file_that_is_missing_is_named() {
    let error = Config::load(Some("/nowhere/ledger.toml".as_ref()), []).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the configuration file /nowhere/ledger.toml");
    assert!(error.source().is_some());
}

#[test]
fn the_environment_overrides_the_file_and_the_file_the_defaults() {
    let file = format!("[public]\nbind = \"127.0.0.1:1\"\nmax_body_bytes = 2048\n{RECEIVER}");
    let config = load(
        &file,
        &[
            ("CALLBACK_LEDGER__PUBLIC__BIND", "127.0.0.1:2"),
            ("CALLBACK_LEDGER__PRIVATE__BIND", "[::1]:3"),
            ("CALLBACK_LEDGER__LOG__FORMAT", "\"json\""),
            ("CALLBACK_LEDGER__LIFECYCLE__DEADLINE_SECONDS__recordOperation", "7"),
            ("CALLBACK_LEDGER__RECEIVER__0__TENANTS", "[\"t\"]"),
            ("CALLBACK_LEDGER__RECEIVER__0__PARTICIPANT_JOINING__REJECT", "busy"),
            ("CALLBACK_LEDGER_URL", "http://127.0.0.1:8081"),
            ("CALLBACK_LEDGER_MASTER_KEY", "key"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.public.bind.to_string(), "127.0.0.1:2");
    assert_eq!(config.public.max_body_bytes, 2048);
    assert_eq!(config.private.bind.to_string(), "[::1]:3");
    assert_eq!(config.lifecycle.deadline_seconds.by_kind["recordOperation"], Duration::from_secs(7));
    assert_eq!(config.receivers[0].path, "/api/calls");
    assert_eq!(config.receivers[0].tenants, ["t"]);
    assert_eq!(config.receivers[0].participant_joining, ParticipantJoining::Reject(RejectReason::Busy));
}

#[test]
fn receivers_can_come_from_the_environment_alone_in_any_order() {
    let variables = (0..12).rev().flat_map(|index| {
        [("PATH", format!("/calls/{index}")), ("SOURCE", "graph".to_owned()), ("AUDIENCE__0", "app".to_owned())]
            .map(|(key, value)| (format!("CALLBACK_LEDGER__RECEIVER__{index}__{key}"), value))
    });
    let config = Config::load(None, variables).unwrap().for_service(SOURCES).unwrap();
    let paths: Vec<_> = config.receivers.iter().map(|receiver| receiver.path.clone()).collect();
    assert_eq!(paths, (0..12).map(|index| format!("/calls/{index}")).collect::<Vec<_>>());
}

#[test]
fn a_variable_that_sets_no_known_key_is_named() {
    refused_with(
        RECEIVER,
        &[("CALLBACK_LEDGER__PUBLIC__BNID", "x")],
        "CALLBACK_LEDGER__PUBLIC__BNID: public.bnid: unknown key `bnid`, expected one of `bind`, `max_body_bytes`, `remembered_tokens`, `max_waiting_for_keys`, `head_timeout_seconds`, `body_timeout_seconds`, `max_connections`, `max_connections_per_address`, `trusted_proxies`, `tls`",
    );
    refused_with(
        RECEIVER,
        &[("CALLBACK_LEDGER__PUBLIC__BIND", "x")],
        "CALLBACK_LEDGER__PUBLIC__BIND: public.bind: invalid socket address syntax",
    );
    refused_with(
        RECEIVER,
        &[("CALLBACK_LEDGER__", "x")],
        "CALLBACK_LEDGER__: is not a key: CALLBACK_LEDGER__SECTION__KEY is expected",
    );
    let deep = format!("CALLBACK_LEDGER__RECEIVER__0__SECRET{}", "__A".repeat(40_000));
    refused_with(RECEIVER, &[(&deep, "x")], &format!("{deep}: is not a key: CALLBACK_LEDGER__SECTION__KEY is expected"));
    refused_with(
        RECEIVER,
        &[("CALLBACK_LEDGER__RECEIVER__2__PATH", "/x")],
        "CALLBACK_LEDGER__RECEIVER__2__PATH: there are 1 entries, so the next one is 1, not 2",
    );
    refused_with(
        RECEIVER,
        &[("CALLBACK_LEDGER__LOG__0", "x")],
        "CALLBACK_LEDGER__LOG__0: 0 is a place in an array, but there is none",
    );
    refused_with(
        RECEIVER,
        &[("CALLBACK_LEDGER__RECEIVER__1__PATH", "/x")],
        "CALLBACK_LEDGER__RECEIVER__1__PATH: receiver[1]: missing key `source`",
    );
    refused_with(
        RECEIVER,
        &[("CALLBACK_LEDGER__RECEIVER__0__AUDIENCE", "[]")],
        "CALLBACK_LEDGER__RECEIVER__0__AUDIENCE: receiver[0].audience: must not be empty",
    );
}

#[test]
fn a_path_must_be_one_that_can_be_served() {
    for (path, problem) in [
        ("api/calls", "must start with `/`"),
        ("/api//calls", "must not contain `//`"),
        ("/api/{id}", "must be a plain path, without `{`"),
        ("/api?x=1", "must be a plain path, without `?`"),
        ("/api#x", "must be a plain path, without `#`"),
        ("/a b", "must be a plain path, without ` `"),
    ] {
        refused(&receiver("/api/calls", path), &format!("ledger.toml:2:1: receiver[0].path: `{path}` {problem}"));
    }
    refused(&RECEIVER.repeat(2), "ledger.toml:6:1: receiver[1].path: another receiver has the path `/api/calls` already");
}

#[test]
fn a_receiver_needs_a_known_source_and_an_audience() {
    refused(
        &receiver("graph", "grahp"),
        "ledger.toml:3:1: receiver[0].source: unknown source `grahp`, known: graph, acs, event-grid",
    );
    refused(&receiver("[\"app\"]", "[]"), "ledger.toml:4:1: receiver[0].audience: must not be empty");
    refused(&receiver("[\"app\"]", "[\"\"]"), "ledger.toml:4:1: receiver[0].audience: must not hold an empty value");
    refused(
        &format!("{RECEIVER}tenants = [\" \"]\n"),
        "ledger.toml:5:1: receiver[0].tenants: must not hold an empty value; leave the list empty for any tenant",
    );
    refused(
        &format!("{RECEIVER}participant_joining = {{ reject = \"bored\" }}\n"),
        "ledger.toml:5:25: receiver[0].participant_joining.reject: unknown variant `bored`, expected one of `none`, `busy`, `forbidden`",
    );
}

#[test]
fn issuers_and_metadata_can_be_overridden_each_but_not_beside_several_clouds() {
    let issuers = "issuers = [\"https://i\"]\n";
    let metadata = "metadata = [\"https://m/\"]\n";
    let one = load(&format!("{RECEIVER}{issuers}"), &[]).unwrap();
    assert_eq!((one.receivers[0].issuers.len(), one.receivers[0].metadata.len()), (1, 0));
    let one = load(&format!("{RECEIVER}{metadata}"), &[]).unwrap();
    assert_eq!((one.receivers[0].issuers.len(), one.receivers[0].metadata.len()), (0, 1));
    refused(
        &format!("{RECEIVER}{issuers}{metadata}[[receiver.trust]]\n{issuers}{metadata}"),
        "ledger.toml:7:12: receiver[0].trust: cannot be used together with the receiver's own `issuers` and `metadata`",
    );
    refused(
        &format!("{RECEIVER}[[receiver.trust]]\nissuers = []\n{metadata}"),
        "ledger.toml:6:1: receiver[0].trust[0].issuers: must not be empty",
    );
    refused(
        &format!("{RECEIVER}[[receiver.trust]]\n{issuers}metadata = []\n"),
        "ledger.toml:7:1: receiver[0].trust[0].metadata: must not be empty",
    );
    refused(&format!("{RECEIVER}[[receiver.trust]]\n{issuers}"), "ledger.toml:5:1: receiver[0].trust[0]: missing key `metadata`");
    let both = load(&format!("{RECEIVER}{issuers}{metadata}"), &[]).unwrap();
    assert_eq!(both.receivers[0].metadata[0].as_str(), "https://m/");
}

#[test]
fn keys_are_fetched_over_https_or_from_this_machine() {
    let with = |url: &str| load(&format!("{RECEIVER}issuers = [\"i\"]\nmetadata = [\"{url}\"]\n"), &[]);
    for url in ["https://example.org/m", "http://127.0.0.1:9/m", "http://127.8.8.8/m", "http://[::1]/m", "http://localhost:9/m"] {
        with(url).unwrap();
    }
    for url in ["http://example.org/m", "http://localhost.example.org/m", "http://10.0.0.1/m", "ftp://127.0.0.1/m"] {
        let expected = format!(
            "ledger.toml:6:13: receiver[0].metadata[0]: `{url}` must be https (http is accepted for loopback addresses only)"
        );
        assert_eq!(message(&with(url).unwrap_err()), expected);
    }
    assert_eq!(
        message(&with("m").unwrap_err()),
        "ledger.toml:6:13: receiver[0].metadata[0]: `m` is not an address: relative URL without a base"
    );
    assert_eq!(
        message(&with("https://u:p@h/").unwrap_err()),
        "ledger.toml:6:13: receiver[0].metadata[0]: an address must not hold a user or password"
    );
}

#[test]
fn the_private_listener_leaves_loopback_only_with_a_token() {
    let open = "[private]\nbind = \"0.0.0.0:8081\"\n";
    refused(
        &format!("{open}{RECEIVER}"),
        "ledger.toml:2:1: private.bind: 0.0.0.0:8081 is not loopback, so at least one [[private.token]] is needed",
    );
    let config = load(&format!("{open}{TOKEN}{RECEIVER}"), &[]).unwrap();
    assert_eq!(config.private.tokens[0].sha256.as_bytes()[..3], [0xe3, 0xb0, 0xc4]);
    assert_eq!(config.private.tokens[0].scopes, [Scope::Read]);
}

#[test]
fn a_token_is_given_as_the_digits_of_its_hash() {
    for wrong in ["e3b0", &"g".repeat(64), &"é".repeat(32), &"+1".repeat(32)] {
        let text = format!("[[private.token]]\nname = \"ops\"\nsha256 = \"{wrong}\"\n");
        refused(
            &text,
            "ledger.toml:3:1: private.token[0].sha256: must be 64 hexadecimal digits, the SHA-256 of the token (never the token itself)",
        );
    }
    refused(&TOKEN.repeat(2), "ledger.toml:5:1: private.token[1].name: another token is named `ops` already");
    refused(&TOKEN.replace("ops", ""), "ledger.toml:2:1: private.token[0].name: must not be empty");
    refused(&format!("{TOKEN}scopes = []\n"), "ledger.toml:4:1: private.token[0].scopes: must not be empty");
    refused(
        &format!("{TOKEN}scopes = [\"root\"]\n"),
        "ledger.toml:4:11: private.token[0].scopes[0]: unknown variant `root`, expected one of `read`, `write`, `secrets`, `admin`",
    );
}

#[test]
fn the_ledger_is_a_sqlite_file() {
    for (url, path) in
        [("sqlite://relative.db", "relative.db"), ("sqlite:///abs/path.db", "/abs/path.db"), ("sqlite://a b%20.db", "a b%20.db")]
    {
        let config = load(&format!("[ledger]\nurl = \"{url}\"\n"), &[]).unwrap();
        assert_eq!(config.ledger.url.path(), PathBuf::from(path));
        assert_eq!(config.ledger.url.to_string(), url);
    }
    for (url, problem) in [
        ("postgres://u:p@h/db", "the PostgreSQL engine does not exist yet; use sqlite://FILE"),
        ("postgresql://h/db", "the PostgreSQL engine does not exist yet; use sqlite://FILE"),
        ("mysql://h/db", "`mysql://` is not an engine of the ledger; use sqlite://FILE"),
        ("ledger.db", "`ledger.db` is not sqlite://FILE"),
        ("sqlite::memory:", "`sqlite::memory:` is not sqlite://FILE"),
        ("sqlite://", "`sqlite://` names no file"),
        ("sqlite://folder/", "`sqlite://folder/` names no file"),
        ("sqlite://a.db?mode=ro", "parameters (`?…`, `#…`) are not accepted after sqlite://FILE"),
    ] {
        refused(&format!("[ledger]\nurl = \"{url}\"\n"), &format!("ledger.toml:2:1: ledger.url: {problem}"));
    }
}

#[test]
fn numbers_have_bounds() {
    for bytes in [1023, 64 * 1024 * 1024 + 1] {
        let text = format!("[public]\nmax_body_bytes = {bytes}\n");
        refused(&text, "ledger.toml:2:1: public.max_body_bytes: must be between 1024 (1 KiB) and 67108864 (64 MiB)");
    }
    for bytes in [1024, 64 * 1024 * 1024] {
        load(&format!("[public]\nmax_body_bytes = {bytes}\n"), &[]).unwrap();
    }
    for kind in ["default", "recordOperation"] {
        let text = format!("[lifecycle.deadline_seconds]\n{kind} = 0\n");
        refused(&text, &format!("ledger.toml:2:1: lifecycle.deadline_seconds.{kind}: must be at least 1"));
    }
}

#[test]
fn a_log_filter_must_parse() {
    let error = load("[log]\nfilter = \"callback_ledger=loud\"\n", &[]).unwrap_err();
    assert!(message(&error).starts_with("ledger.toml:2:1: log.filter: "), "{error}");
}

#[test]
fn a_service_without_a_receiver_says_how_to_add_one() {
    let error = Config::load(None, []).unwrap().for_service(SOURCES).unwrap_err();
    assert!(matches!(error, ConfigError::NoReceiver));
    assert!(error.to_string().starts_with("no receiver is configured: add [[receiver]] with path = \"/api/calls\""), "{error}");
}

#[test]
fn development_mode_listens_on_loopback_and_makes_up_a_receiver() {
    let config = Config::load(None, []).unwrap().for_development(SOURCES).unwrap();
    assert_eq!(config.public.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(config.private.bind.to_string(), "127.0.0.1:8081");
    let made_up: Vec<_> = config.receivers.iter().map(|receiver| (receiver.path.as_str(), receiver.source.as_str())).collect();
    assert_eq!(made_up, [("/api/calls", "graph"), ("/api/callbacks", "acs"), ("/api/events", "event-grid")]);
    assert!(config.receivers.iter().all(|receiver| receiver.audience == [DEV_AUDIENCE]));

    let config = load(&receiver("/api/calls", "/mine"), &[("CALLBACK_LEDGER__PUBLIC__BIND", "[::1]:0")]).unwrap();
    let config = config.for_development(SOURCES).unwrap();
    assert_eq!(config.public.bind.to_string(), "[::1]:0");
    assert_eq!(config.receivers.len(), 1);
    assert_eq!(config.receivers[0].path, "/mine");
}

#[test]
fn development_mode_refuses_a_listener_that_others_can_reach() {
    let dev = |text: &str, env: &[(&str, &str)]| message(&load(text, env).unwrap().for_development(SOURCES).unwrap_err());
    assert_eq!(
        dev("[public]\nbind = \"0.0.0.0:8080\"\n", &[]),
        "ledger.toml:2:1: public.bind: development mode listens on loopback only, not on 0.0.0.0:8080"
    );
    assert_eq!(
        dev(TOKEN, &[("CALLBACK_LEDGER__PRIVATE__BIND", "192.0.2.1:1")]),
        "CALLBACK_LEDGER__PRIVATE__BIND: private.bind: development mode listens on loopback only, not on 192.0.2.1:1"
    );
}

#[test]
fn what_the_command_for_the_master_key_is_given_is_told_to_nobody() {
    let with = |command: &str| load(&format!("[ledger]\nurl = \"sqlite://a.db\"\nmaster_key_command = {command}\n"), &[]);
    let config = with("[\"vault\", \"--token\", \"hvs.secret\"]").unwrap();
    let shown = config.shown().unwrap();
    let command = &shown.parse::<toml::Table>().unwrap()["ledger"]["master_key_command"];
    assert_eq!(command.to_string(), "[\"vault\", \"<redacted>\", \"<redacted>\"]");
    let fault = with("\"vault --token hvs.secret\"").unwrap_err().to_string();
    assert!(fault.contains("ledger.master_key_command: must be a list of texts"), "{fault}");
    for told in [shown, format!("{config:?}"), fault] {
        assert!(!told.contains("hvs.secret"), "{told}");
    }
}

#[test]
fn what_is_shown_can_be_read_again_and_tells_no_hash() {
    let config = load(&every_setting(), &[]).unwrap();
    let shown = config.shown().unwrap();
    assert!(!shown.contains("e3b0c442"), "{shown}");
    let bytes = "227, 176, 196, 66"; // e3 b0 c4 42
    assert!(!format!("{config:?}").contains(bytes), "the hash's bytes are in the debug form");
    let secret = format!("secrets = [\"whsec_{}\"]", "0".repeat(32));
    let shown = shown.replace("secrets = [\"<redacted>\"]", &secret).replace("<redacted>", &"0".repeat(64));
    let again = load(&shown, &[]).unwrap();
    assert_eq!(again.shown().unwrap(), config.shown().unwrap());
    let sections: BTreeSet<_> = shown.parse::<toml::Table>().unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(
        sections.iter().collect::<Vec<_>>(),
        ["dev", "feed", "forward", "gateway", "ledger", "lifecycle", "log", "private", "public", "receiver", "retention"]
    );
}

#[test]
fn a_receiver_demands_a_token_or_where_its_source_allows_a_secret() {
    let refused = |text: &str| message(&load(text, &[]).and_then(|config| config.for_service(SOURCES)).unwrap_err());
    let receiver = |source: &str, rest: &str| format!("[[receiver]]\npath = \"/x\"\nsource = \"{source}\"\n{rest}");
    let secret = "secret = \"0123456789abcdef\"\n";
    for source in ["graph", "acs", "event-grid"] {
        assert!(refused(&receiver(source, "")).contains("receiver[0].audience: must not be empty"), "{source}");
    }
    for source in ["graph", "acs"] {
        let why = refused(&receiver(source, secret));
        assert!(why.contains("receiver[0].audience: must not be empty: it is how"), "{why}");
    }
    assert!(load(&receiver("event-grid", secret), &[]).unwrap().for_service(SOURCES).is_ok());

    let token = "audience = [\"api://ours\"]\n";
    let why = refused(&receiver("event-grid", token));
    assert!(why.contains("receiver[0].tenants: must name the Entra tenants"), "{why}");
    let why = refused(&receiver("event-grid", &format!("{token}tenants = [\"contoso.onmicrosoft.com\"]\n")));
    assert!(why.contains("receiver[0].tenants: must be the tenants' ids (GUIDs)"), "{why}");
    let tenant = "tenants = [\"1fdd12d0-4620-44ed-baec-459b611f84b2\"]\n";
    assert!(load(&receiver("event-grid", &format!("{token}{tenant}")), &[]).unwrap().for_service(SOURCES).is_ok());

    let why = refused(&receiver("acs", &format!("{token}secret = \"too short\"\n")));
    assert!(why.contains("receiver[0].secret: must be at least 16 characters"), "{why}");
    assert!(!why.contains("too short"), "{why}");
    for (rest, key) in [("publishers = [\"p\"]\n", "publishers"), (tenant, "tenants"), ("issuers = [\"i\"]\n", "issuers")] {
        let why = refused(&receiver("event-grid", &format!("{secret}{rest}")));
        assert!(why.contains(&format!("receiver[0].{key}: is about tokens")), "{why}");
    }
    for odd in ["\"                \"", "\"percent%20percent%20\"", "\"amper&amper&amper\""] {
        let why = refused(&receiver("event-grid", &format!("secret = {odd}\n")));
        assert!(why.contains("receiver[0].secret: must be of characters that stand for themselves"), "{why}");
    }
    let why = refused(&receiver("event-grid", "secret = 1234567890123456\n"));
    assert!(why.contains("receiver[0].secret: must be a text: put it in quotes"), "{why}");
    assert!(!why.contains("1234567890123456"), "{why}");
    let why = refused(&receiver("acs", &format!("{token}max_body_bytes = 12\n")));
    assert!(why.contains("receiver[0].max_body_bytes: must be between"), "{why}");
    let why = refused(&receiver("acs", &format!("{token}publishers = [\" \"]\n")));
    assert!(why.contains("receiver[0].publishers: must not hold an empty value"), "{why}");
}

#[test]
fn a_secret_is_never_shown() {
    let text = "[[receiver]]\npath = \"/x\"\nsource = \"event-grid\"\nsecret = \"correct-horse-battery\"\n";
    let config = load(text, &[]).unwrap();
    assert!(!config.shown().unwrap().contains("horse"), "{}", config.shown().unwrap());
    assert!(!format!("{config:?}").contains("horse"));
    assert_eq!(config.receivers[0].secret.as_ref().unwrap().expose(), "correct-horse-battery");
}

#[test]
fn a_gateway_that_signs_takes_a_token() {
    let signs =
        "[gateway]\nacs = \"https://contoso.communication.azure.com\"\n[gateway.credentials.acs]\naccess_key_file = \"k\"\n";
    let error = load(signs, &[]).unwrap_err().to_string();
    assert!(error.contains("gateway.credentials.acs: needs at least one [[private.token]]"), "{error}");
    assert!(load(&format!("{signs}{TOKEN}"), &[]).is_ok());
    let error = load(&format!("[gateway.credentials.acs]\naccess_key_file = \"k\"\n{TOKEN}"), &[]).unwrap_err().to_string();
    assert!(error.contains("is of no use without `gateway.acs`"), "{error}");
    let acs = |lines: &str| {
        format!("[gateway]\nacs = \"https://contoso.communication.azure.com\"\n[gateway.credentials.acs]\n{lines}{TOKEN}")
    };
    let application = "tenant = \"t\"\nclient_id = \"c\"\n";
    assert!(load(&acs(&format!("{application}certificate_file = \"f\"\n")), &[]).is_ok());
    for (lines, why) in [
        ("", "acs.tenant: must not be empty"),
        ("tenant = \"t\"\n", "acs.client_id: must not be empty"),
        (application, "acs.client_secret_file: is missing"),
        (
            &format!("{application}client_secret_file = \"s\"\ncertificate_file = \"f\"\n"),
            "acs.certificate_file: cannot stand beside",
        ),
        (&format!("{application}access_key_file = \"k\"\n"), "acs.access_key_file: cannot stand beside an application"),
    ] {
        let error = load(&acs(lines), &[]).unwrap_err().to_string();
        assert!(error.contains(&format!("gateway.credentials.{why}")), "{error}");
    }
    let graph = format!("[gateway.credentials.graph]\ntenant = \"t\"\nclient_id = \" \"\ncertificate_file = \"f\"\n{TOKEN}");
    let error = load(&graph, &[]).unwrap_err().to_string();
    assert!(error.contains("gateway.credentials.graph.client_id: must not be empty"), "{error}");
    let error = load("[gateway]\ngraph = \"http://graph.example\"\n", &[]).unwrap_err().to_string();
    assert!(error.contains("gateway.graph") && error.contains("must be https"), "{error}");
}

#[test]
fn the_log_can_be_started_twice() {
    let log = Config::load(None, []).unwrap().log;
    callback_ledger::telemetry::init(&log).unwrap();
    callback_ledger::telemetry::init(&log).unwrap();
}

#[test]
fn rules_for_redirects_are_checked_at_the_start() {
    let rules = |source: &str, rules: &str| {
        let text = format!("[[receiver]]\npath = \"/c\"\nsource = \"{source}\"\naudience = [\"a\"]\ntenants = [\"t\"]\n{rules}");
        load(&text, &[]).map(|_| ()).map_err(|error| message(&error))
    };
    let rule = |more: &str| format!("[[receiver.redirect]]\nto = \"https://b.example/\"\n{more}\n");
    assert_eq!(rules("graph", &(rule("percent = 50") + &rule("regions = [\"emea\"]") + &rule(""))), Ok(()));
    for (source, text, why) in [
        ("acs", rule(""), "`acs` cannot be told to send a call elsewhere"),
        ("graph", rule("percent = 0"), "receiver[0].redirect[0].percent: must be from 1 to 100"),
        ("graph", rule("percent = 101"), "must be from 1 to 100"),
        ("graph", rule("") + &rule("percent = 10"), "is never asked: rule 0 matches every call"),
        ("graph", rule("tenants = [\"other\"]"), "is not among the receiver's `tenants`"),
        ("graph", rule("regions = [\" \"]"), "must not hold an empty value"),
        ("graph", "[[receiver.redirect]]\nto = \"http://b.example/\"\n".to_owned(), "must be https"),
        ("graph", "[[receiver.redirect]]\nto = \"https://b.example/#x\"\n".to_owned(), "must not hold a fragment"),
        ("graph", "[[receiver.redirect]]\npercent = 1\n".to_owned(), "missing"),
    ] {
        let said = rules(source, &text).unwrap_err();
        assert!(said.contains(why), "{text}: {said}");
    }
}

#[test]
fn where_notifications_go_is_checked_at_the_start() {
    let secret = "secrets = [\"whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\"]";
    let receiver = "[[receiver]]\npath = \"/c\"\nsource = \"graph\"\naudience = [\"a\"]\n";
    let said = |text: &str| load(&format!("{receiver}{text}"), &[]).map(|_| ()).map_err(|error| message(&error));
    let forward = |url: &str, more: &str| format!("[[forward]]\nurl = \"{url}\"\n{more}\n");
    let to = |more: &str| forward("https://bot.example/calls", &format!("{secret}\n{more}"));
    assert_eq!(said(&(to("") + &to("name = \"other\"") + &forward("http://127.0.0.1:3978/", "mode = \"original\""))), Ok(()));
    let one = secret.replace(['[', ']'], "");
    assert_eq!(said(&forward("https://bot.example/", &one)), Ok(()));
    assert_eq!(said(&forward("https://10.1.2.3/", &format!("{secret}\nallow_private = true"))), Ok(()));
    for (text, why) in [
        (to("") + &to(""), "forward[1].name: another [[forward]] is named `bot.example` already"),
        (to("name = \" \""), "forward[0].name: must be 1 to 200 characters"),
        (to("receivers = [\"/d\"]"), "forward[0].receivers: `/d` is the path of no [[receiver]]"),
        (to("kinds = [\"\"]"), "must not hold an empty value"),
        (to("concurrency = 0"), "forward[0].concurrency"),
        (to("concurrency = 2000"), "must be from 1 to 1024"),
        (to("timeout_seconds = 301"), "must be from 1 to 300"),
        (to("decide_within_ms = 20000"), "must be from 1 to 10000"),
        (to("mode = \"raw\""), "unknown variant `raw`"),
        (forward("https://bot.example/", ""), "forward[0].secrets: must not be empty"),
        (forward("https://bot.example/", "secrets = [\"whsec_c2hvcnQ=\"]"), "must be `whsec_` and 24 to 64 bytes in base64"),
        (forward("https://bot.example/", "secrets = [7]"), "must be a text"),
        (forward("https://bot.example/", "secrets = \"whsec_c2hvcnQ=\""), "must be `whsec_` and 24 to 64 bytes in base64"),
        (forward("http://bot.example/?code=c2hvcnQ", secret), "must be https"),
        (forward("http://bot.example/", secret), "must be https"),
        (forward("https://bot.example/#x", secret), "must not hold a fragment"),
        (
            forward("https://10.1.2.3/", secret),
            "forward[0].url: lies in a private network: `allow_private = true` if that is meant",
        ),
        (forward("https://[fd00::1]/", secret), "lies in a private network"),
        (secret.replace("secrets", "[[forward]]\nsecrets"), "missing key `url`"),
    ] {
        let told = said(&text).unwrap_err();
        assert!(told.contains(why), "{text}: {told}");
        assert!(!told.contains("c2hvcnQ"), "{told}");
    }
}
