//! Recorded bodies and scenarios, from files.
//!
//! A file is a body, sent as it is, or a scenario:
//! `{"title": …, "source": "graph", "steps": [{"pauseMilliseconds", "source", "headers", "body"}, …]}`. Which source a step is for
//! is said by the step, else by the scenario, else by nobody.
//! A folder with a `body.json` is a fixture, and that is its body; any other folder is all its `.json` files and folders, by name.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::failure::Failure;

/// One body to post.
#[derive(Clone, Debug)]
pub(super) struct Post {
    /// Where it is from.
    pub(super) name: String,
    /// The source that it is for, if that is said.
    pub(super) source: Option<String>,
    /// How long to wait before it.
    pub(super) pause: Duration,
    /// Headers beside the usual ones.
    pub(super) headers: BTreeMap<String, String>,
    /// Byte for byte.
    pub(super) body: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    title: String,
    #[serde(default)]
    source: Option<String>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Step {
    #[serde(default)]
    pause_milliseconds: u64,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Box<RawValue>,
}

/// The posts of a scenario, and its title.
pub(super) fn scenario(name: &str, text: &str) -> Result<(String, Vec<Post>), serde_json::Error> {
    let scenario: Scenario = serde_json::from_str(text)?;
    let (count, source) = (scenario.steps.len(), scenario.source);
    let post = |(at, step): (usize, Step)| Post {
        name: if count == 1 { name.to_owned() } else { format!("{name}#{}", at + 1) },
        source: step.source.or_else(|| source.clone()),
        pause: Duration::from_millis(step.pause_milliseconds),
        headers: step.headers,
        body: step.body.get().as_bytes().to_vec(),
    };
    Ok((scenario.title, scenario.steps.into_iter().enumerate().map(post).collect()))
}

/// Every post of these files and folders, in order.
pub(super) fn posts(paths: &[PathBuf]) -> Result<Vec<Post>, Failure> {
    let mut posts = Vec::new();
    for path in paths {
        if !path.exists() {
            return Err(Failure::usage(anyhow::anyhow!("{} does not exist", path.display())));
        }
        for file in files(path)? {
            posts.extend(read(&file)?);
        }
    }
    Ok(posts)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let body = path.join("body.json");
    if body.is_file() {
        return Ok(vec![body]);
    }
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    entries.sort();
    let wanted = |entry: &&PathBuf| entry.is_dir() || entry.extension().is_some_and(|extension| extension == "json");
    let nested = entries.iter().filter(wanted).map(|entry| files(entry)).collect::<Result<Vec<_>, _>>()?;
    Ok(nested.into_iter().flatten().collect())
}

fn read(file: &Path) -> Result<Vec<Post>, Failure> {
    let name = file.display().to_string();
    let body = std::fs::read(file).map_err(|error| anyhow::anyhow!(error).context(format!("{name} cannot be read")))?;
    if !is_scenario(&body) {
        return Ok(vec![Post { name, source: None, pause: Duration::ZERO, headers: BTreeMap::new(), body }]);
    }
    let text = String::from_utf8(body)?;
    let (_title, posts) = scenario(&name, &text)
        .map_err(|error| Failure::usage(anyhow::anyhow!(error).context(format!("{name} is not a scenario"))))?;
    Ok(posts)
}

fn is_scenario(body: &[u8]) -> bool {
    let document: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    document
        .is_some_and(|document| document.get("steps").is_some_and(serde_json::Value::is_array) && document.get("value").is_none())
}
