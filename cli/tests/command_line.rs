//! The `reverie` program as a user meets it.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const BUNDLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/bestiary");
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../integration-tests/fixtures/diffusers");

/// The mesh of a command that fails is drained before the process ends: no forward pass fails after the last word.
#[test]
fn the_last_word_of_a_command_that_fails_is_why() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("picture.png");
    let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
    command.args(["generate", "a small zunin on the left, snow", "--bundle", BUNDLE, "--out"]).arg(&out);
    let ended = command.args(["--size", "64", "--steps", "1000", "--timeout", "1"]).output()?;
    let told = String::from_utf8(ended.stderr)?;
    assert_eq!(ended.status.code(), Some(1), "{told}");
    let last = told.lines().last().unwrap_or_default();
    // It is given up as soon as it is known how long a step takes.
    let why = last.strip_prefix("reverie: no picture within 1 s (--timeout): the caller's deadline ");
    // It is refused, or given up if it was begun before anyone knew what a step takes; or on a busy machine, before anyone knew.
    let is_told = |why: &str| {
        why.starts_with("cannot be met: it takes ")
            || (why.starts_with("cannot be met: ") && why.ends_with(" of 1000 steps"))
            || ["passed in stage ", "cannot be met: in stage "].iter().any(|told| why.starts_with(told))
    };
    assert!(why.is_some_and(is_told), "{told}");
    assert!(!told.contains("ERROR"), "{told}");
    assert!(!out.exists());
    Ok(())
}

/// Several images of one prompt: a file for each, the same seed gives the same image alone.
#[test]
fn several_images_have_files_of_their_own() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let draw = |name: &str, more: &[&str]| -> Result<Value, Box<dyn Error>> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
        command.args(["generate", "a small zunin on the left, snow", "--bundle", BUNDLE, "--size", "64"]);
        command.args(["--steps", "2", "--json", "--out"]).arg(folder.path().join(name)).args(more);
        let ended = command.output()?;
        assert!(ended.status.success(), "{}", String::from_utf8(ended.stderr)?);
        Ok(serde_json::from_slice(&ended.stdout)?)
    };
    let sheet = folder.path().join("sheet.png");
    let sheet = sheet.to_str().ok_or("no text")?;
    let told = draw("picture.png", &["--count", "3", "--seed", "5", "--sheet", sheet])?;
    let images = told["images"].as_array().ok_or("no images")?;
    assert_eq!(images.len(), 3);
    for (number, image) in (1..).zip(images) {
        let file = folder.path().join(format!("picture-{number}.png"));
        assert_eq!(image["picture"].as_str(), file.to_str());
        assert_eq!((image["seed"].as_u64(), image["width"].as_u64()), (Some(4 + number), Some(64)));
        assert_eq!(image["base_steps"].as_array().map(Vec::len), Some(2));
        assert!(file.is_file());
    }
    assert!(Path::new(sheet).is_file() && !folder.path().join("picture.png").exists());
    assert_eq!(told["picture"], images[0]["picture"]);
    let alone = draw("alone.png", &["--seed", "6"])?;
    assert_eq!(alone["images"].as_array().map(Vec::len), Some(1));
    let bytes = |name: &str| fs::read(folder.path().join(name));
    assert_eq!(bytes("alone.png")?, bytes("picture-2.png")?);
    Ok(())
}

/// An image that comes in time instead of one that does not, and what it looks like on the way.
#[test]
fn a_smaller_image_is_told_as_such_and_estimates_are_written() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let draw = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
        command.args(["generate", "a small zunin on the left, snow", "--bundle", BUNDLE, "--seed", "5"]);
        command.args(["--allow-degraded", "--out"]).arg(at("picture.png")).arg("--step-previews");
        command.arg(at("step.png")).args(more).output()
    };
    let ended = draw(&["--size", "64", "--steps", "40", "--json"])?;
    assert!(ended.status.success(), "{}", String::from_utf8(ended.stderr)?);
    let told: Value = serde_json::from_slice(&ended.stdout)?;
    assert_eq!((&told["degraded"], &told["images"][0]["level"]), (&false.into(), &0.into()));
    assert!(at("step.png").is_file() && at("picture.png").is_file());

    let ended = Command::new(env!("CARGO_BIN_EXE_reverie"))
        .args(["generate", "a zunin", "--bundle", "/nowhere", "--step-previews", "step.jpg"])
        .output()?;
    let told = String::from_utf8(ended.stderr)?;
    assert!(told.contains("step.jpg: must have the encoding of --out, picture.png"), "{told}");
    Ok(())
}

