//! What an import refuses, and what a package refuses, before anything is handed to ONNX Runtime: none of it is loaded here.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reverie_import::{ImportError, Imported, Request};
use reverie_integration_tests::Fallible;
use reverie_integration_tests::folders::Copy;
use reverie_packages::{Bundle, PackageError};
use serde_json::json;

const SCHEDULER: &str = "scheduler/scheduler_config.json";

fn import(copy: &Copy) -> Result<Imported, ImportError> {
    let request = Request { from: copy.folder(), size: Some(32), ..Request::default() };
    reverie_import::import(&request, &copy.bundle())
}

/// Why it is refused. Nothing is left behind.
fn refusal(copy: &Copy) -> Fallible<String> {
    let refusal = import(copy).err().ok_or("it should be refused")?.to_string();
    assert!(!refusal.contains(".import-"), "it names a folder that is gone: {refusal}");
    for left in fs::read_dir(copy.place())? {
        let name = left?.file_name();
        assert!(name == "pipeline" || name == "elsewhere", "{} is left after {refusal}", name.display());
    }
    Ok(refusal)
}

/// Another scheduler, by its class: the index and the configuration name it.
fn schedule_with(copy: &Copy, class: &str) -> Fallible<()> {
    copy.change("model_index.json", |index| index["scheduler"][1] = json!(class))?;
    copy.change(SCHEDULER, |scheduler| scheduler["_class_name"] = json!(class))
}

/// Replaces bytes by as many others, everywhere.
fn patch(copy: &Copy, file: &str, from: &str, to: &str) -> Fallible<()> {
    assert_eq!(from.len(), to.len());
    let path = copy.folder().join(file);
    let mut bytes = fs::read(&path)?;
    let mut patched = 0;
    for start in 0..=bytes.len() - from.len() {
        if bytes[start..].starts_with(from.as_bytes()) {
            bytes[start..][..to.len()].copy_from_slice(to.as_bytes());
            patched += 1;
        }
    }
    assert!(patched > 0, "{file} has no {from:?}");
    Ok(fs::write(path, bytes)?)
}

#[test]
fn what_cannot_be_served_is_refused_with_the_reason() -> Fallible<()> {
    type Damage = fn(&Copy) -> Fallible<()>;
    let cases: [(&str, Damage, &str); 14] = [
        (
            "no index",
            |c| Ok(fs::remove_file(c.folder().join("model_index.json"))?),
            "optimum-cli export onnx",
        ),
        (
            "other class",
            |c| c.change("model_index.json", |v| v["_class_name"] = json!("KandinskyPipeline")),
            "_class_name is not known here; known are StableDiffusionPipeline",
        ),
        (
            "no graph",
            |c| Ok(fs::remove_file(c.folder().join("unet/model.onnx"))?),
            "unet is a part of the pipeline, and only ONNX can be imported",
        ),
        (
            "no graph at all",
            |c| Ok(fs::write(c.folder().join("unet/model.onnx"), "safetensors")?),
            "it is no ONNX file",
        ),
        (
            "input",
            |c| patch(c, "unet/model.onnx", "encoder_hidden_states", "encoder_hidden_statez"),
            "it has no tensor \"encoder_hidden_states\", only",
        ),
        (
            "other scheduler",
            |c| schedule_with(c, "DEISMultistepScheduler"),
            "choose one with --sampler (ddim, ",
        ),
        (
            "trained betas",
            |c| c.change(SCHEDULER, |v| v["trained_betas"] = json!([0.1])),
            "trained_betas must be null",
        ),
        ("betas", |c| c.change(SCHEDULER, |v| v["beta_end"] = json!(2.0)), "betas must satisfy"),
        ("flow", |c| schedule_with(c, "FlowMatchEulerDiscreteScheduler"), "the scheduler is not of the kind"),
        (
            "no tokenizer",
            |c| Ok(fs::remove_file(c.folder().join("tokenizer/vocab.json"))?),
            "neither tokenizer.json nor vocab.json",
        ),
        (
            "other tokenizer",
            |c| c.change("model_index.json", |v| v["tokenizer"][1] = json!("T5Tokenizer")),
            "this is a T5Tokenizer: save it with a tokenizer.json",
        ),
        (
            "broken merges",
            |c| Ok(fs::write(c.folder().join("tokenizer/merges.txt"), "#version\na b c\n")?),
            "joins no two tokens",
        ),
        (
            "channels",
            |c| c.change("vae_decoder/config.json", |v| v["latent_channels"] = json!(5)),
            "was fixed to 4 when it was exported, and 5 is needed",
        ),
        (
            "blocks",
            |c| c.change("vae_decoder/config.json", |v| v["block_out_channels"] = json!([])),
            "block_out_channels",
        ),
    ];
    for (name, damage, told) in cases {
        let copy = Copy::of("stable-diffusion")?;
        damage(&copy)?;
        let refusal = refusal(&copy)?;
        assert!(refusal.contains(told), "{name}: {refusal}");
    }
    Ok(())
}

