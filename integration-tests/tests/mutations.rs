//! Files in which one thing is wrong: each is refused with a reason that names the file, or means what it says. Nothing panics,
//! hangs or takes much memory.

use std::fs;
use std::path::{Path, PathBuf};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use reverie_access::{Access, AccessSettings, TokenSettings};
use reverie_imaging::Encoded;
use reverie_imaging::pictures::{self, Rgb};
use reverie_integration_tests::folders::{self, Copy};
use reverie_integration_tests::mutation::{self, Random, choose, documents};
use reverie_integration_tests::{BUNDLE, Fallible, WORKSPACE};
use reverie_knowledge::epoch::{
    Entry, Manifest as Epoch, Metadata, NewEpoch, Value as Said, VectorKind, Vectors, write_epoch,
};
use reverie_packages::package::{Manifest, Package, Role};
use reverie_packages::tokenizer::{Overflow, Tokenizer};
use reverie_packages::{PackageError, onnx};
use reverie_proto::tensor::v1::{Image, ImageFormat};
use reverie_storage::{FileDigest, Folder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Bundles whose packages are small enough to be read a thousand times, in a folder of their own.
fn packages() -> Fallible<(TempDir, Vec<PathBuf>)> {
    let place = tempfile::tempdir()?;
    let mut packages = Vec::new();
    for pipeline in ["stable-diffusion", "stable-diffusion-3", "retrieval", "if"] {
        let copy = Copy::of(pipeline)?;
        let request = reverie_import::Request {
            from: copy.folder(),
            size: pipeline.ne("if").then_some(32),
            ..Default::default()
        };
        let bundle = place.path().join(pipeline);
        reverie_import::import(&request, &bundle)?;
        for entry in fs::read_dir(&bundle)? {
            packages.extend(Some(entry?.path()).filter(|path| path.is_dir()));
        }
    }
    let words = place.path().join("words");
    folders::copy(&Path::new(BUNDLE).join("joint-text"), &words)?;
    packages.push(words);
    packages.sort();
    Ok((place, packages))
}

fn manifest_of(package: &Path) -> Fallible<Value> {
    Ok(toml::from_str(&fs::read_to_string(package.join("model.toml"))?)?)
}

/// Writes a file of a package, and its size and digest into `model.toml`.
fn replace(package: &Path, file: &str, bytes: &[u8]) -> Fallible<()> {
    fs::write(package.join(file), bytes)?;
    let mut manifest = manifest_of(package)?;
    let listed = manifest["files"].as_array_mut().ok_or("it lists no files")?;
    let listed = listed.iter_mut().find(|listed| listed["path"] == file).ok_or("it is not listed")?;
    *listed = serde_json::to_value(FileDigest::of(file, bytes))?;
    Ok(fs::write(package.join("model.toml"), toml::to_string(&manifest)?)?)
}

async fn load(package: &Path, role: Role) -> Result<Package, PackageError> {
    let location = package.display().to_string();
    let folder =
        Folder::open(&location).map_err(|source| PackageError::File { package: location, source })?;
    Package::load(&folder, role).await
}

/// A refusal says which file it is about.
fn check_refusal(error: &PackageError, package: &Path) {
    let (told, package) = (error.to_string(), package.display().to_string());
    assert!(told.len() > package.len() + 10 && told.contains(&package), "{told}");
}

#[test]
fn manifests_of_packages() -> Fallible<()> {
    let ((place, packages), runtime) = (packages()?, Runtime::new()?);
    mutation::cases(4000, move |random| {
        let _kept = &place;
        let package = choose(random, &packages);
        let path = package.join("model.toml");
        let sound = fs::read_to_string(&path)?;
        let role = toml::from_str::<Manifest>(&sound)?.role;
        let mut document: Value = toml::from_str(&sound)?;
        mutation::document(random, &mut document);
        // TOML has no null and no document that is no table.
        let Ok(written) = toml::to_string(&document) else { return Ok(()) };
        fs::write(&path, written)?;
        let outcome = runtime.block_on(load(package, role));
        fs::write(&path, sound)?;
        match outcome {
            Err(error) => check_refusal(&error, package),
            Ok(package) => {
                documents::check_meaning(&document, &serde_json::to_value(&package.manifest)?, "model.toml");
                if let Ok(facts) = package.diffusion() {
                    let _ = (facts.schedule(), facts.own_levels(facts.own_sample()));
                }
            }
        }
        Ok(())
    })
}

#[test]
fn graphs_of_packages() -> Fallible<()> {
    let ((place, packages), runtime) = (packages()?, Runtime::new()?);
    mutation::cases(400, move |random| {
        let _kept = &place;
        let package = choose(random, &packages);
        let manifest = fs::read_to_string(package.join("model.toml"))?;
        let facts: Manifest = toml::from_str(&manifest)?;
        let sound = fs::read(package.join(&facts.graph.file))?;
        let mut graph = sound.clone();
        mutation::message(random, &mut graph);
        replace(package, &facts.graph.file, &graph)?;
        let loaded = runtime.block_on(load(package, facts.role));
        let described = onnx::describe(&graph);
        let seen =
            runtime.block_on(Package::on_disk(&Folder::open(&package.display().to_string())?, facts.role));
        let seen = seen.and_then(|package| package.look_at_weights());
        fs::write(package.join(&facts.graph.file), sound)?;
        fs::write(package.join("model.toml"), manifest)?;
        if let Err(error) = &loaded {
            check_refusal(error, package);
        }
        if let Err(error) = &seen {
            check_refusal(error, package);
        }
        if let (Ok(loaded), Ok(described)) = (loaded, described) {
            // Whatever it names, nothing but what was verified is read.
            let listed = &loaded.manifest.graph.external_data;
            let is_listed = |named: &String| listed.iter().any(|path| path == onnx::beside_the_graph(named));
            assert!(described.external_data.iter().all(is_listed), "{:?}", described.external_data);
        }
        Ok(())
    })
}

#[test]
fn tokenizers_of_packages() -> Fallible<()> {
    let ((place, packages), runtime) = (packages()?, Runtime::new()?);
    let packages: Vec<_> = packages.into_iter().filter(|path| path.join("tokenizer.json").exists()).collect();
    assert!(packages.len() > 3);
    mutation::cases(300, move |random| {
        let _kept = &place;
        let package = choose(random, &packages);
        let manifest = fs::read_to_string(package.join("model.toml"))?;
        let facts: Manifest = toml::from_str(&manifest)?;
        let limit = facts.tokenizer.as_ref().ok_or("it has no tokenizer")?.max_tokens;
        let sound = fs::read(package.join("tokenizer.json"))?;
        let mut document: Value = serde_json::from_slice(&sound)?;
        mutation::document(random, &mut document);
        replace(package, "tokenizer.json", document.to_string().as_bytes())?;
        let outcome =
            runtime.block_on(load(package, facts.role)).and_then(|package| Tokenizer::load(&package));
        fs::write(package.join("tokenizer.json"), sound)?;
        fs::write(package.join("model.toml"), manifest)?;
        match outcome {
            Err(error) => {
                check_refusal(&error, package);
                assert!(error.to_string().contains("tokenizer.json"), "{error}");
            }
            Ok(tokenizer) => {
                for text in ["", "a small zunin, snow", "é猫\u{301} <|x|>", &"zunin ".repeat(100)] {
                    let Ok(read) = tokenizer.encode(text, Overflow::Cut) else { continue };
                    assert_eq!((read.ids.len(), read.attention_mask.len()), (limit, limit));
                    assert!(read.length <= limit);
                    assert_eq!(read, tokenizer.encode(text, Overflow::Cut)?, "it is read the same each time");
                }
            }
        }
        Ok(())
    })
}

/// A knowledge base of three entries, two of them with one vector.
async fn epoch(place: &Path) -> Fallible<()> {
    let entry = |id: &str| Entry {
        id: id.to_owned(),
        caption: format!("a {id}"),
        attribution: String::new(),
        metadata: Metadata::from([
            ("kind".to_owned(), Said::Text(id.to_owned())),
            ("year".to_owned(), Said::Number(1.5)),
        ]),
        image: id.to_owned().into(),
    };
    let vectors = Vectors { index: vec![7; 100].into(), keys: Some(vec![0, 0, 2]) };
    let epoch = NewEpoch {
        name: "creatures".to_owned(),
        description: String::new(),
        epoch: 1,
        dimension: 2,
        kind: VectorKind::F32,
        space_digest: "0".repeat(64),
        entries: ["zunin", "leka", "paru"].map(entry).to_vec(),
        vectors,
    };
    write_epoch(&Folder::open(&place.display().to_string())?, epoch).await?;
    Ok(())
}

async fn read_epoch(place: &Path) -> Result<(Epoch, Vec<Entry>), reverie_storage::StorageError> {
    let folder = Folder::open(&place.display().to_string())?;
    let epoch = Epoch::read(&folder).await?;
    let entries = epoch.read_entries(&folder).await?;
    for segment in &epoch.segments {
        let vectors = segment.read_vectors(&folder).await?;
        if let Some(keys) = &vectors.keys {
            assert_eq!(keys.len() as u64, segment.entries);
            assert!(keys.iter().all(|key| *key < segment.entries), "{keys:?}");
        }
    }
    Ok((epoch, entries))
}

/// Changes `manifest.json`, or a file that it lists, and then what it says of that file too.
fn change_epoch(random: &mut Random, place: &Path) -> Fallible<()> {
    let path = place.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let file = *choose(random, &["", "entries.jsonl", "vectors.keys"]);
    if file.is_empty() {
        mutation::document(random, &mut manifest);
        return Ok(fs::write(path, manifest.to_string())?);
    }
    let listed = manifest["segments"][0]["files"].as_array_mut().ok_or("it lists no files")?;
    let is_it = |listed: &&mut Value| listed["path"].as_str().is_some_and(|path| path.ends_with(file));
    let listed = listed.iter_mut().find(is_it).ok_or("it is not listed")?;
    let name = listed["path"].as_str().ok_or("it has no path")?.to_owned();
    let mut bytes = fs::read(place.join(&name))?;
    if file == "entries.jsonl" {
        bytes = mutation::line(random, &String::from_utf8(bytes)?)?.into_bytes();
    } else {
        mutation::bytes(random, &mut bytes);
    }
    *listed = serde_json::to_value(FileDigest::of(&name, &bytes))?;
    fs::write(place.join(name), bytes)?;
    Ok(fs::write(path, manifest.to_string())?)
}

#[test]
fn knowledge_bases() -> Fallible<()> {
    let runtime = Runtime::new()?;
    mutation::cases(600, move |random| {
        let place = tempfile::tempdir()?;
        runtime.block_on(epoch(place.path()))?;
        change_epoch(random, place.path())?;
        match runtime.block_on(read_epoch(place.path())) {
            Err(error) => {
                let (told, place) = (error.to_string(), place.path().display().to_string());
                assert!(told.contains(&place), "{told}");
            }
            Ok((epoch, entries)) => {
                let written: Value = serde_json::from_slice(&fs::read(place.path().join("manifest.json"))?)?;
                documents::check_meaning(&written, &serde_json::to_value(&epoch)?, "manifest.json");
                assert_eq!(entries.len() as u64, epoch.entries());
                let told = entries.iter().map(|entry| json!([entry.id, entry.caption, entry.attribution]));
                let lines = fs::read_to_string(place.path().join("segments/000001/entries.jsonl"))?;
                let lines = lines.lines().map(serde_json::from_str::<Value>);
                for (told, line) in told.zip(lines) {
                    let line = line?;
                    assert_eq!(told, json!([line["id"], line["caption"], line["attribution"]]));
                }
            }
        }
        Ok(())
    })
}

#[test]
fn images() -> Fallible<()> {
    let picture = Rgb::from_fn(24, 17, |x, y| [x as u8 * 9, y as u8 * 13, (x * y) as u8].into());
    let formats = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp];
    let files = formats.map(|format| pictures::encode(&picture, format).unwrap().data.to_vec());
    mutation::cases(3000, move |random| {
        let mut file = choose(random, &files).clone();
        let is_png = file == files[0];
        if is_png {
            mutation::png(random, &mut file);
        } else {
            mutation::bytes(random, &mut file);
        }
        let image = Image { data: file.into(), ..Default::default() };
        match Encoded::read(&image) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(opened) => match (opened.decode(), opened.decode_mask()) {
                (Ok(decoded), mask) => {
                    let size = opened.size();
                    assert_eq!(decoded.dimensions(), (size.width, size.height), "it is as large as it says");
                    assert_eq!(decoded, opened.decode()?, "it has the same pixels each time");
                    if let Ok(mask) = mask {
                        assert_eq!(mask.drawn().len(), (size.width * size.height) as usize);
                    }
                }
                (Err(error), _) => assert!(!error.to_string().is_empty()),
            },
        }
        Ok(())
    })
}

