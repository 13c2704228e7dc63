//! ONNX Runtime's library: found in the cache and verified, or fetched, verified and put there.
//!
//! 1. `ORT_DYLIB_PATH`, when set, is the caller's choice and is used as it is.
//! 2. The cached library is used when its bytes agree with the checksum recorded beside it.
//! 3. Otherwise pip downloads the pinned wheel, its checksum is verified, and the library inside moves into the cache
//!    by renaming: another process sees a whole library or none. An altered library is replaced the same way.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cache_folder::{self, NoCacheFolder};
use crate::checksum;
use crate::python::{self, PythonError};
use crate::wheel::{OLDEST_USABLE, VERSION, Wheel};

/// The variable that names the library to load, here and in every service.
pub(crate) const ORT_DYLIB_PATH: &str = "ORT_DYLIB_PATH";

/// Why there is no ONNX Runtime to use.
#[derive(Debug, Error)]
pub(crate) enum OnnxRuntimeError {
    /// `ORT_DYLIB_PATH` holds a path at which there is no file.
    #[error("{ORT_DYLIB_PATH} names {}, which is not a file: correct it, or unset it to fetch ONNX Runtime {VERSION}", path.display())]
    NotAFile { path: PathBuf },
    /// No wheel is pinned for this machine.
    #[error(
        "no ONNX Runtime is pinned for {platform}: set {ORT_DYLIB_PATH} to a library of at least version {OLDEST_USABLE}"
    )]
    UnsupportedPlatform { platform: String },
    #[error(transparent)]
    NoCacheFolder(#[from] NoCacheFolder),
    #[error(transparent)]
    Python(#[from] PythonError),
    /// The downloaded wheel is not the pinned one.
    #[error("{wheel} is not the pinned file: its sha256 is {found}, not {pinned}; nothing was kept")]
    WrongChecksum { wheel: String, found: String, pinned: &'static str },
    /// The cache or the download could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
}

/// The path of a usable ONNX Runtime library, fetching it if need be. What happens is told on standard error.
pub(crate) fn ensure() -> Result<PathBuf, OnnxRuntimeError> {
    if let Some(chosen) = env::var_os(ORT_DYLIB_PATH).filter(|value| !value.is_empty()) {
        return callers_choice(chosen);
    }
    let c_library = if cfg!(target_env = "gnu") {
        "gnu"
    } else if cfg!(target_env = "musl") {
        "musl"
    } else {
        ""
    };
    let wheel = Wheel::for_platform(env::consts::OS, env::consts::ARCH, c_library).ok_or_else(|| {
        let platform = format!("{} {} {c_library}", env::consts::OS, env::consts::ARCH);
        OnnxRuntimeError::UnsupportedPlatform { platform: platform.trim().to_owned() }
    })?;
    let cache = cache_folder::locate()?;
    let library = cached_library(&cache, wheel);
    match state_of(&library)? {
        Cached::Verified => return Ok(library),
        Cached::Absent => {}
        Cached::Altered => {
            eprintln!("{} is not what was put there: fetching it again", library.display());
        }
    }
    eprintln!("Fetching ONNX Runtime {VERSION} ({}) with pip …", wheel.platform);
    fetch(wheel, &cache, |folder| python::download(wheel, folder))?;
    Ok(library)
}

/// The path is made absolute, since tests run in other folders than this.
fn callers_choice(value: OsString) -> Result<PathBuf, OnnxRuntimeError> {
    let path = PathBuf::from(value);
    if path.is_file() {
        Ok(std::path::absolute(&path).unwrap_or(path))
    } else {
        Err(OnnxRuntimeError::NotAFile { path })
    }
}

/// Where the services, too, look for the library.
fn cached_library(cache: &Path, wheel: &Wheel) -> PathBuf {
    cache.join(format!("onnxruntime-{VERSION}")).join(wheel.library)
}

/// The file that holds a library's checksum, beside it.
fn record_of(library: &Path) -> PathBuf {
    library.with_added_extension("sha256")
}

#[derive(Debug, PartialEq, Eq)]
enum Cached {
    Verified,
    Altered,
    Absent,
}

fn state_of(library: &Path) -> Result<Cached, OnnxRuntimeError> {
    let sha256 = match checksum::sha256_of(library) {
        Ok(sha256) => sha256,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Cached::Absent),
        Err(error) => return Err(file_error("read", library)(error)),
    };
    let record = match fs::read(record_of(library)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(file_error("read", &record_of(library))(error)),
    };
    let agrees = checksum::record_agrees(&record, &sha256, &file_name(library));
    Ok(if agrees { Cached::Verified } else { Cached::Altered })
}

/// Downloads, verifies, unpacks and puts the library in its place. Only the library and its record stay.
fn fetch(
    wheel: &Wheel,
    cache: &Path,
    download: impl FnOnce(&Path) -> Result<(), PythonError>,
) -> Result<(), OnnxRuntimeError> {
    let library = cached_library(cache, wheel);
    let home = library.parent().unwrap_or(cache);
    fs::create_dir_all(home).map_err(file_error("create the folder", home))?;
    // In the cache itself, so that the last step is a rename within one file system.
    let workbench = tempfile::Builder::new()
        .prefix(".fetching-")
        .tempdir_in(cache)
        .map_err(file_error("create a folder in", cache))?;

    // 1. The wheel, which must be the pinned one before anything looks inside.
    download(workbench.path())?;
    let file = workbench.path().join(wheel.file_name());
    let found = checksum::sha256_of(&file).map_err(file_error("read", &file))?;
    if found != wheel.sha256 {
        return Err(OnnxRuntimeError::WrongChecksum {
            wheel: wheel.file_name(),
            found,
            pinned: wheel.sha256,
        });
    }

    // 2. The library and its record.
    let unpacked = workbench.path().join("unpacked");
    python::unpack(&file, &unpacked)?;
    let fresh = unpacked.join(wheel.member);
    let sha256 = checksum::sha256_of(&fresh).map_err(file_error("read", &fresh))?;
    let fresh_record = workbench.path().join("record");
    fs::write(&fresh_record, checksum::record(&sha256, &file_name(&library)))
        .map_err(file_error("write", &fresh_record))?;

    // 3. Into place. A crash between the two leaves a library without its record, which the next run fetches again.
    fs::rename(&fresh, &library).map_err(file_error("put into place", &library))?;
    let record = record_of(&library);
    fs::rename(&fresh_record, &record).map_err(file_error("put into place", &record))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(OsStr::new("")).to_string_lossy().into_owned()
}

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OnnxRuntimeError {
    move |source| OnnxRuntimeError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux() -> &'static Wheel {
        Wheel::for_platform("linux", "x86_64", "gnu").unwrap()
    }

    #[test]
    fn the_place_in_the_cache_is_the_one_the_services_know() {
        let library = cached_library(Path::new("/cache"), linux());
        assert_eq!(library, Path::new("/cache/onnxruntime-1.31.1/libonnxruntime.so"));
        assert_eq!(record_of(&library), Path::new("/cache/onnxruntime-1.31.1/libonnxruntime.so.sha256"));
    }

    #[test]
    fn only_the_bytes_that_were_recorded_are_used() {
        let cache = tempfile::tempdir().unwrap();
        let library = cache.path().join("libonnxruntime.so");
        assert_eq!(state_of(&library).unwrap(), Cached::Absent);
        fs::write(&library, "a library").unwrap();
        assert_eq!(state_of(&library).unwrap(), Cached::Altered, "no record yet");
        let sha256 = checksum::sha256_of(&library).unwrap();
        fs::write(record_of(&library), checksum::record(&sha256, "libonnxruntime.so")).unwrap();
        assert_eq!(state_of(&library).unwrap(), Cached::Verified);
        fs::write(&library, "a librarY").unwrap();
        assert_eq!(state_of(&library).unwrap(), Cached::Altered);
    }

    #[test]
    fn a_wheel_that_is_not_the_pinned_one_leaves_nothing_behind() {
        let cache = tempfile::tempdir().unwrap();
        let wheel = linux();
        let error = fetch(wheel, cache.path(), |folder| {
            fs::write(folder.join(wheel.file_name()), "something else").unwrap();
            Ok(())
        })
        .unwrap_err();
        assert!(matches!(&error, OnnxRuntimeError::WrongChecksum { .. }), "{error}");
        assert!(error.to_string().contains(wheel.sha256), "{error}");
        assert!(!cached_library(cache.path(), wheel).exists());
        let left: Vec<_> =
            fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [format!("onnxruntime-{VERSION}").as_str()]);
    }

    #[test]
    fn the_caller_s_own_library_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("mine.so");
        fs::write(&library, "").unwrap();
        assert_eq!(callers_choice(library.clone().into()).unwrap(), library);
        let error = callers_choice(folder.path().join("absent.so").into()).unwrap_err();
        assert!(error.to_string().contains("absent.so"), "{error}");
    }
}