/// Nobody has to guess what to do about a mesh that is not running.
#[test]
fn a_server_that_is_not_there_is_told_with_what_to_do() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    // Free a moment ago, and nothing listens there now.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
    let server = format!("http://127.0.0.1:{port}");
    command
        .args(["generate", "a zunin", "--server", &server, "--out"])
        .arg(folder.path().join("picture.png"));
    let ended = command.output()?;
    let told = String::from_utf8(ended.stderr)?;
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("no mesh can be reached") && told.contains(&server), "{told}");
    assert!(told.contains("`reverie serve`") && told.contains("--server"), "{told}");
    Ok(())
}

/// What cannot be written is told before the mesh starts.
#[test]
fn an_output_that_cannot_be_written_is_told_before_anything_is_drawn() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let missing = folder.path().join("missing/picture.PNG");
    let sound = folder.path().join("picture.png");
    for (command, options) in [
        ("generate", vec![("--out", &missing)]),
        ("generate", vec![("--out", &sound), ("--sheet", &missing)]),
        ("gallery", vec![("--out", &missing)]),
    ] {
        // A bundle that is not there would be the next thing to be told.
        let mut run = Command::new(env!("CARGO_BIN_EXE_reverie"));
        run.args([command, "a zunin", "--bundle", "/nowhere"]);
        for (option, path) in options {
            run.arg(option).arg(path);
        }
        let ended = run.output()?;
        let told = String::from_utf8(ended.stderr)?;
        assert_eq!(ended.status.code(), Some(1), "{told}");
        assert!(told.contains("missing/picture.PNG: there is no folder"), "{told}");
    }
    assert_eq!(fs::read_dir(folder.path())?.count(), 0);
    Ok(())
}

/// Standard output may be full or closed: neither is a panic.
#[cfg(target_os = "linux")]
#[test]
fn an_output_that_takes_no_more_ends_the_program_without_a_panic() -> Result<(), Box<dyn Error>> {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full");
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
        command.args(["models", "check", BUNDLE]);
        command
    };
    let ended = check().stdout(full()?).output()?;
    let told = String::from_utf8(ended.stderr)?;
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.starts_with("reverie: cannot write to standard output: "), "{told}");

    // The reader left: as a program that SIGPIPE ends, and without a word.
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let ended = check().stdout(writer).output()?;
    assert_eq!((ended.status.code(), String::from_utf8(ended.stderr)?), (Some(141), String::new()));

    // Nowhere to say it.
    let ended = check().stdout(full()?).stderr(full()?).status()?;
    assert_eq!(ended.code(), Some(1));
    let mut nowhere = Command::new(env!("CARGO_BIN_EXE_reverie"));
    let ended = nowhere.args(["models", "check", "/nowhere", "--log", "trace"]).stderr(full()?).status()?;
    assert_eq!(ended.code(), Some(1));
    Ok(())
}

/// Values may begin with a hyphen: what is wrong with them is said by whoever reads them.
#[test]
fn a_value_may_begin_with_a_hyphen() -> Result<(), Box<dyn Error>> {
    let nowhere = |option: &str, value: &str| -> Result<String, Box<dyn Error>> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
        let ended = command.args(["generate", "a zunin", "--bundle", "/nowhere", option, value]).output()?;
        Ok(String::from_utf8(ended.stderr)?)
    };
    for (option, value) in [
        ("--negative-prompt", "-blur"),
        ("--negative-prompt", "--blur, -noise"),
        ("--text-weight", "-1"),
        ("--neighbour-weight", "-1.5"),
        ("--interleave-ratio", "-0.5"),
        ("--guidance-rescale", "-1"),
        ("--guidance-interval", "-1..5"),
    ] {
        let told = nowhere(option, value)?;
        assert!(told.contains("/nowhere"), "{option} {value}: {told}");
    }
    for option in ["--seed", "--steps", "--neighbours"] {
        let told = nowhere(option, "-1")?;
        assert!(told.contains("invalid value '-1' for"), "{option}: {told}");
    }
    Ok(())
}

