//! The ONNX Runtime library: found once, loaded once, kept for the life of the process.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::environment::Environment;

use crate::ModelError;

/// With "1", the library neither looks up a host of its maker nor writes to the home folder. It reads the variable when it is
/// loaded; `ort` could only turn its telemetry off later, when both have been prepared.
const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";
/// The version that `cargo xtask onnxruntime` fetches.
const CACHED_VERSION: &str = "1.31.1";
#[cfg(target_os = "macos")]
const LIBRARY: &str = "libonnxruntime.dylib";
#[cfg(not(target_os = "macos"))]
const LIBRARY: &str = "libonnxruntime.so";

static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();

/// The environment of this process. The first call loads the library: `library` if it is not empty, else
/// `ORT_DYLIB_PATH`, else the one in the cache folder.
pub(crate) fn environment(library: &str) -> Result<&'static Environment, ModelError> {
    static LOADING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let library = find(library)?;
    // Not set here: other threads may read the environment by now.
    if std::env::var_os(NO_TELEMETRY).is_none_or(|value| value != "1") {
        return Err(ModelError::Telemetry);
    }
    let unusable = |why: String| ModelError::Runtime { library: library.display().to_string(), why };
    let environment = ort::init_from(&library)
        .map_err(|error| unusable(error.to_string()))?
        .with_name("reverie")
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    tracing::info!(library = %library.display(), "ONNX Runtime loaded");
    Ok(ENVIRONMENT.get_or_init(|| environment))
}

fn find(setting: &str) -> Result<PathBuf, ModelError> {
    let from_environment =
        std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    let setting = Some(setting).filter(|path| !path.is_empty()).map(PathBuf::from);
    // What was asked for by name is used or refused; only the cache is a fall-back.
    let library = setting.or(from_environment).or_else(cached).unwrap_or_else(|| PathBuf::from(LIBRARY));
    if library.is_file() {
        Ok(library)
    } else {
        Err(ModelError::NoRuntime { looked_at: library.display().to_string() })
    }
}

/// Where `cargo xtask onnxruntime` keeps the library.
pub fn cached() -> Option<PathBuf> {
    let cache = reverie_storage::cache_folder()?;
    Some(cache.join(Path::new(&format!("onnxruntime-{CACHED_VERSION}"))).join(LIBRARY))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Only for a process of its own, whose environment it can be sure of: any file stands for the library, as it must not get as
    /// far as loading it.
    #[test]
    #[ignore = "run by the test below"]
    fn load_a_file() {
        let refused = environment(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).map(|_| ());
        println!("refused: {}", refused.unwrap_err());
    }

    #[test]
    fn the_library_is_not_loaded_where_it_would_call_home() {
        let told = |no_telemetry: Option<&str>| {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["runtime::tests::load_a_file", "--exact", "--ignored", "--nocapture"]);
            match no_telemetry {
                Some(value) => child.env(NO_TELEMETRY, value),
                None => child.env_remove(NO_TELEMETRY),
            };
            String::from_utf8(child.output().unwrap().stdout).unwrap()
        };
        let refusal = format!("refused: {}", ModelError::Telemetry);
        for value in [None, Some(""), Some("0"), Some("true")] {
            assert!(told(value).contains(&refusal), "{value:?}: {}", told(value));
        }
        // Then it is tried, and is no library.
        let tried = told(Some("1"));
        assert!(tried.contains("refused: ") && !tried.contains(&refusal), "{tried}");
    }

    #[test]
    fn a_library_that_is_named_and_missing_is_an_error_that_says_what_to_do() {
        let told = find("/nowhere/libonnxruntime.so").unwrap_err().to_string();
        assert!(
            told.contains("/nowhere/libonnxruntime.so") && told.contains("cargo xtask onnxruntime"),
            "{told}"
        );
    }
}
