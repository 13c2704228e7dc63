//! Files that people write, in which one thing is wrong: data sets to build knowledge bases of, and settings. What is wrong is told, and
//! what is taken is taken as it is written.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rand::RngExt as _;
use reverie::knowledge::read_data_set;
use reverie_imaging::pictures::{self, Rgb};
use reverie_integration_tests::mutation::{self, Random, choose, documents};
use reverie_integration_tests::{Fallible, WORKSPACE};
use reverie_proto::tensor::v1::ImageFormat;
use reverie_service_kit::settings::{ServiceSettings, Sources, load_effective};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// The kinds of data sets that can be made by hand, each in a folder of its own, with the file that says what is there.
fn data_sets(place: &Path) -> Fallible<Vec<PathBuf>> {
    let image = |red| {
        let pixels = Rgb::from_fn(8, 8, |x, y| [red, x as u8 * 9, y as u8 * 9].into());
        pictures::encode(&pixels, ImageFormat::Png).map(|image| image.data.to_vec())
    };
    let (one, other) = (image(10)?, image(200)?);
    let folder = |name: &str| -> Fallible<PathBuf> {
        let folder = place.join(name);
        fs::create_dir(&folder)?;
        fs::write(folder.join("one.png"), &one)?;
        fs::write(folder.join("other.png"), &other)?;
        Ok(folder)
    };
    let entries = folder("entries")?.join("entries.jsonl");
    let line = |id: Value, file| {
        json!({
            "id": id, "caption": "a zunin", "image": file, "attribution": "me",
            "metadata": {"year": 1.5, "is": true, "kind": "a"},
        })
    };
    fs::write(&entries, format!("{}\n{}\n", line(json!("a"), "one.png"), line(json!(7), "other.png")))?;
    let lines = folder("lines")?.join("metadata.jsonl");
    let line = |file, text| json!({"file_name": file, "text": text, "year": 2001, "is": false, "none": null});
    fs::write(&lines, format!("{}\n{}\n", line("one.png", "a zunin"), line("other.png", "a leka")))?;
    let table = folder("table")?.join("metadata.csv");
    fs::write(&table, "file_name,text,year\r\none.png,\"a zunin, small\",1.5\r\nother.png,a \"\"leka,x\r\n")?;
    let captions = folder("captions")?;
    fs::write(captions.join("one.txt"), "a zunin")?;
    fs::write(captions.join("other.txt"), "a leka\n")?;
    let shards = place.join("shards");
    fs::create_dir(&shards)?;
    let shard = shards.join("000.tar");
    let mut tar = Vec::new();
    for (name, bytes) in [
        ("1.png", &one[..]),
        ("1.txt", b"a zunin"),
        ("2.png", &other[..]),
        ("2.json", br#"{"text":"a leka","id":5}"#),
    ] {
        add_to_tar(&mut tar, name, bytes)?;
    }
    tar.extend([0; 1024]);
    fs::write(&shard, tar)?;
    Ok(vec![entries, lines, table, captions.join("one.txt"), shard])
}

/// Adds a file as POSIX.1-1988 has it (ustar): a header of 512 bytes, and the bytes, filled up to 512.
fn add_to_tar(tar: &mut Vec<u8>, name: &str, bytes: &[u8]) -> Fallible<()> {
    let mut header = vec![0; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644");
    put(124, format!("{:011o}", bytes.len()).as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.write_all(&header)?;
    tar.write_all(bytes)?;
    tar.resize(tar.len().next_multiple_of(512), 0);
    Ok(())
}

/// Changes a list of lines that are JSON in one of its values, and other files in their bytes.
fn change(random: &mut Random, path: &Path, sound: &[u8]) -> Fallible<()> {
    let is_lines = path.extension().is_some_and(|ending| ending == "jsonl");
    let mut bytes = sound.to_vec();
    if is_lines && random.random_bool(0.7) {
        bytes = mutation::line(random, &String::from_utf8(bytes)?)?.into_bytes();
    } else {
        mutation::bytes(random, &mut bytes);
    }
    Ok(fs::write(path, bytes)?)
}

#[test]
fn data_sets_are_read_or_it_is_said_what_is_wrong() -> Fallible<()> {
    let (place, runtime) = (tempfile::tempdir()?, Runtime::new()?);
    let lists = data_sets(place.path())?;
    for list in &lists {
        let folder = list.parent().ok_or("no folder")?;
        let read = runtime.block_on(read_data_set(folder))?;
        assert_eq!((read.captions.len(), read.problems.len()), (2, 0), "{}: {read:?}", folder.display());
    }
    mutation::cases(1500, move |random| {
        let list = choose(random, &lists);
        let folder = list.parent().ok_or("no folder")?;
        let sound = fs::read(list)?;
        change(random, list, &sound)?;
        let read = runtime.block_on(read_data_set(folder));
        let changed = fs::read(list)?;
        fs::write(list, sound)?;
        match read {
            Err(error) => {
                let told = error.to_string();
                assert!(told.contains(&place.path().display().to_string()), "{told}");
            }
            Ok(read) => {
                // Each line, row or file that is there is either taken or told of.
                assert!(read.captions.len() <= 4 && read.captions.iter().all(|caption| !caption.is_empty()));
                assert!(read.problems.iter().all(|problem| problem.contains(": ")), "{:?}", read.problems);
                if list.extension().is_some_and(|ending| ending == "jsonl") {
                    let is_said = |line: &&[u8]| !line.trim_ascii().is_empty();
                    let lines = changed.split(|byte| *byte == b'\n').filter(is_said).count();
                    // A line may have several problems.
                    let wrong: BTreeSet<_> =
                        read.problems.iter().filter_map(|problem| problem.split([':', ',']).next()).collect();
                    assert_eq!(read.captions.len() + wrong.len(), lines, "{read:?}");
                }
            }
        }
        Ok(())
    })
}

/// Loads settings of one service from a file, and gives what they are taken for.
type Load = fn(&Path) -> Result<Value, String>;

fn load_as<S: ServiceSettings>(file: &Path) -> Result<Value, String> {
    let sources = Sources { config: Some(file.to_owned()), overrides: Vec::new() };
    let (_, taken) = load_effective::<S>(&sources).map_err(|error| error.to_string())?;
    serde_json::to_value(taken).map_err(|error| error.to_string())
}

#[test]
fn settings_are_taken_or_it_is_said_what_is_wrong() -> Fallible<()> {
    let place = tempfile::tempdir()?;
    let file = place.path().join("settings.toml");
    let common = fs::read_to_string(format!("{WORKSPACE}/crates/service-kit/src/settings/common.toml"))?;
    let services = ["pipeline", "encoder", "retrieval", "vector", "denoiser", "super-resolution"];
    let mut sound = Vec::new();
    for service in services {
        let own = fs::read_to_string(format!("{WORKSPACE}/services/{service}/settings.toml"))?;
        let text = format!("{own}\n{}", common.replace("{port}", "7100"));
        sound.push((service, toml::from_str::<Value>(&text)?));
    }
    let loads: [Load; 6] = [
        load_as::<reverie_pipeline::Settings>,
        load_as::<reverie_encoder::Settings>,
        load_as::<reverie_retrieval::Settings>,
        load_as::<reverie_vector::Settings>,
        load_as::<reverie_denoiser::Settings>,
        load_as::<reverie_super_resolution::Settings>,
    ];
    for (load, (service, sound)) in loads.iter().zip(&sound) {
        fs::write(&file, toml::to_string(sound)?)?;
        documents::check_meaning(sound, &load(&file)?, service);
    }
    mutation::cases(3000, move |random| {
        let _kept = &place;
        let at = random.random_range(0..sound.len());
        let (service, mut document) = sound[at].clone();
        mutation::document(random, &mut document);
        // TOML has no null and no document that is no table.
        let Ok(mut text) = toml::to_string(&document).map(String::into_bytes) else { return Ok(()) };
        if random.random_bool(0.2) {
            mutation::bytes(random, &mut text);
        }
        fs::write(&file, &text)?;
        match loads[at](&file) {
            Err(told) => assert!(told.starts_with("setting") && told.len() > 20, "{service}: {told}"),
            Ok(taken) => {
                let written: Value = toml::from_str(&String::from_utf8(text)?)?;
                documents::check_meaning(&written, &taken, service);
            }
        }
        Ok(())
    })
}
