//! The one folder outside the repository that Reverie keeps things in.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use thiserror::Error;

/// No variable says where a cache could be.
#[derive(Debug, Error)]
#[error("no home folder is known to keep a cache in: set REVERIE_CACHE_DIR to a folder")]
pub(crate) struct NoCacheFolder;

/// The cache folder: `$REVERIE_CACHE_DIR`, else `~/Library/Caches/reverie` on macOS, else `$XDG_CACHE_HOME/reverie`,
/// else `~/.cache/reverie`. It need not exist yet. The services look for ONNX Runtime by the same rule.
pub(crate) fn locate() -> Result<PathBuf, NoCacheFolder> {
    let folder = choose(|name| env::var_os(name), cfg!(target_os = "macos"))?;
    // Programs started in other folders are told about this one.
    Ok(std::path::absolute(&folder).unwrap_or(folder))
}

fn choose(variable: impl Fn(&str) -> Option<OsString>, macos: bool) -> Result<PathBuf, NoCacheFolder> {
    let folder = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let below_home = |path: &str| folder("HOME").map(|home| home.join(path));
    folder("REVERIE_CACHE_DIR")
        .or_else(|| {
            if macos {
                below_home("Library/Caches/reverie")
            } else {
                folder("XDG_CACHE_HOME")
                    .map(|xdg| xdg.join("reverie"))
                    .or_else(|| below_home(".cache/reverie"))
            }
        })
        .ok_or(NoCacheFolder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &str)], macos: bool) -> Option<PathBuf> {
        let variable =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        choose(variable, macos).ok()
    }

    #[test]
    fn the_first_variable_that_is_set_wins() {
        let all = [("REVERIE_CACHE_DIR", "/r"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(chosen(&all, false), Some("/r".into()));
        assert_eq!(chosen(&all[1..], false), Some("/x/reverie".into()));
        assert_eq!(chosen(&all[2..], false), Some("/h/.cache/reverie".into()));
        assert_eq!(chosen(&all, true), Some("/r".into()));
        assert_eq!(chosen(&all[1..], true), Some("/h/Library/Caches/reverie".into()));
        assert_eq!(chosen(&[], false), None);
    }

    #[test]
    fn an_empty_value_does_not_count() {
        let empty = [("REVERIE_CACHE_DIR", ""), ("XDG_CACHE_HOME", ""), ("HOME", "/h")];
        assert_eq!(chosen(&empty, false), Some("/h/.cache/reverie".into()));
    }
}
