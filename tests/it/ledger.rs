//! The ledger without the service: duplicates, quarantine, refusals, keys, upkeep.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use callback_ledger::{
    domain::{ids::PlatformId, notification::Disposition, operation::State},
    store::{Ledger, LedgerReader, OpenError, RecordError, backup, key_path, prune, rebuild, rows::NotificationFilter, verify},
};
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::{Connection, Executor};

use crate::support::{
    app::TestApp,
    ledger::{
        ALL, BOT, Caller, TestLedger, behind, count, delivery, dispositions, envelope, execute, item, only_id, open_error,
        operation, operations_of, options,
    },
};

const CALL: &str = "0f9f2c54-6a8e-4d83-9d39-6f2d5a4e7001";
const OPERATION: &str = "0f9f2c54-6a8e-4d83-9d39-6f2d5a4e7002";

async fn is_sound(ledger: &TestLedger) {
    assert_eq!(verify(ledger.reader()).await.unwrap(), []);
    assert_eq!(rebuild(&ledger.options).await.unwrap(), []);
}

#[tokio::test]
async fn a_copy_counts_on_the_first_one_also_within_a_batch_and_after_a_restart() {
    let ledger = TestLedger::new().await;
    let body = operation(CALL, OPERATION, "running");
    let both = envelope(&[body["value"][0].clone(), body["value"][0].clone()]);
    let first = ledger.post(&both).await.unwrap();
    assert_eq!(dispositions(&first), [Some(Disposition::Applied), None]);

    let ledger = ledger.restart().await;
    let again = ledger.post(&body).await.unwrap();
    assert_eq!(dispositions(&again), [None]);

    let told = operations_of(ledger.reader(), CALL).await;
    assert_eq!((told.len(), told[0].notifications, told[0].duplicates), (1, 1, 2));
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM delivery").await, 1, "a copy alone leaves no delivery");
    is_sound(&ledger).await;
}

#[tokio::test]
async fn what_another_tenant_or_audience_says_about_a_call_is_kept_apart() {
    let ledger = TestLedger::new().await;
    let strangers =
        [Caller { tenant: Some("fabrikam"), ..BOT }, Caller { audience: "another", ..BOT }, Caller { tenant: None, ..BOT }];
    let running = delivery(&operation(CALL, OPERATION, "running"), None);
    let completed = delivery(&operation(CALL, OPERATION, "completed"), None);
    // All at once, so that they meet in one commit; the first in the queue owns the call.
    let (own, foreign) = tokio::join!(
        ledger.ledger.record(&BOT, running),
        join_all(strangers.iter().map(|stranger| ledger.ledger.record(stranger, completed.clone())))
    );
    assert_eq!(dispositions(&own.unwrap()), [Some(Disposition::Applied)]);
    for recorded in foreign {
        assert_eq!(dispositions(&recorded.unwrap()), [Some(Disposition::Quarantined)], "no stranger's copy hides another's");
    }
    let told = operations_of(ledger.reader(), CALL).await;
    assert_eq!((told.len(), told[0].state), (1, State::Running));

    let filter = NotificationFilter { call_id: PlatformId::parse(CALL), ..NotificationFilter::default() };
    let kept = ledger.reader().notifications(&filter, ALL).await.unwrap().rows;
    assert_eq!(kept.len(), 4);
    let tenants: Vec<_> = kept.iter().rev().map(|row| row.tenant_id.as_deref()).collect();
    assert_eq!(tenants, [Some("contoso"), Some("fabrikam"), Some("contoso"), None]);
    is_sound(&ledger).await;
}

#[tokio::test]
async fn a_delivery_that_the_database_refuses_fails_alone() {
    let ledger = TestLedger::new().await;
    execute(
        ledger.path(),
        "CREATE TRIGGER poison BEFORE INSERT ON notification WHEN new.kind = 'poisonOperation'
         BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .await;
    let body = |n: usize| {
        let mut body = operation(CALL, &format!("operation-{n}"), "running");
        if n == 30 {
            body["value"][0]["resourceData"]["@odata.type"] = json!("#microsoft.graph.poisonOperation");
        }
        body
    };
    let outcomes = join_all((0..64).map(|n| ledger.ledger.record(&BOT, delivery(&body(n), None)))).await;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        match n {
            30 => assert_eq!(outcome.unwrap_err(), RecordError::Refused),
            _ => assert_eq!(dispositions(&outcome.unwrap()), [Some(Disposition::Applied)], "{n}"),
        }
    }
    assert_eq!(operations_of(ledger.reader(), CALL).await.len(), 63);
    is_sound(&ledger).await;
}

