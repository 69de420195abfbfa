//! The built binary as a child process that never outlives its test.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use callback_ledger::{auth::DevIssuer, config::DEV_AUDIENCE, domain::clock::Clock};
use serde_json::{Map, Value};

/// The binary, with nothing of this machine's configuration around it.
pub fn binary(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callback-ledger"));
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    binary(folder).args(arguments).output().unwrap()
}

/// `serve --dev` on free ports, with its ledger and its issuer's key in `folder`.
pub struct Served {
    child: Child,
    pub public: String,
    pub private: String,
}

pub fn issuer_key(folder: &Path) -> PathBuf {
    folder.join("dev-issuer.pem")
}

/// The configuration of [`Served`], also for commands that read its ledger directly.
pub fn configuration(folder: &Path) -> PathBuf {
    configuration_with(folder, "")
}

/// The same with these further sections.
pub fn configuration_with(folder: &Path, sections: &str) -> PathBuf {
    let file = folder.join("test.toml");
    let toml = format!(
        "[public]\nbind = \"127.0.0.1:0\"\n[private]\nbind = \"127.0.0.1:0\"\n[ledger]\nurl = \"sqlite://{}\"\n[dev]\nissuer_key = \"{}\"\n{sections}",
        folder.join("test.db").display(),
        issuer_key(folder).display()
    );
    std::fs::write(&file, toml).unwrap();
    file
}

impl Served {
    /// Starts, and returns once it listens.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, "")
    }

    /// Starts with these further sections.
    pub fn start_with(folder: &Path, sections: &str) -> Self {
        Self::start_at(folder, sections, "127.0.0.1:0")
    }

    /// Starts so that what it logs is in this file.
    pub fn start_logging(folder: &Path, sections: &str, log: &Path) -> Self {
        Self::start_saying(folder, sections, &[], std::fs::File::create(log).unwrap().into())
    }

    /// Starts with these variables of the configuration, without their prefix (`("PUBLIC__MAX_CONNECTIONS", "64")`), so that what it
    /// logs is in this file.
    pub fn start_limited(folder: &Path, limits: &[(&str, &str)], log: &Path) -> Self {
        Self::start_saying(folder, "", limits, std::fs::File::create(log).unwrap().into())
    }

    /// Starts with its private listener at this address.
    pub fn start_at(folder: &Path, sections: &str, private: &str) -> Self {
        Self::start_saying(folder, sections, &[("PRIVATE__BIND", private)], Stdio::null())
    }

    /// Starts with a private listener that asks everybody for a token.
    pub fn start_requiring_tokens(folder: &Path) -> Self {
        Self::start_saying(folder, "", &[("PRIVATE__REQUIRE_TOKEN", "true")], Stdio::null())
    }

    fn start_saying(folder: &Path, sections: &str, variables: &[(&str, &str)], log: Stdio) -> Self {
        let mut command = binary(folder);
        command.args(["serve", "--dev", "--config"]).arg(configuration_with(folder, sections)).stderr(log);
        command.envs(variables.iter().map(|(name, value)| (format!("CALLBACK_LEDGER__{name}"), value)));
        Self::listening(command)
    }

    /// Starts what says where it listens.
    pub fn listening(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addresses: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no addresses on stdout: {line:?}"));
        let address = |name: &str| addresses[name].as_str().unwrap().to_owned();
        Self { child, public: address("public"), private: address("private") }
    }

    /// Starts so that it is killed as its thread begins its `nth` sync of the disk; `None` if that was before it listened. `Err` says
    /// why nobody can do that here.
    pub fn start_to_be_killed(folder: &Path, sections: &str, nth: usize) -> Result<Option<Self>, String> {
        let file = configuration_with(folder, sections);
        let mut command = Command::new("strace");
        command.current_dir(folder).env_clear().stdin(Stdio::null()).args(["-f", "-qq", "-o", "/dev/null"]);
        command.args(["-e", "trace=fsync,fdatasync", "-e", &format!("inject=fsync,fdatasync:signal=SIGKILL:when={nth}")]);
        command.arg(env!("CARGO_BIN_EXE_callback-ledger")).args(["serve", "--dev", "--config"]).arg(file);
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| format!("strace cannot be run: {error}"))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            let ended = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            return if said.contains("strace:") { Err(said.into_owned()) } else { Ok(None) };
        }
        // what it says from now on nobody reads
        drop(child.stderr.take());
        let addresses: Value = serde_json::from_str(&line).unwrap();
        let address = |name: &str| addresses[name].as_str().unwrap().to_owned();
        Ok(Some(Self { public: address("public"), private: address("private"), child }))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn sigkill(mut self) {
        kill_children(&self.child);
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end in good order, and says how it did and how long it took.
    pub fn sigterm(mut self) -> (Option<i32>, Duration) {
        let asked = Instant::now();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        (status.code(), asked.elapsed())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        kill_children(&self.child);
        let _dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Sends it a SIGHUP.
pub fn hangup(served: &Served) {
    assert!(Command::new("kill").args(["-HUP", &served.child.id().to_string()]).status().unwrap().success());
}

/// The SHA-256 of a token, as the configuration wants it.
pub fn hash_of(token: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    hash.as_ref().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// Kills what a process that only watches has started.
fn kill_children(parent: &Child) {
    let pid = parent.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace() {
        let _dead = Command::new("kill").args(["-KILL", child]).status();
    }
}

/// `simulate` as a child process.
pub struct Simulated {
    child: Child,
    /// What it says of itself.
    pub told: Value,
}

impl Simulated {
    /// Starts, and returns once it listens.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child =
            binary(folder).arg("simulate").args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no address on stdout: {line:?}"));
        Self { child, told }
    }

    pub fn url(&self) -> &str {
        self.told["url"].as_str().unwrap()
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let _dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A token of the issuer that `serve --dev` believes.
pub fn token(folder: &Path) -> String {
    let issuer = DevIssuer::load_or_create(&issuer_key(folder)).unwrap();
    let mut claims = Map::new();
    claims.insert("aud".to_owned(), DEV_AUDIENCE.into());
    claims.insert("tid".to_owned(), "11111111-1111-1111-1111-111111111111".into());
    issuer.mint(claims, Clock::system().now()).unwrap()
}