/// A value that is wrong is answered with what to write.
#[test]
fn a_wrong_value_is_told_what_to_write() -> Result<(), Box<dyn Error>> {
    for (arguments, told) in [
        (&["generate", "a zunin", "--size", "big"][..], "write a side such as 256, or WIDTHxHEIGHT"),
        (&["generate", "a zunin", "--seed", "-5"], "write a whole number, 0 to 18446744073709551615"),
        (
            &["generate", "a zunin", "--bundle", "/nowhere"],
            "root of the repository, or name another one (--bundle)",
        ),
        (
            &["serve", "--listen", "7100"],
            "must be HOST:PORT, such as 0.0.0.0:7100, [::]:7100 or localhost:7100",
        ),
        (
            &["models", "import", "--from", "diffusers", "/nowhere", "--out", "x"],
            "/nowhere: there is no such folder",
        ),
    ] {
        let ended = Command::new(env!("CARGO_BIN_EXE_reverie")).args(arguments).output()?;
        let said = String::from_utf8(ended.stderr)?;
        assert!(!ended.status.success() && said.contains(told), "{arguments:?}: {said}");
    }
    Ok(())
}

/// Who asked wrongly reads it once: no log of the mesh in the same process comes before.
#[test]
fn a_refusal_is_told_once() -> Result<(), Box<dyn Error>> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
    command.args(["generate", "a zunin", "--bundle", BUNDLE, "--knowledge-base", "birds", "--out", "x.png"]);
    let told = String::from_utf8(command.output()?.stderr)?;
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("there is no knowledge base \"birds\""), "{told}");
    Ok(())
}

/// Runs the program, which must succeed, and gives what it told.
fn told(arguments: &[&OsStr]) -> Result<String, Box<dyn Error>> {
    let ended = Command::new(env!("CARGO_BIN_EXE_reverie")).args(arguments).output()?;
    let error = String::from_utf8(ended.stderr)?;
    if !ended.status.success() {
        return Err(format!("{arguments:?}: {error}").into());
    }
    Ok(String::from_utf8(ended.stdout)?)
}

/// A file of weights with one NaN in it is whole, and no model.
#[test]
fn weights_that_are_no_numbers_are_found() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let (pipeline, bundle) = (folder.path().join("flux"), folder.path().join("bundle"));
    let weights = Path::new("transformer/model.onnx_data");
    for part in fs::read_dir(Path::new(FIXTURES).join("flux"))? {
        let part = part?;
        if part.file_type()?.is_dir() {
            fs::create_dir_all(pipeline.join(part.file_name()))?;
            for file in fs::read_dir(part.path())? {
                let file = file?;
                fs::copy(file.path(), pipeline.join(part.file_name()).join(file.file_name()))?;
            }
        } else {
            fs::copy(part.path(), pipeline.join(part.file_name()))?;
        }
    }
    let mut bytes = fs::read(pipeline.join(weights))?;
    bytes[4096..4100].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(pipeline.join(weights), bytes)?;
    let words = |text: &'static str| text.split(' ').map(OsStr::new);
    let import: Vec<&OsStr> = words("models import --size 32 --from diffusers")
        .chain([pipeline.as_os_str(), OsStr::new("--out"), bundle.as_os_str()])
        .collect();
    told(&import)?;
    let check: Vec<&OsStr> = words("models check").chain([bundle.as_os_str()]).collect();
    let refusal = told(&check).err().ok_or("it should not be sound")?.to_string();
    assert!(refusal.contains("denoiser: weights of model.onnx are no numbers: "), "{refusal}");
    assert!(refusal.contains("(1 NaN). Export the model anew"), "{refusal}");
    Ok(())
}

