//! Tokenizers of imported pipelines give the ids that transformers gives (`fixtures/diffusers/tokens.json`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use reverie_integration_tests::{Fallible, WORKSPACE, folders};
use reverie_packages::tokenizer::Overflow;
use reverie_packages::{Bundle, PackageError, Role, Tokenizer};
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Runtime;

#[derive(Deserialize)]
struct References {
    texts: Vec<String>,
    tokenizers: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    /// Folders of the same tokenizer.
    folders: Vec<String>,
    length: usize,
    pad: i64,
    /// Of each text, without padding.
    ids: Vec<Vec<i64>>,
    /// Of texts where the tokenizer in Python differs, by the number of the text.
    #[serde(default)]
    slow: BTreeMap<String, Vec<i64>>,
}

fn fixtures() -> PathBuf {
    Path::new(WORKSPACE).join("integration-tests/fixtures/diffusers")
}

/// The tokenizer of `pipeline/tokenizer…` as the bundle of the imported pipeline has it.
fn imported(folder: &str) -> Fallible<Tokenizer> {
    let (pipeline, tokenizer) = folder.split_once('/').ok_or("a folder is pipeline/tokenizer")?;
    // Super-resolution has no bundle of its own; its tokenizer is that of the pipeline before it.
    let pipeline = if pipeline == "if-super-resolution" { "if" } else { pipeline };
    let package = tokenizer.replace("tokenizer", "text-encoder").replace('_', "-");
    Ok(imported_from(&fixtures().join(pipeline), &package)??)
}

/// The tokenizer of a package of the bundle that `pipeline` is imported as, or why it is refused.
fn imported_from(pipeline: &Path, package: &str) -> Fallible<Result<Tokenizer, PackageError>> {
    let place = tempfile::tempdir()?;
    let out = place.path().join("bundle");
    let request = reverie_import::Request { from: pipeline.to_owned(), ..Default::default() };
    reverie_import::import(&request, &out)?;
    let package = Runtime::new()?.block_on(async {
        let bundle = Bundle::open(&out.display().to_string()).await?;
        bundle.package(package, Role::TextEncoder).await
    })?;
    Ok(Tokenizer::load(&package))
}

#[test]
fn ids_are_those_of_transformers() -> Fallible<()> {
    let text = fs::read_to_string(fixtures().join("tokens.json"))?;
    let References { texts, tokenizers } = serde_json::from_str(&text)?;
    let mut compared = 0;
    for reference in &tokenizers {
        for folder in &reference.folders {
            let tokenizer = imported(folder)?;
            // A pipeline that names CLIPTokenizer has the one in Python.
            let is_slow = !fixtures().join(folder).join("tokenizer.json").is_file();
            for (number, text) in texts.iter().enumerate() {
                let slow = reference.slow.get(&number.to_string()).filter(|_| is_slow);
                let expected = slow.unwrap_or(&reference.ids[number]);
                // The pipelines of IF bring a prompt to lower case before they tokenize it.
                if folder.starts_with("if") && text.to_lowercase() != *text {
                    continue;
                }
                let found = tokenizer.encode(text, Overflow::Cut)?;
                if expected.len() > found.ids.len() {
                    // The pipeline reads less than the tokenizer would give: its beginning, and the last token.
                    let (last, beginning) = found.ids.split_last().ok_or("no tokens")?;
                    assert_eq!(beginning, &expected[..beginning.len()], "{folder}: {text:?}");
                    assert_eq!(Some(last), expected.last(), "{folder}: {text:?}");
                    continue;
                }
                assert_eq!(&found.ids[..found.length], &expected[..], "{folder}: {text:?}");
                let padding = &found.ids[found.length..];
                assert!(padding.iter().all(|id| *id == reference.pad), "{folder}: {text:?}");
                compared += 1;
            }
            assert!(reference.length > 0);
        }
    }
    assert!(compared > 500, "{compared} texts");
    Ok(())
}

