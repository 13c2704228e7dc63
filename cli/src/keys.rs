//! `reverie keys`: API keys for the public door.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use rand::Rng as _;
use reverie_access::{Scope, keys};
use reverie_service_kit::say;
use toml::{Table, Value};

use crate::Failure;

/// What is done with keys.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Makes an API key: writes its digest to the file of keys, and the key itself, which nobody can see again, to standard output.
    New(New),
}

/// Makes a key.
#[derive(Debug, clap::Args)]
pub struct New {
    /// Who calls with it: shares, limits and counters are by this name, which may have several keys.
    name: String,
    /// The file of keys (access.keys of the pipeline); it is made if it is not there.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// What it opens: generate, retrieve, write or administer; may be repeated.
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<Scope>,
    /// When it ends to be valid, such as 2027-01-31T00:00:00Z [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// A knowledge base that its holder sees, the first being its default; may be repeated [default: all]
    #[arg(long = "knowledge-base", value_name = "NAME")]
    knowledge_bases: Vec<String>,
}

/// The tables of a file of keys; what cannot be read is told when the whole is checked.
fn read_entries(text: &str) -> Vec<Table> {
    let table: Table = text.parse().unwrap_or_default();
    let entries = table.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
    entries.into_iter().filter_map(|entry| entry.try_into().ok()).collect()
}

/// Runs the command.
pub fn run(command: Command) -> Result<(), Failure> {
    let Command::New(New { name, file, scopes, expires, knowledge_bases }) = command;
    let mut secret = [0; 32];
    rand::rng().fill_bytes(&mut secret);
    let key = keys::of_secret(secret);
    let list = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    let mut entry = Table::new();
    entry.insert("name".to_owned(), Value::String(name));
    entry.insert("sha256".to_owned(), Value::String(keys::digest(&key)));
    entry.insert("scopes".to_owned(), list(scopes.iter().map(ToString::to_string).collect()));
    if let Some(expires) = expires {
        entry.insert("expires".to_owned(), Value::String(expires));
    }
    if !knowledge_bases.is_empty() {
        entry.insert("knowledge_bases".to_owned(), list(knowledge_bases));
    }
    let before = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("{}: {error}", file.display()).into()),
    };
    let same = entry["name"].clone();
    if let Some(other) = read_entries(&before).into_iter().find(|other| other.get("name") == Some(&same)) {
        // Two keys of one caller have its limits.
        for shared in ["batch", "limits"] {
            if let Some(value) = other.get(shared) {
                entry.insert(shared.to_owned(), value.clone());
            }
        }
    }
    let gap = if before.is_empty() || before.ends_with("\n\n") { "" } else { "\n" };
    let table = Table::from_iter([("keys".to_owned(), Value::Array(vec![Value::Table(entry)]))]);
    let added = format!("{gap}{table}");
    keys::check(&format!("{before}{added}")).map_err(|why| format!("{}: {why}", file.display()))?;
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let told = |error| format!("{}: {error}", file.display());
    let mut opened = options.open(&file).map_err(told)?;
    opened.write_all(added.as_bytes()).and_then(|()| opened.sync_all()).map_err(told)?;
    say!("{key}")?;
    Ok(())
}