/// From a pipeline of diffusers to an image with reference images of one's own.
#[test]
fn models_of_other_makers_are_imported_tried_out_and_drawn_with() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).into_os_string();
    let (bundle, knowledge, picture) = (at("bundle"), at("knowledge"), at("picture.png"));
    let pipeline = Path::new(FIXTURES).join("retrieval");
    let words = |text: &'static str| text.split(' ').map(OsStr::new);

    let import: Vec<&OsStr> = words("models import --size 32 --license MIT --from diffusers")
        .chain([pipeline.as_os_str(), OsStr::new("--out"), &bundle])
        .collect();
    let imported = told(&import)?;
    assert!(imported.starts_with("RDMPipeline is now the bundle"), "{imported}");
    assert!(!imported.contains("note:"), "{imported}");

    let check: Vec<&OsStr> = words("models check --json").chain([bundle.as_os_str()]).collect();
    let checked: Value = serde_json::from_str(&told(&check)?)?;
    let packages = checked["packages"].as_array().ok_or("no packages")?;
    assert_eq!((packages.len(), checked["provider"].as_str()), (7, Some("cpu")));
    let denoiser = packages.iter().find(|package| package["folder"] == "denoiser").ok_or("no denoiser")?;
    assert_eq!(denoiser["output_shapes"]["prediction"], serde_json::json!([1, 4, 16, 16]));
    assert!(denoiser["row_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));

    // Pictures of one's own, searched by the imported encoders.
    let pictures = folder.path().join("pictures");
    fs::create_dir(&pictures)?;
    let mut entries = String::new();
    for number in 0..4 {
        let name = format!("neighbour-{number}.png");
        fs::copy(pipeline.join("reference").join(&name), pictures.join(&name))?;
        writeln!(entries, r#"{{"id": "{number}", "caption": "picture {number}", "image": "{name}"}}"#)?;
    }
    fs::write(pictures.join("entries.jsonl"), entries)?;
    // A folder is named by its path or by its URL.
    let url = OsString::from(format!("file://{}", pictures.display()));
    let build: Vec<&OsStr> = words("knowledge build --name mine --pictures")
        .chain([&url, OsStr::new("--out"), &knowledge, OsStr::new("--bundle"), &bundle])
        .collect();
    assert!(told(&build)?.contains("4 entries"));
    let mut with = OsString::from("mine=");
    with.push(&knowledge);
    let draw: Vec<&OsStr> =
        words("generate --steps 4 --seed 7 --json --retrieval embedding --neighbours 3 house --bundle")
            .chain([
                bundle.as_os_str(),
                OsStr::new("--with-knowledge-base"),
                &with,
                OsStr::new("--out"),
                &picture,
            ])
            .collect();
    let drawn: Value = serde_json::from_str(&told(&draw)?)?;
    assert_eq!(drawn["neighbours"].as_array().map(Vec::len), Some(3), "{drawn}");
    assert_eq!((drawn["width"].as_u64(), drawn["knowledge_base"].as_str()), (Some(32), Some("mine")));
    assert!(fs::metadata(&picture)?.len() > 0);
    Ok(())
}

/// A caller that exchanges its key keeps its limits; the key is told once, and is not in the file.
#[test]
fn a_second_key_of_a_caller_has_its_limits() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("keys.toml");
    let new = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
        command.args(["keys", "new", "studio", "--scope", "generate", "--file"]).arg(&file).args(arguments);
        command.output()
    };
    let first = new(&["--expires", "2999-01-31T00:00:00Z", "--knowledge-base", "birds"])?;
    assert!(first.status.success(), "{first:?}");
    let mut text = std::fs::read_to_string(&file)?;
    text.push_str("\n[keys.limits]\nin_flight = 3\n");
    std::fs::write(&file, &text)?;
    let second = new(&[])?;
    assert!(second.status.success(), "{second:?}");
    let text = std::fs::read_to_string(&file)?;
    assert_eq!(text.matches("in_flight = 3").count(), 2, "{text}");
    for made in [first, second] {
        let key = String::from_utf8(made.stdout)?.trim().to_owned();
        assert!(key.len() == 68 && key.starts_with("rvk_") && !text.contains(&key[4..]), "{key}");
    }
    let wrong = new(&["--expires", "soon"])?;
    assert!(!wrong.status.success() && std::fs::read_to_string(&file)? == text);
    Ok(())
}
