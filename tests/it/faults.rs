//! The n-th write, sync, truncation or opening of the ledger's files fails, in the real process, under load: no false yes, honest
//! answers, and back again without a restart.
//!
//! `strace` makes the system calls fail, from readiness on; `CALLBACK_LEDGER_FAULTS=200` lets each of the first 200 be the one (a
//! sample unless told).

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use callback_ledger::store::{LedgerReader, rebuild, verify};
use futures_util::{StreamExt, stream};
use reqwest::Client;
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::{
    kill::holds,
    support::{
        child::{Served, token},
        ledger::options,
        load::{Acknowledged, Load},
    },
};

/// Longer than anything takes, on a machine that has hardly any time for us.
const PATIENCE: Duration = Duration::from_mins(10);

/// Faults that one ledger goes through: each is checked against all that it ever acknowledged, which grows.
const FAULTS_A_LEDGER: usize = 8;
/// Ledgers at the same time: much of each one's time goes by in waiting until it finds out that it can be written again.
const LEDGERS_AT_ONCE: usize = 4;

/// A way to fail: the calls, from the how-manieth on, and whether the ledger can go on without them.
#[derive(Clone, Copy)]
struct Fault {
    calls: &'static str,
    error: &'static str,
    nth: usize,
    /// Calls that fail once, so that the others are made at all.
    first: Option<&'static str>,
    /// What fails is only convenience: the ledger stays writable.
    harmless: bool,
}

fn faults() -> Vec<Fault> {
    let long: Option<usize> = std::env::var("CALLBACK_LEDGER_FAULTS").ok().and_then(|text| text.parse().ok());
    let mut faults = Vec::new();
    for (calls, sample, first, harmless) in [
        ("pwrite64", &[1, 2, 9, 40][..], None, false),
        ("fsync,fdatasync", &[1, 5], None, false),
        ("openat", &[1], Some("fsync,fdatasync"), false),
        ("ftruncate", &[1], None, true),
    ] {
        for error in ["EIO", "ENOSPC"] {
            let all: Vec<usize> = (1..=long.unwrap_or(0)).collect();
            // of openings and truncations there are few
            let rare = matches!(calls, "openat" | "ftruncate");
            let nth = if long.is_some() && !rare { &all[..] } else { sample };
            faults.extend(nth.iter().map(|nth| Fault { calls, error, nth: *nth, first, harmless }));
        }
    }
    faults
}

/// `strace` on a running process; what it makes fail no longer does once this is gone.
struct Strace {
    child: Child,
    trace: PathBuf,
}

impl Strace {
    /// Attaches; `Err` says why nobody can do that here.
    fn attach(pid: u32, ledger: &Path, fault: &Fault) -> Result<Self, String> {
        let trace = ledger.with_extension("trace");
        let _old = std::fs::remove_file(&trace);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-p", &pid.to_string(), "-o"]).arg(&trace);
        for suffix in ["", "-wal", "-shm"] {
            let mut path = ledger.as_os_str().to_owned();
            path.push(suffix);
            command.arg("-P").arg(path);
        }
        let all = [Some(fault.calls), fault.first].into_iter().flatten().collect::<Vec<_>>().join(",");
        command.args(["-e", &format!("trace={all}")]);
        command.args(["-e", &format!("inject={}:error={}:when={}+", fault.calls, fault.error, fault.nth)]);
        if let Some(first) = fault.first {
            command.args(["-e", &format!("inject={first}:error=EIO:when=1")]);
        }
        let spawned = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut strace = Self { child: spawned.map_err(|error| format!("strace cannot be run: {error}"))?, trace };
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            if status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")) {
                return Ok(strace);
            }
            if strace.child.try_wait().unwrap().is_some() {
                let mut said = String::new();
                std::io::Read::read_to_string(&mut strace.child.stderr.take().unwrap(), &mut said).unwrap();
                return Err(said);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("it does not attach".to_owned())
    }

    /// How often it made a call fail.
    fn injected(&self) -> usize {
        std::fs::read_to_string(&self.trace).unwrap_or_default().matches("(INJECTED)").count()
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // asked to end it lets go; killed it might take its tracee along
        let _asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _reaped = self.child.wait();
    }
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nth_call_fails_and_nothing_acknowledged_is_lost() {
    let faults = faults();
    let ledgers = faults.chunks(FAULTS_A_LEDGER).map(<[Fault]>::to_vec);
    let mut ended = stream::iter(ledgers)
        .map(|faults| spawn_blocking(|| Handle::current().block_on(each_fails_and_nothing_acknowledged_is_lost(faults))))
        .buffer_unordered(LEDGERS_AT_ONCE);
    while let Some(held) = ended.next().await {
        if let Err(why) = held.unwrap() {
            return eprintln!("skipped: {why}");
        }
    }
}

/// `Err` says why nothing can be made to fail here.
async fn each_fails_and_nothing_acknowledged_is_lost(faults: Vec<Fault>) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let (token, path) = (token(folder.path()), folder.path().join("test.db"));
    let (next, acknowledged) = (Arc::new(AtomicUsize::new(0)), Acknowledged::default());
    // a connection that nobody has used for a while may just be closing
    let client = Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    for fault in &faults {
        let Fault { calls, error, nth, harmless, .. } = fault;
        let name = format!("{calls} {nth} {error}");
        let begun = Instant::now();
        let served = Served::start(folder.path());
        let ready = async || client.get(format!("{}/readyz", served.private)).send().await.unwrap().status() == 200;
        eventually("ready", ready).await;
        let strace = Strace::attach(served.pid(), &path, fault)?;
        let load = Load::start(&served.public, &token, &next, &acknowledged);
        eventually(&format!("{name} is made to fail"), async || strace.injected() > 0).await;
        if !harmless {
            eventually(&format!("not ready after {name}"), async || !ready().await).await;
        }
        drop(strace);
        eventually(&format!("ready again after {name}"), ready).await;
        let before = acknowledged.0.lock().unwrap().len();
        eventually(&format!("good again after {name}"), async || acknowledged.0.lock().unwrap().len() > before + 10).await;
        load.end().await;
        holds(&served.private, &acknowledged).await;
        let (code, _) = spawn_blocking(|| served.sigterm()).await.unwrap();
        assert_eq!(code, Some(0), "{name}");
        let options = options(&path);
        assert_eq!(rebuild(&options).await.unwrap(), [], "{name}");
        assert_eq!(verify(&LedgerReader::open(&options).await.unwrap()).await.unwrap(), [], "{name}");
        eprintln!("{name}: held, after {:.1?}", begun.elapsed());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_ahead_log_that_is_gone_after_a_clean_stop_takes_nothing_along() {
    let folder = tempfile::tempdir().unwrap();
    let token = token(folder.path());
    let (next, acknowledged) = (Arc::new(AtomicUsize::new(0)), Acknowledged::default());
    let served = Served::start(folder.path());
    let load = Load::start(&served.public, &token, &next, &acknowledged);
    eventually("something is acknowledged", async || acknowledged.0.lock().unwrap().len() > 50).await;
    let (code, _) = spawn_blocking(|| served.sigterm()).await.unwrap();
    load.end().await;
    assert_eq!(code, Some(0));
    for suffix in ["-wal", "-shm"] {
        let _gone = std::fs::remove_file(folder.path().join(format!("test.db{suffix}")));
    }
    let served = Served::start(folder.path());
    holds(&served.private, &acknowledged).await;
}