#[test]
fn weights_outside_of_the_folder_are_never_read() -> Fallible<()> {
    for outside in ["../model.onnx_d", "/tmp/onnx_datas", "a/../onnx_datas"] {
        let copy = Copy::of("flux")?;
        patch(&copy, "transformer/model.onnx", "model.onnx_data", outside)?;
        let refusal = refusal(&copy)?;
        assert!(refusal.contains("is no plain file name"), "{refusal}");
    }
    let copy = Copy::of("flux")?;
    fs::remove_file(copy.folder().join("transformer/model.onnx_data"))?;
    assert!(refusal(&copy)?.contains("the graph has its weights there"));
    Ok(())
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() -> Fallible<()> {
    use std::os::unix::fs::symlink;

    let copy = Copy::of("stable-diffusion")?;
    let elsewhere = copy.place().join("elsewhere");
    for linked in ["unet/model.onnx", "vae_decoder"] {
        let path = copy.folder().join(linked);
        fs::rename(&path, &elsewhere)?;
        symlink(&elsewhere, &path)?;
        let refusal = refusal(&copy)?;
        assert!(refusal.contains("is a symbolic link; import a copy with real files"), "{refusal}");
        fs::remove_file(&path)?;
        fs::rename(&elsewhere, &path)?;
    }
    Ok(())
}

#[test]
fn nothing_is_overwritten() -> Fallible<()> {
    let copy = Copy::of("stable-diffusion")?;
    import(&copy)?;
    let before = fs::read(copy.bundle().join("bundle.toml"))?;
    let refusal = import(&copy).err().ok_or("it is there")?.to_string();
    assert!(refusal.contains("exists already"), "{refusal}");
    assert_eq!(fs::read(copy.bundle().join("bundle.toml"))?, before);
    Ok(())
}

async fn load(bundle: &Path) -> Result<(), PackageError> {
    let bundle = Bundle::open(&bundle.display().to_string()).await?;
    for (folder, role) in bundle.manifest.packages.all() {
        bundle.package(&folder, role).await?;
    }
    Ok(())
}

#[test]
fn an_altered_package_is_refused() -> Fallible<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let copy = Copy::of("flux")?;
    import(&copy)?;
    runtime.block_on(load(&copy.bundle()))?;
    let denoiser = copy.bundle().join("denoiser");
    let refusal = || runtime.block_on(load(&copy.bundle())).expect_err("it is altered").to_string();

    for file in ["model.onnx", "model.onnx_data"] {
        let path = denoiser.join(file);
        let sound = fs::read(&path)?;
        let mut altered = sound.clone();
        altered[sound.len() / 2] ^= 1;
        fs::write(&path, altered)?;
        assert!(refusal().contains("SHA-256"), "{}", refusal());
        fs::write(&path, &sound[1..])?;
        assert!(refusal().contains("bytes"), "{}", refusal());
        fs::write(&path, sound)?;
    }
    let manifest = denoiser.join("model.toml");
    let sound = fs::read_to_string(&manifest)?;
    for (from, to, told) in [
        // Not listed, so it would be looked for by ONNX Runtime itself.
        ("external_data = [\"model.onnx_data\"]", "", "not in graph.external_data"),
        ("\"model.onnx_data\"", "\"../denoiser/model.onnx_data\"", ".."),
        ("\"model.onnx_data\"", "\"/etc/hostname\"", "/etc/hostname"),
        ("downscale = 2", "downscale = 0", "out of range"),
        ("image_size = 32", "image_size = 33", "multiple"),
    ] {
        assert!(sound.contains(from), "{from}");
        fs::write(&manifest, sound.replace(from, to))?;
        assert!(refusal().contains(told), "{}", refusal());
    }
    Ok(())
}

/// A file and what is done to it.
#[derive(Debug, Clone)]
enum Damage {
    Flip(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<usize>(), 1_u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ]
}

impl Damage {
    fn to(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Flip(at, bits) => {
                let at = at % bytes.len();
                bytes[at] ^= bits;
            }
            Self::Cut(at) => bytes.truncate(at % bytes.len()),
            Self::Insert(at, inserted) => {
                let at = at % bytes.len();
                bytes.splice(at..at, inserted.iter().copied());
            }
        }
    }
}

fn fuzz(files: &[&'static str], pipeline: &str, check: impl Fn(&Copy)) -> Fallible<()> {
    let copy = Copy::of(pipeline)?;
    let mut runner = TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
    runner.run(&(prop::sample::select(files.to_vec()), damage()), |(file, damage)| {
        let path = copy.folder().join(file);
        let sound = fs::read(&path)?;
        let mut damaged = sound.clone();
        damage.to(&mut damaged);
        fs::write(&path, damaged)?;
        check(&copy);
        let _ = fs::remove_dir_all(copy.bundle());
        fs::write(&path, sound)?;
        Ok(())
    })?;
    Ok(())
}

/// Whatever an import makes of damaged files, it is a refusal or a bundle that is sound in itself.
#[test]
fn damaged_pipelines_are_refused_or_imported_whole() -> Fallible<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let files = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "unet/config.json",
        "unet/model.onnx",
        "vae_decoder/config.json",
        "vae_decoder/model.onnx",
    ];
    fuzz(&files, "stable-diffusion", |copy| {
        if import(copy).is_ok() {
            runtime.block_on(load(&copy.bundle())).unwrap();
        }
    })
}

/// `model.toml` and `bundle.toml` that are damaged are refused, or mean what they say.
#[test]
fn damaged_manifests_are_refused_or_read() -> Fallible<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let copy = Copy::of("stable-diffusion-3")?;
    import(&copy)?;
    let files: Vec<PathBuf> =
        ["bundle.toml", "denoiser/model.toml", "text-encoder-3/model.toml", "latent-decoder/model.toml"]
            .iter()
            .map(|file| copy.bundle().join(file))
            .collect();
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    runner.run(&(prop::sample::select(files), damage()), |(path, damage)| {
        let sound = fs::read(&path)?;
        let mut damaged = sound.clone();
        damage.to(&mut damaged);
        fs::write(&path, &damaged)?;
        let _ = runtime.block_on(load(&copy.bundle()));
        fs::write(&path, sound)?;
        Ok(())
    })?;
    Ok(())
}