#[tokio::test]
async fn a_lock_is_answered_honestly_and_survived_without_a_restart() {
    let ledger = TestLedger::new().await;
    ledger.post(&operation(CALL, "before", "running")).await.unwrap();
    let mut other = ledger.behind().await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let refused = ledger.post(&operation(CALL, "while", "running")).await;
    assert_eq!(refused.unwrap_err(), RecordError::Unavailable);
    assert!(!ledger.ledger.is_writable());
    other.execute("ROLLBACK").await.unwrap();
    other.close().await.unwrap();

    for _ in 0..200 {
        if ledger.ledger.is_writable() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(ledger.ledger.is_writable(), "it finds out by itself");
    ledger.post(&operation(CALL, "after", "running")).await.unwrap();
    assert_eq!(operations_of(ledger.reader(), CALL).await.len(), 2);
    is_sound(&ledger).await;
}

#[tokio::test]
async fn a_ledger_is_not_opened_with_another_key_or_without_one() {
    let (options, _folder) = TestLedger::new().await.close().await;
    let key = key_path(&options.path);
    for path in [&options.path, &key] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(open_error(&options).await, OpenError::KeyMissing { .. }));
    assert!(!key.exists(), "no key is made for a ledger that has one");

    let (other, _other_folder) = TestLedger::new().await.close().await;
    std::fs::copy(key_path(&other.path), &key).unwrap();
    assert!(matches!(open_error(&options).await, OpenError::KeyWrong { .. }));
    assert!(matches!(LedgerReader::open(&options).await.unwrap_err(), OpenError::KeyWrong { .. }));

    std::fs::write(&key, kept).unwrap();
    Ledger::open(options).await.unwrap();
}

#[tokio::test]
async fn what_is_not_a_ledger_of_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.db");
    std::fs::write(&text, "not a database, and long enough to be taken for one ".repeat(50)).unwrap();
    std::fs::write(key_path(&text), "A".repeat(43) + "=").unwrap();
    std::fs::set_permissions(key_path(&text), PermissionsExt::from_mode(0o600)).unwrap();
    assert!(matches!(open_error(&options(&text)).await, OpenError::NotALedger { .. }));

    let foreign = folder.path().join("foreign.db");
    execute(&foreign, "CREATE TABLE theirs (x)").await;
    std::fs::copy(key_path(&text), key_path(&foreign)).unwrap();
    assert!(matches!(open_error(&options(&foreign)).await, OpenError::NotALedger { .. }));
    assert_eq!(count(&foreign, "SELECT count(*) FROM sqlite_schema").await, 1, "nothing was added");

    let (newer, _folder) = TestLedger::new().await.close().await;
    execute(
        &newer.path,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', 1, x'00', 0)",
    )
    .await;
    assert!(matches!(open_error(&newer).await, OpenError::Newer { version: 9999, .. }));
    assert!(matches!(LedgerReader::open(&newer).await.unwrap_err(), OpenError::Newer { .. }));
    let missing = options(folder.path().join("missing.db"));
    assert!(matches!(LedgerReader::open(&missing).await.unwrap_err(), OpenError::Missing { .. }));
}

