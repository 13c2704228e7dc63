//! A service whose models are not what they should be does not start, and says which file it is and what to do.

use std::fs;
use std::path::Path;
use std::time::Duration;

use reverie_integration_tests::{BUNDLE, Fallible, processes};
use tempfile::TempDir;

/// How long a refusal may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn an_altered_graph_is_refused_by_name() -> Fallible<()> {
    let cases = [
        ("denoiser", "base-64/model.onnx"),
        ("denoiser", "neighbour-encoder/model.onnx"),
        ("encoder", "text-encoder/model.onnx"),
        ("encoder", "joint-text/tokenizer.json"),
        ("super-resolution", "super-resolution-1024/model.onnx"),
    ];
    for (service, file) in cases {
        let bundle = copy_of_the_bundle()?;
        alter(&bundle.path().join(file))?;
        let said = refusal(service, &[at(&bundle)]).await?;
        assert!(said.contains(file) && said.contains("SHA-256"), "{service}: {said}");
        assert!(said.contains("fetch or publish it again"), "{service}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_file_is_named() -> Fallible<()> {
    let cases = [
        ("denoiser", "base-64/model.onnx"),
        ("encoder", "joint-image/model.toml"),
        ("super-resolution", "bundle.toml"),
    ];
    for (service, file) in cases {
        let bundle = copy_of_the_bundle()?;
        fs::remove_file(bundle.path().join(file))?;
        let said = refusal(service, &[at(&bundle)]).await?;
        assert!(said.contains(file) && said.contains("does not exist"), "{service}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_graph_that_is_not_what_its_manifest_says_is_refused() -> Fallible<()> {
    let cases = [
        // Service, package, what is changed in its model.toml, and the tensor that is to be named.
        ("denoiser", "base-64", r#"["batch", 3, 64, 64]"#, r#"["batch", 3, 64, 65]"#, "input x"),
        ("denoiser", "base-64", "name = \"timestep\"", "name = \"time\"", "\"time\""),
        ("encoder", "text-encoder", r#"["batch", 32, 128]"#, r#"["batch", 32, 256]"#, "text_tokens"),
        ("encoder", "joint-text", r#"dtype = "i64""#, r#"dtype = "f32""#, "in the graph"),
        (
            "super-resolution",
            "super-resolution-256",
            "\"batch\", 3, 256, 256",
            "\"batch\", 4, 256, 256",
            "input",
        ),
    ];
    for (service, package, from, to, named) in cases {
        let bundle = copy_of_the_bundle()?;
        let path = bundle.path().join(package).join("model.toml");
        let text = fs::read_to_string(&path)?;
        assert!(text.contains(from), "{package} has no {from}");
        fs::write(&path, text.replacen(from, to, 1))?;
        let said = refusal(service, &[at(&bundle)]).await?;
        assert!(said.contains(package) && said.contains("model.toml"), "{service}, {to}: {said}");
        assert!(said.contains(named), "{service}, {to}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn an_altered_knowledge_base_is_refused_by_name() -> Fallible<()> {
    let cases = [("retrieval", "entries.jsonl"), ("retrieval", "images.pack"), ("vector", "vectors.usearch")];
    for (service, part) in cases {
        let bundle = copy_of_the_bundle()?;
        let knowledge = bundle.path().join("knowledge/creatures");
        alter(&knowledge.join("segments/000001").join(part))?;
        let setting = format!("knowledge_bases.creatures={}", knowledge.display());
        let said = refusal(service, &[setting]).await?;
        assert!(said.contains(part) && said.contains("SHA-256"), "{service}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_onnx_runtime_is_named_with_what_to_do() -> Fallible<()> {
    let nowhere = "/nowhere/libonnxruntime.so";
    for service in ["denoiser", "encoder", "super-resolution"] {
        let said = refusal(service, &[format!("inference.onnxruntime_library={nowhere}")]).await?;
        assert!(said.contains(nowhere) && said.contains("cargo xtask onnxruntime"), "{service}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_provider_that_does_not_start_is_no_silent_fall_back() -> Fallible<()> {
    // Where there is a GPU, it may well start.
    if Path::new("/dev/nvidia0").exists() {
        return Ok(());
    }
    for service in ["denoiser", "encoder", "super-resolution"] {
        for provider in ["cuda", "tensorrt", "openvino"] {
            let said = refusal(service, &[format!("inference.provider={provider}")]).await?;
            let expected = format!("execution provider {provider} does not start: ");
            assert!(said.contains(&expected), "{service}: {said}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_setting_is_named() -> Fallible<()> {
    for (service, setting, key) in [
        ("denoiser", "lane.max_jobs=0", "lane.max_jobs: must be at least 1 (got 0)"),
        ("super-resolution", "lane.max_jobs=0", "lane.max_jobs: must be at least 1 (got 0)"),
        ("encoder", "lane.stall_seconds=0", "lane.stall_seconds: must be above 0"),
        ("autoencoder", "lane.stall_seconds=-1", "lane.stall_seconds: must be above 0"),
        ("denoiser", "progress.max_events=0", "progress.max_events: must be at least 1 (got 0)"),
        ("encoder", "inference.provider=abacus", "inference.provider"),
        ("pipeline", "defaults.neighbours=9", "defaults.neighbours"),
        ("retrieval", "stages.encodre=http://127.0.0.1:1", "encodre"),
        ("super-resolution", "telemetry.log_format=loud", "telemetry.log_format"),
        ("vector", "server.listen=everywhere", "server.listen"),
    ] {
        let said = refusal(service, &[setting.to_owned()]).await?;
        assert!(said.contains(key), "{service}: {said}");
    }
    Ok(())
}

/// What the service says on standard error when it does not start.
async fn refusal(service: &str, settings: &[String]) -> Fallible<String> {
    let run = processes::command(service, settings)?.output();
    let ended = tokio::time::timeout(PATIENCE, run)
        .await
        .map_err(|_| format!("{service} serves with {settings:?}"))??;
    let said = String::from_utf8(ended.stderr)?;
    assert_eq!(ended.status.code(), Some(1), "{service} with {settings:?}: {said}");
    Ok(said)
}

fn at(bundle: &TempDir) -> String {
    format!("inference.bundle={}", bundle.path().display())
}

/// Turns one bit of the file over.
fn alter(file: &Path) -> Fallible<()> {
    let mut bytes = fs::read(file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(fs::write(file, bytes)?)
}

fn copy_of_the_bundle() -> Fallible<TempDir> {
    let copy = TempDir::new()?;
    copy_folder(Path::new(BUNDLE), copy.path())?;
    Ok(copy)
}

fn copy_folder(from: &Path, to: &Path) -> Fallible<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &place)?;
        } else {
            fs::copy(entry.path(), place)?;
        }
    }
    Ok(())
}