/// Tokens and files of keys: no other token than the one that was signed opens anything, and a file that is changed either opens the
/// same, or is refused at the start.
#[test]
fn credentials() -> Fallible<()> {
    let fixture: Value =
        serde_json::from_str(&fs::read_to_string(format!("{WORKSPACE}/crates/access/fixtures/rsa.json"))?)?;
    let folder = tempfile::tempdir()?;
    let jwks = folder.path().join("jwks.json");
    fs::write(&jwks, fixture["jwks"].to_string())?;
    let tokens = TokenSettings {
        jwks: jwks.display().to_string(),
        issuer: "https://id.example".to_owned(),
        audience: "reverie".to_owned(),
        algorithms: vec!["RS256".parse()?],
        ..TokenSettings::default()
    };
    let keys = folder.path().join("keys.toml");
    let digest = reverie_access::keys::digest("rvk_valid");
    let key_file = format!(
        "[[keys]]\nname = 'studio'\nsha256 = '{digest}'\nscopes = ['generate']\nexpires = '2999-01-01T00:00:00Z'\n"
    );
    let valid = fixture["RS256"].as_str().ok_or("no token")?.to_owned();
    let runtime = Runtime::new()?;
    mutation::cases(1000, move |random| {
        let mut token = valid.clone().into_bytes();
        mutation::bytes(random, &mut token);
        let mut file = key_file.clone().into_bytes();
        mutation::bytes(random, &mut file);
        fs::write(&keys, &file)?;
        let bearing = |credential: &[u8]| {
            let value = HeaderValue::from_bytes(&[b"Bearer ", credential].concat()).ok()?;
            Some(HeaderMap::from_iter([(AUTHORIZATION, value)]))
        };
        let of_tokens = AccessSettings { keys: PathBuf::new(), tokens: tokens.clone() };
        let of_keys = AccessSettings { keys: keys.clone(), tokens: TokenSettings::default() };
        runtime.block_on(async {
            let access = Access::start(&of_tokens, 64).await?.ok_or("it is on")?;
            if let Some(headers) = bearing(&token) {
                let is_let_in = access.admit(&headers, None).is_ok();
                assert_eq!(is_let_in, token.trim_ascii() == valid.as_bytes(), "{}", token.escape_ascii());
            }
            match Access::start(&of_keys, 64).await {
                Err(error) => assert!(error.to_string().contains("keys.toml"), "{error}"),
                Ok(access) => {
                    let access = access.ok_or("it is on")?;
                    for key in ["rvk_valid", "rvk_other", "rvk_"] {
                        let headers = bearing(key.as_bytes()).ok_or("no header")?;
                        assert!(key == "rvk_valid" || access.admit(&headers, None).is_err(), "{key}");
                    }
                }
            }
            Ok(())
        })
    })
}