#[tokio::test]
async fn one_server_serves_a_ledger_and_others_may_read_it() {
    let ledger = TestLedger::new().await;
    assert!(matches!(open_error(&ledger.options).await, OpenError::InUse { .. }));
    let id = only_id(&ledger.post(&operation(CALL, OPERATION, "completed")).await.unwrap());
    let reader = LedgerReader::open(&ledger.options).await.unwrap();
    assert!(reader.notification(id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_body_is_kept_as_it_came_whether_it_speaks_of_one_call_or_of_several() {
    let ledger = TestLedger::new().await;
    let one = operation(CALL, OPERATION, "completed");
    let other = operation("another-call", "another-operation", "completed");
    let both = envelope(&[one["value"][0].clone(), other["value"][0].clone()]);
    for body in [json!({ "value": [], "unknown": "member" }), both] {
        let recorded = ledger.post(&body).await.unwrap();
        for notification in recorded.notifications {
            let callback_ledger::store::RecordedNotification::New(id, _) = notification else { panic!("a duplicate") };
            let kept = ledger.reader().delivery_of(id).await.unwrap().unwrap();
            assert_eq!(kept.body.unwrap(), body.to_string().into_bytes());
        }
    }
    assert_eq!(count(ledger.path(), "SELECT count(*) FROM delivery WHERE sealed_for IS NULL AND data_key IS NOT NULL").await, 2);
}

#[tokio::test]
async fn verify_finds_what_was_tampered_with() {
    for damage in [
        "UPDATE delivery SET body = zeroblob(length(body))",
        "DELETE FROM delivery",
        "DELETE FROM change WHERE type = 'notification'",
        "UPDATE notification SET call_id = 5",
        "UPDATE delivery SET sealed_for = 5",
        "INSERT INTO operation (id, call_id, subject, kind, state, first_seen_at, updated_at, flags, notifications)
         SELECT 7, id, 'x', 'x', 'running', 0, 0, '[]', 1 FROM call",
    ] {
        let ledger = TestLedger::new().await;
        ledger.post(&operation(CALL, OPERATION, "completed")).await.unwrap();
        assert_eq!(verify(ledger.reader()).await.unwrap(), []);
        execute(ledger.path(), damage).await;
        assert_ne!(verify(ledger.reader()).await.unwrap(), [], "{damage}");
    }
}

#[tokio::test]
async fn rebuild_finds_and_mends_what_does_not_follow_from_the_facts() {
    for damage in [
        "UPDATE operation SET state = 'failed'",
        "UPDATE operation SET subject = 'elsewhere'",
        "DELETE FROM operation",
        "UPDATE operation SET context_hash = 1",
        "UPDATE call SET state = 'incoming'",
        "UPDATE call SET story = '{}'",
    ] {
        let ledger = TestLedger::new().await;
        let established =
            item("updated", &format!("calls/{CALL}"), &json!({ "@odata.type": "#microsoft.graph.call", "state": "established" }));
        ledger.post(&envelope(&[established])).await.unwrap();
        ledger.post(&operation(CALL, OPERATION, "completed")).await.unwrap();
        let before = operations_of(ledger.reader(), CALL).await;
        assert_eq!(rebuild(&ledger.options).await.unwrap(), []);
        execute(ledger.path(), damage).await;
        assert_eq!(rebuild(&ledger.options).await.unwrap().len(), 1, "{damage}");
        assert_eq!(operations_of(ledger.reader(), CALL).await, before, "{damage}");
        is_sound(&ledger).await;
    }
}

#[tokio::test]
async fn pruning_takes_the_bodies_and_leaves_what_happened() {
    let ledger = TestLedger::new().await;
    let id = only_id(&ledger.post(&operation(CALL, OPERATION, "completed")).await.unwrap());
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    assert_eq!(prune(&ledger.options, Timestamp::UNIX_EPOCH, false).await.unwrap(), 0);
    assert_eq!(prune(&ledger.options, later, true).await.unwrap(), 1);
    assert!(ledger.reader().delivery_of(id).await.unwrap().unwrap().body.is_some(), "a dry run takes nothing");
    assert_eq!(prune(&ledger.options, later, false).await.unwrap(), 1);
    assert_eq!(prune(&ledger.options, later, false).await.unwrap(), 0);
    assert!(ledger.reader().delivery_of(id).await.unwrap().unwrap().body.is_none());
    assert_eq!(operations_of(ledger.reader(), CALL).await[0].state, State::Completed);
    is_sound(&ledger).await;
}

#[tokio::test]
async fn a_backup_made_under_load_holds_everything_acknowledged_before_it_began() {
    let ledger = TestLedger::new().await;
    let post = |n: usize| ledger.ledger.record(&BOT, delivery(&operation(CALL, &format!("operation-{n}"), "running"), None));
    join_all((0..200).map(post)).await;
    let copy = ledger.folder.path().join("copy.db");
    let (made, _) = tokio::join!(backup(ledger.reader(), &copy), join_all((200..400).map(post)));
    made.unwrap();
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(backup(ledger.reader(), &copy).await.is_err(), "an existing file is not written over");
    assert!(matches!(open_error(&options(&copy)).await, OpenError::KeyMissing { .. }), "the key is not inside");

    std::fs::copy(key_path(ledger.path()), key_path(&copy)).unwrap();
    let (restored, _writer) = Ledger::open(options(&copy)).await.unwrap();
    let told = operations_of(restored.reader(), CALL).await;
    assert!(told.len() >= 200, "{} operations", told.len());
    assert_eq!(verify(restored.reader()).await.unwrap(), []);
}

#[tokio::test]
async fn callers_and_operators_are_told_that_the_ledger_cannot_be_written_and_that_it_can_again() {
    let app = TestApp::start().await;
    let mut other = behind(&app.ledger()).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let answered = app.post(operation(CALL, OPERATION, "completed").to_string()).await;
    assert_eq!((answered.status.as_u16(), &answered.json()["code"]), (503, &json!("ledger_unavailable")));
    assert!(answered.headers.contains_key("retry-after"));
    let ready = app.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), &ready.json()["ledger"]), (503, &json!(false)));
    other.execute("ROLLBACK").await.unwrap();
    other.close().await.unwrap();

    app.until_ready().await;
    assert_eq!(app.list("/v1/notifications").await.len(), 0, "what was refused was not kept");
    assert_eq!(app.post(operation(CALL, OPERATION, "completed").to_string()).await.status.as_u16(), 202);
}