/// Configurations that transformers wrote before 4.34 say of tokens what two other files do.
#[test]
fn tokens_of_old_configurations_are_found() -> Fallible<()> {
    let place = tempfile::tempdir()?;
    let pipeline = place.path().join("pipeline");
    folders::copy(&fixtures().join("stable-diffusion"), &pipeline)?;
    let folder = pipeline.join("tokenizer");
    let config = folder.join("tokenizer_config.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&config)?)?;
    value.as_object_mut().ok_or("no object")?.remove("added_tokens_decoder");
    assert_eq!(value["pad_token"], "<|endoftext|>");
    fs::write(&config, value.to_string())?;
    // As in Stable Diffusion 2, whose pad_token the other file does not repeat.
    fs::write(folder.join("special_tokens_map.json"), r#"{"pad_token": "!", "eos_token": "<|endoftext|>"}"#)?;
    // What textual inversion adds.
    fs::write(folder.join("added_tokens.json"), r#"{"<cat-toy>": 604}"#)?;

    let found = imported_from(&pipeline, "text-encoder")??.encode("a <cat-toy>!", Overflow::Refuse)?;
    assert_eq!(found.ids[..5], [602, 320, 604, 0, 603]);
    assert!(found.ids[5..].iter().all(|id| *id == 0), "it pads with !");
    Ok(())
}

/// `maybe_convert_prompt` of diffusers: a concept of three vectors is three tokens, of which prompts name the first.
#[test]
fn textual_inversions_of_several_vectors_are_read_whole() -> Fallible<()> {
    let place = tempfile::tempdir()?;
    let pipeline = place.path().join("pipeline");
    folders::copy(&fixtures().join("stable-diffusion"), &pipeline)?;
    let config = pipeline.join("tokenizer/tokenizer_config.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&config)?)?;
    let added = value["added_tokens_decoder"].as_object_mut().ok_or("no object")?;
    for (id, content) in
        [(604, "<cat>"), (605, "<cat>_1"), (606, "<cat>_2"), (607, "<dog>"), (608, "<cat>_4")]
    {
        added.insert(id.to_string(), serde_json::json!({"content": content, "special": false}));
    }
    fs::write(&config, value.to_string())?;

    let tokenizer = imported_from(&pipeline, "text-encoder")??;
    let ids = |text: &str| -> Fallible<Vec<i64>> {
        let found = tokenizer.encode(text, Overflow::Refuse)?;
        Ok(found.ids[1..found.length - 1].to_vec())
    };
    let [a] = ids("a")?[..] else { return Err("a is one token".into()) };
    assert_eq!(ids("a <cat> a <dog>")?, [a, 604, 605, 606, a, 607]);
    assert_eq!(ids("<cat> <cat>")?, [604, 605, 606, 604, 605, 606]);
    assert_eq!(ids("a <dog>")?, [a, 607]);
    Ok(())
}

/// A tokenizer.json that was saved while it was trained with dropout (Provilkov et al., ACL 2020).
#[test]
fn a_text_has_the_same_tokens_whatever_the_dropout_of_training() -> Fallible<()> {
    let place = tempfile::tempdir()?;
    let pipeline = place.path().join("pipeline");
    folders::copy(&fixtures().join("stable-diffusion-xl"), &pipeline)?;
    let text = "a photograph of a small zunin wearing an enormous hat, unbelievably detailed";
    let mut found = Vec::new();
    for dropout in [Value::Null, serde_json::json!(0.5)] {
        let file = pipeline.join("tokenizer_2/tokenizer.json");
        let mut value: Value = serde_json::from_slice(&fs::read(&file)?)?;
        assert_eq!(value["model"]["type"], "BPE");
        value["model"]["dropout"] = dropout;
        fs::write(&file, value.to_string())?;
        found.push(imported_from(&pipeline, "text-encoder-2")??.encode(text, Overflow::Refuse)?);
    }
    assert_eq!(found[0], found[1]);
    Ok(())
}

/// The library panics over a table of characters that is no base64.
#[test]
fn a_broken_table_of_characters_is_refused() -> Fallible<()> {
    let place = tempfile::tempdir()?;
    let pipeline = place.path().join("pipeline");
    folders::copy(&fixtures().join("flux"), &pipeline)?;
    let file = pipeline.join("tokenizer_2/tokenizer.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&file)?)?;
    let table = &mut value["normalizer"]["normalizers"][0]["precompiled_charsmap"];
    *table = format!("={}", table.as_str().ok_or("no table")?).into();
    fs::write(&file, value.to_string())?;
    let refused = imported_from(&pipeline, "text-encoder-2")?;
    let told = refused.err().ok_or("it is read")?.to_string();
    assert!(told.contains("tokenizer.json") && told.contains("broken"), "{told}");
    Ok(())
}