/// A file system of its own, small enough to fill; unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", "size=2m", "tmpfs"], folder.path());
        if !mounted {
            eprintln!("skipped: a tmpfs cannot be mounted here");
        }
        mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _status = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn mount(arguments: &[&str], target: &Path) -> bool {
    let done = std::process::Command::new("mount").args(arguments).arg(target).output();
    done.is_ok_and(|output| output.status.success())
}

async fn until_writable(ledger: &Ledger) {
    for _ in 0..200 {
        if ledger.is_writable() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the ledger did not become writable again");
}

#[tokio::test]
async fn a_full_disk_is_answered_honestly_and_survived_without_a_restart() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.0.path().join("small.db");
    let (ledger, writer) = Ledger::open(options(&path)).await.unwrap();
    let post = |n: usize| ledger.record(&BOT, delivery(&operation(CALL, &format!("operation-{n}"), "running"), None));
    post(0).await.unwrap();
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 8 * 1024 * 1024]).unwrap_err();

    let (mut acknowledged, mut refused) = (1, 0);
    for n in 1..60 {
        match post(n).await {
            Ok(_) => acknowledged += 1,
            Err(RecordError::Unavailable) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0 && !ledger.is_writable());
    std::fs::remove_file(&ballast).unwrap();
    until_writable(&ledger).await;
    post(100).await.unwrap();
    assert_eq!(operations_of(ledger.reader(), CALL).await.len(), acknowledged + 1);
    assert_eq!(verify(ledger.reader()).await.unwrap(), []);
    ledger.close().await;
    writer.await.unwrap();
}

#[tokio::test]
async fn a_disk_that_turns_read_only_and_back_is_survived_without_a_restart() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (ledger, writer) = Ledger::open(options(disk.0.path().join("small.db"))).await.unwrap();
    let post = |n: usize| ledger.record(&BOT, delivery(&operation(CALL, &format!("operation-{n}"), "running"), None));
    post(0).await.unwrap();
    // Files that are open for writing keep a file system busy; a bind mount over it is read-only for new ones alone. So the
    // ledger is made to open its files anew: by a lock that costs it its connection.
    let mut lock = behind(&disk.0.path().join("small.db")).await;
    lock.execute("BEGIN IMMEDIATE").await.unwrap();
    assert!(post(1).await.is_err());
    lock.execute("ROLLBACK").await.unwrap();
    lock.close().await.unwrap();
    if mount(&["-o", "remount,ro"], disk.0.path()) {
        assert_eq!(post(2).await.unwrap_err(), RecordError::Unavailable);
        assert!(!ledger.is_writable());
        assert!(mount(&["-o", "remount,rw"], disk.0.path()));
    } else {
        eprintln!("skipped: the file system cannot be remounted read-only here");
    }
    until_writable(&ledger).await;
    post(3).await.unwrap();
    assert_eq!(operations_of(ledger.reader(), CALL).await.len(), 2);
    ledger.close().await;
    writer.await.unwrap();
}
