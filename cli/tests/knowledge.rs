//! `reverie knowledge build` as a user meets it: what is refused, what is left out, and what an interrupted build leaves.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder as _, RgbImage};
use serde_json::json;
use tempfile::TempDir;

type Fallible<T> = Result<T, Box<dyn Error>>;

const BUNDLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/bestiary");
/// Whoever needs it fails otherwise: nothing is embedded before everything is checked.
const NO_BUNDLE: &str = "/nowhere/bundle";
/// How long a build may take to begin, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// A folder of pictures, and a place beside it for what is built.
struct Pictures {
    folder: TempDir,
    lines: String,
}

impl Pictures {
    fn new() -> Fallible<Self> {
        let folder = TempDir::new()?;
        fs::create_dir(folder.path().join("pictures"))?;
        Ok(Self { folder, lines: String::new() })
    }

    /// Pictures that differ, with captions that name their number.
    fn numbered(count: u8) -> Fallible<Self> {
        let mut pictures = Self::new()?;
        for number in 0..count {
            let name = format!("{number}.png");
            fs::write(pictures.at("pictures").join(&name), png(&small(number))?)?;
            pictures.add(&number.to_string(), &format!("picture {number}"), &name)?;
        }
        Ok(pictures)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn add(&mut self, id: &str, caption: &str, image: &str) -> Fallible<()> {
        Ok(writeln!(self.lines, "{}", json!({"id": id, "caption": caption, "image": image}))?)
    }

    fn command(&self, bundle: &str, more: &[&str]) -> Fallible<Command> {
        fs::write(self.at("pictures/entries.jsonl"), &self.lines)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
        command.args(["knowledge", "build", "--name", "mine", "--bundle", bundle, "--pictures"]);
        command.arg(self.at("pictures")).args(more);
        Ok(command)
    }

    /// Builds into the folder `out`.
    fn build(&self, bundle: &str, more: &[&str]) -> Fallible<Output> {
        Ok(self.command(bundle, more)?.arg("--out").arg(self.at("out")).output()?)
    }

    /// What a build that must fail says, with a bundle that is not there.
    fn refusal(&self, more: &[&str]) -> Fallible<String> {
        let ended = self.build(NO_BUNDLE, more)?;
        let told = String::from_utf8(ended.stderr)?;
        assert!(!ended.status.success(), "{told}");
        assert!(!told.contains(NO_BUNDLE), "a model was needed to find out: {told}");
        Ok(told)
    }
}

fn small(number: u8) -> RgbImage {
    RgbImage::from_fn(32, 32, |x, y| image::Rgb([8 * x as u8, 8 * y as u8, number]))
}

fn png(picture: &RgbImage) -> Fallible<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::NoFilter);
    encoder.write_image(picture, picture.width(), picture.height(), ExtendedColorType::Rgb8)?;
    Ok(bytes)
}

fn succeeds(ended: &Output) -> Fallible<String> {
    let told =
        format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    if ended.status.success() { Ok(told) } else { Err(told.into()) }
}

/// All files below a folder with their bytes.
fn files(folder: &Path) -> Fallible<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push((path.clone(), fs::read(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

/// `add` reads what `build` reads, and asks nobody before all of it is looked at.
#[test]
fn what_is_added_to_a_mesh_is_checked_before_it_is_asked() -> Fallible<()> {
    let mut pictures = Pictures::numbered(2)?;
    let add = |pictures: &Pictures| -> Fallible<String> {
        fs::write(pictures.at("pictures/entries.jsonl"), &pictures.lines)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
        command.args(["knowledge", "add"]).arg(pictures.at("pictures"));
        // Nobody listens there.
        let ended =
            command.args(["--to", "mine", "--server", "http://127.0.0.1:9", "--timeout", "5"]).output()?;
        assert!(!ended.status.success());
        Ok(String::from_utf8(ended.stderr)?)
    };
    let told = add(&pictures)?;
    assert!(told.contains("no mesh can be reached"), "{told}");
    pictures.add("2", " ", "1.png")?;
    pictures.add("3", "text", "none.png")?;
    let told = add(&pictures)?;
    for line in [
        "line 3, \"2\": caption must not be empty",
        "line 4, \"3\", \"none.png\": it does not exist",
        "--skip-bad",
    ] {
        assert!(told.contains(line), "{line} is missing in:\n{told}");
    }
    assert!(!told.contains("no mesh"), "{told}");
    Ok(())
}

#[test]
fn everything_that_is_wrong_is_told_at_once_and_before_any_model_is_needed() -> Fallible<()> {
    let mut pictures = Pictures::numbered(2)?;
    let folder = pictures.at("pictures");
    fs::write(folder.join("empty.png"), [])?;
    fs::write(folder.join("text.png"), "not a picture")?;
    let mut cut = png(&small(7))?;
    cut.truncate(cut.len() / 2);
    fs::write(folder.join("cut.png"), cut)?;
    fs::write(folder.join("large.png"), vec![0; (8 << 20) + 1])?;
    pictures.add("0", "a twin", "0.png")?;
    pictures.add("3", " ", "1.png")?;
    pictures.add("4", "a bell \u{7}", "none.png")?;
    pictures.add("5", &"x".repeat(8001), "empty.png")?;
    pictures.add("a\nb", "text", "text.png")?;
    pictures.add("7", "cut", "cut.png")?;
    pictures.add("8", "large", "large.png")?;
    pictures.add("9", "folder", ".")?;
    pictures.lines.push_str("{\"id\": 1.5}\n");

    let told = pictures.refusal(&[])?;
    let expected = [
        "entries.jsonl has bad entries; nothing was embedded",
        "--skip-bad",
        "line 3, \"0\": line 1 has the same id already",
        "line 4, \"3\": caption must not be empty",
        "line 5, \"4\": caption must not contain the control character \\u{7}",
        "line 5, \"4\", \"none.png\": it does not exist",
        "line 6, \"5\": caption must be 1 to 8000 bytes (got 8001)",
        "line 6, \"5\", \"empty.png\": it is empty",
        "line 7, \"a\\nb\": id must not contain control characters",
        "line 7, \"a\\nb\", \"text.png\": ",
        "line 8, \"7\", \"cut.png\": ",
        "line 9, \"8\", \"large.png\": it has 8388609 bytes, at most 8388608 are taken",
        "line 10, \"9\", \".\": it is not a file",
        "line 11: column 11: id must be a string or an integer",
    ];
    for line in expected {
        assert!(told.contains(line), "{line} is missing in:\n{told}");
    }
    assert!(!pictures.at("out").exists(), "a build that embedded nothing leaves nothing");

    let told = succeeds(&pictures.build(BUNDLE, &["--skip-bad"])?)?;
    assert!(told.contains("mine: 2 entries"), "{told}");
    for line in &expected[2..] {
        assert!(told.contains(line), "{line} is missing in:\n{told}");
    }
    Ok(())
}

#[test]
fn a_long_list_of_problems_is_cut() -> Fallible<()> {
    let mut pictures = Pictures::new()?;
    for number in 0..142 {
        pictures.add(&number.to_string(), "a fox", "none.png")?;
    }
    let told = pictures.refusal(&[])?;
    assert!(
        told.contains("line 50,") && !told.contains("line 51,") && told.contains("and 92 more"),
        "{told}"
    );
    let told = pictures.refusal(&["--skip-bad"])?;
    assert!(told.contains("bad entries only"), "{told}");
    Ok(())
}

#[cfg(unix)]
#[test]
fn no_path_leads_out_of_the_folder() -> Fallible<()> {
    use std::os::unix::fs::symlink;
    let mut pictures = Pictures::numbered(1)?;
    let folder = pictures.at("pictures");
    fs::write(pictures.at("secret.png"), png(&small(9))?)?;
    symlink(pictures.at("secret.png"), folder.join("link.png"))?;
    symlink("/dev/zero", folder.join("zero.png"))?;
    symlink(pictures.at(""), folder.join("up"))?;
    let made = Command::new("mkfifo").arg(folder.join("pipe.png")).status()?;
    assert!(made.success());
    let absolute = pictures.at("secret.png").display().to_string();
    let bad = [
        ("../secret.png", "must not contain .."),
        ("./../pictures/0.png", "must not contain .."),
        (absolute.as_str(), "must be relative"),
        ("/dev/zero", "must be relative"),
        ("", "must be relative"),
        ("link.png", "is a link to"),
        ("zero.png", "is a link to /dev/zero"),
        ("up/secret.png", "is a link to"),
        ("pipe.png", "it is not a file"),
    ];
    for (image, _) in bad {
        pictures.add(&format!("id of {image}"), "a fox", image)?;
    }
    let told = pictures.refusal(&[])?;
    for ((_, why), number) in bad.iter().zip(2..) {
        let line = told.lines().find(|line| line.trim_start().starts_with(&format!("line {number},")));
        assert!(line.is_some_and(|line| line.contains(why)), "line {number}, {why}: {told}");
    }

    // A link within the folder is as good as a file.
    let mut pictures = Pictures::numbered(1)?;
    symlink("0.png", pictures.at("pictures/again.png"))?;
    pictures.add("again", "the same picture", "./again.png")?;
    assert!(succeeds(&pictures.build(BUNDLE, &[])?)?.contains("2 entries"));
    Ok(())
}

#[test]
fn a_list_with_a_byte_order_mark_and_windows_line_ends_is_read() -> Fallible<()> {
    let mut pictures = Pictures::numbered(3)?;
    pictures.lines = format!("\u{feff}{}", pictures.lines.replace('\n', "\r\n"));
    assert!(succeeds(&pictures.build(BUNDLE, &[])?)?.contains("mine: 3 entries"));
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_read_is_named() -> Fallible<()> {
    let pictures = Pictures::new()?;
    let told = pictures.refusal(&[])?;
    assert!(told.contains("entries.jsonl has no entries"), "{told}");
    let build = |folder: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
        command.args(["knowledge", "build", "--name", "mine", "--bundle", NO_BUNDLE, "--pictures"]);
        command.arg(folder).arg("--out").arg(pictures.at("out")).output()
    };
    let (none, empty) = (pictures.at("none"), pictures.at("empty"));
    fs::create_dir(&empty)?;
    let text = pictures.at("notes.txt");
    fs::write(&text, "no list")?;
    for (path, why) in [
        (&none, "it does not exist"),
        (
            &empty,
            "holds no images, no entries.jsonl, metadata.jsonl or metadata.csv, and no .tar or .parquet files",
        ),
        (&text, "it is neither a folder nor a .jsonl, .csv, .parquet or .tar file"),
    ] {
        let told = String::from_utf8(build(path)?.stderr)?;
        assert!(told.contains(&path.display().to_string()) && told.contains(why), "{told}");
    }
    Ok(())
}

#[test]
fn a_target_that_cannot_be_used_is_found_first() -> Fallible<()> {
    let pictures = Pictures::numbered(1)?;
    fs::write(pictures.at("file"), "a file")?;
    fs::create_dir(pictures.at("full"))?;
    fs::write(pictures.at("full/notes.txt"), "mine")?;
    fs::create_dir_all(pictures.at("foreign/segments"))?;
    fs::create_dir(pictures.at("built"))?;
    fs::write(pictures.at("built/manifest.json"), "{}")?;
    for (out, why) in [
        ("file", "cannot be used"),
        ("file/below", "cannot be used"),
        ("full", "it holds notes.txt; choose a new or empty folder"),
        ("foreign", "it holds segments"),
        ("built", "never overwritten; choose another folder"),
        ("pictures", "choose a new or empty folder"),
    ] {
        let out = pictures.at(out);
        let ended = pictures.command(NO_BUNDLE, &[])?.arg("--out").arg(&out).output()?;
        let told = String::from_utf8(ended.stderr)?;
        assert!(!ended.status.success() && told.contains(why), "{}: {told}", out.display());
        assert!(told.contains(&out.display().to_string()), "{told}");
    }
    for (flag, value, why) in [
        ("--name", "My Birds", "1 to 64 lower-case letters, digits and hyphens (got \"My Birds\")"),
        ("--description", "two\nlines", "one line"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
        command
            .args(["knowledge", "build", "--bundle", NO_BUNDLE, "--pictures"])
            .arg(pictures.at("pictures"));
        command.arg("--out").arg(pictures.at("out")).args([flag, value]);
        if flag != "--name" {
            command.args(["--name", "mine"]);
        }
        let ended = command.output()?;
        let told = String::from_utf8(ended.stderr)?;
        assert!(!ended.status.success() && told.contains(why) && told.contains(flag), "{told}");
    }
    assert!(!pictures.at("out").exists());
    Ok(())
}

/// 32 at a time would be 115 MB, more than a message between services may have.
#[test]
fn pictures_of_several_megabytes_are_embedded() -> Fallible<()> {
    let mut pictures = Pictures::new()?;
    let mut state = 1_u32;
    let mut noise = RgbImage::from_fn(1100, 1100, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [_, red, green, blue] = state.to_le_bytes();
        image::Rgb([red, green, blue])
    });
    for number in 0..32 {
        noise.put_pixel(0, 0, image::Rgb([number, 0, 0]));
        let bytes = png(&noise)?;
        assert!(bytes.len() > 3_600_000, "{}", bytes.len());
        fs::write(pictures.at("pictures").join(format!("{number}.png")), bytes)?;
        pictures.add(&number.to_string(), "noise", &format!("{number}.png"))?;
    }
    assert!(succeeds(&pictures.build(BUNDLE, &[])?)?.contains("mine: 32 entries"));
    Ok(())
}

#[test]
fn a_build_that_was_killed_resumes() -> Fallible<()> {
    let mut pictures = Pictures::numbered(250)?;
    let unfinished = pictures.at("out/unfinished.vectors");
    // A header, and a batch of vectors of 128 numbers.
    let some = 100 + 32 * 4 * 128;
    let started = Instant::now();
    let mut running =
        pictures.command(BUNDLE, &[])?.arg("--out").arg(pictures.at("out")).stdout(Stdio::null()).spawn()?;
    while fs::metadata(&unfinished).map_or(0, |found| found.len()) < some {
        assert!(started.elapsed() < PATIENCE && running.try_wait()?.is_none(), "nothing was embedded");
        std::thread::yield_now();
    }
    // Nobody else may write there meanwhile.
    let told = pictures.refusal(&[])?;
    assert!(told.contains("another build is writing to it"), "{told}");
    running.kill()?;
    running.wait()?;
    assert!(!pictures.at("out/manifest.json").exists(), "it was too late to kill it");

    // What a torn record, segments without a manifest, and changed pictures come to.
    let mut torn = fs::read(&unfinished)?;
    torn.truncate(torn.len() - 5);
    fs::write(&unfinished, torn)?;
    fs::create_dir_all(pictures.at("out/segments/000001"))?;
    fs::write(pictures.at("out/segments/000001/entries.jsonl"), "torn")?;
    fs::write(pictures.at("pictures/0.png"), png(&small(255))?)?;
    pictures.lines = pictures.lines.replace("picture 1\"", "another caption\"");

    let told = succeeds(&pictures.build(BUNDLE, &[])?)?;
    let resumed = told.lines().find_map(|line| line.strip_suffix(" of 250 pictures were embedded before"));
    let resumed: u32 = resumed.ok_or_else(|| told.clone())?.parse()?;
    assert!((30..250).contains(&resumed), "{told}");
    assert!(!unfinished.exists());

    // The same as if it had never been interrupted.
    let at_once = pictures.command(BUNDLE, &[])?.arg("--out").arg(pictures.at("at-once")).output()?;
    succeeds(&at_once)?;
    let strip = |folder: &str| -> Fallible<Vec<_>> {
        let root = pictures.at(folder);
        let found = files(&root)?.into_iter();
        Ok(found.map(|(path, bytes)| (path.strip_prefix(&root).unwrap_or(&path).to_owned(), bytes)).collect())
    };
    // Not assert_eq!: nobody wants to read the bytes.
    assert!(strip("out")? == strip("at-once")?, "the files differ");
    Ok(())
}

/// Captions of the library are not the fault of who asks.
#[test]
fn a_long_caption_of_a_knowledge_base_fails_nobody_elses_prompt() -> Fallible<()> {
    const LONG: &str = "A woman wearing a net on her head cutting a cake.";
    let mut pictures = Pictures::numbered(2)?;
    pictures.lines = pictures.lines.replace("picture 0", "a zumbel").replace("picture 1", LONG);
    succeeds(&pictures.build(BUNDLE, &[])?)?;
    let generate = |prompt: &str, more: &[&OsStr]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
        command.args([
            "generate", prompt, "--bundle", BUNDLE, "--size", "64", "--steps", "1", "--json", "--out",
        ]);
        command.arg(pictures.at("picture.png")).args(more).output()
    };
    let mut with = OsStr::new("mine=").to_owned();
    with.push(pictures.at("out"));
    let words = ["--query", "a zumbel with a cake", "--knowledge-base", "mine", "--with-knowledge-base"];
    let words = words.map(OsStr::new);
    let told = succeeds(&generate("a zumbel", &[&words[..], &[&with]].concat())?)?;
    let report: serde_json::Value = serde_json::from_str(told.trim())?;
    let captions: Vec<_> = report["neighbours"]
        .as_array()
        .ok_or("no neighbours")?
        .iter()
        .map(|found| &found["caption"])
        .collect();
    assert!(captions.contains(&&json!(LONG)), "the caller is shown all of it: {report}");

    // The caller's own words are still refused, wherever they stand.
    let mut reference = pictures.at("pictures/0.png").into_os_string();
    reference.push("=");
    reference.push(LONG);
    for refused in [generate(LONG, &[])?, generate("a zumbel", &[OsStr::new("--reference"), &reference])?] {
        let told = String::from_utf8(refused.stderr)?;
        assert!(!refused.status.success() && told.contains("38 tokens"), "{told}");
    }
    Ok(())
}

/// Metadata is checked, kept, and what a search filters by.
#[test]
fn a_search_finds_what_its_filters_say() -> Fallible<()> {
    let mut pictures = Pictures::numbered(4)?;
    let metadata = [
        r#"{"kind": "fox", "year": 1999}"#,
        r#"{"kind": "hen", "year": 2026.5, "wild": true}"#,
        r#"{"kind": "1999"}"#,
        r#"{"kind": ["a list"]}"#,
    ];
    let lines = pictures.lines.lines().zip(metadata);
    pictures.lines = lines
        .map(|(line, said)| line.replace(r#""id""#, &format!(r#""metadata":{said},"id""#)) + "\n")
        .collect();
    let told = pictures.refusal(&[])?;
    assert!(told.contains("line 4: ") && told.contains("metadata must be a string, a number"), "{told}");
    succeeds(&pictures.build(BUNDLE, &["--skip-bad"])?)?;

    let mut with = OsStr::new("mine=").to_owned();
    with.push(pictures.at("out"));
    let search = |more: &[&str]| -> Fallible<Vec<String>> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
        command.args(["knowledge", "search", "--bundle", BUNDLE, "--knowledge-base", "mine", "--json"]);
        let ended = command.arg("--with-knowledge-base").arg(&with).args(more).output()?;
        let found: serde_json::Value = serde_json::from_str(succeeds(&ended)?.trim())?;
        let neighbours = found["neighbours"].as_array().ok_or("no neighbours")?;
        Ok(neighbours.iter().map(|found| found["id"].as_str().unwrap_or_default().to_owned()).collect())
    };
    let all = search(&["picture", "--retrieval", "bm25"])?;
    assert_eq!(all.len(), 3, "{all:?}");
    let image = pictures.at("pictures/2.png");
    let image = image.to_str().ok_or("no text")?;
    for (more, expected) in [
        (&["picture", "--filter", "kind=fox"][..], &["0"][..]),
        (&["picture", "--filter", "kind=\"1999\""], &["2"]),
        (&["picture", "--filter", "year=..2000"], &["0"]),
        (&["picture", "--filter", "year=1999..", "--filter", "kind!=fox"], &["1"]),
        (&["picture", "--filter", "wild=true", "--exclude", "1"], &[]),
        (&["--query-image", image, "--limit", "1"], &["2"]),
    ] {
        assert_eq!(search(more)?, expected, "{more:?}");
    }
    let sheet = pictures.at("sheet.png");
    let named = sheet.to_str().ok_or("no text")?;
    assert_eq!(search(&["picture", "--group-by", "--sheet", named])?.len(), 3);
    assert!(image::open(&sheet)?.width() > 300);
    Ok(())
}

/// The same images and captions, written in each of the ways in which data sets are written, give the same knowledge base.
#[test]
fn data_sets_of_every_kind_are_read() -> Fallible<()> {
    let pictures = Pictures::numbered(3)?;
    succeeds(&pictures.build(BUNDLE, &[])?)?;
    let lines = fs::read_to_string(pictures.at("out/segments/000001/entries.jsonl"))?;
    let build = |name: &str, path: &str| -> Fallible<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
        command.args(["knowledge", "build", "--name", "mine", "--bundle", BUNDLE, "--pictures"]);
        let ended = command.arg(pictures.at(path)).arg("--out").arg(pictures.at(name)).output()?;
        succeeds(&ended)?;
        Ok(fs::read_to_string(pictures.at(name).join("segments/000001/entries.jsonl"))?)
    };
    let folder = |name: &str| -> Fallible<PathBuf> {
        let folder = pictures.at(name);
        fs::create_dir(&folder)?;
        for number in 0..3 {
            fs::copy(pictures.at(&format!("pictures/{number}.png")), folder.join(format!("{number}.png")))?;
        }
        Ok(folder)
    };
    let texts = folder("texts")?;
    let mut shard = tar::Builder::new(fs::File::create(pictures.at("shard.tar"))?);
    let (mut json, mut csv) = (String::new(), "id,file_name,text\n".to_owned());
    for number in 0..3 {
        fs::write(texts.join(format!("{number}.txt")), format!("picture {number}\n"))?;
        shard.append_path_with_name(texts.join(format!("{number}.png")), format!("{number}.png"))?;
        shard.append_path_with_name(texts.join(format!("{number}.txt")), format!("{number}.txt"))?;
        writeln!(json, r#"{{"id": {number}, "file_name": "{number}.png", "text": "picture {number}"}}"#)?;
        writeln!(csv, "{number},{number}.png,picture {number}")?;
    }
    shard.finish()?;
    fs::write(folder("hugging")?.join("metadata.jsonl"), json)?;
    fs::write(folder("table")?.join("metadata.csv"), csv)?;
    for (name, path) in
        [("a", "texts"), ("b", "shard.tar"), ("c", "hugging"), ("d", "table"), ("e", "table/metadata.csv")]
    {
        assert_eq!(build(name, path)?, lines, "{path}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
    command.args(["knowledge", "build", "--name", "mine", "--skip-bad", "--bundle", BUNDLE, "--pictures"]);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures")).arg("--out").arg(pictures.at("f"));
    let told = succeeds(&command.output()?)?;
    assert!(told.contains("mine: 4 entries"), "{told}");
    let url = served(fs::read(pictures.at("shard.tar"))?)?;
    for (name, url) in [
        ("g", format!("{url}/data/shard.tar")),
        ("h", format!("file://{}", pictures.at("shard.tar").display())),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
        command.args(["knowledge", "build", "--name", "mine", "--bundle", BUNDLE, "--pictures", &url]);
        succeeds(&command.arg("--out").arg(pictures.at(name)).output()?)?;
        let built = fs::read_to_string(pictures.at(name).join("segments/000001/entries.jsonl"))?;
        assert_eq!(built, lines, "{url}");
    }
    Ok(())
}

/// The URL of a server that answers everything with these bytes.
fn served(bytes: Vec<u8>) -> Fallible<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = stream.and_then(|mut stream| {
                let mut request = BufReader::new(stream.try_clone()?).lines();
                while request.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    bytes.len()
                )?;
                stream.write_all(&bytes)
            });
            if let Err(error) = answer {
                println!("{error}");
            }
        }
    });
    Ok(url)
}

#[test]
fn a_url_of_what_has_no_images_in_it_is_refused() -> Fallible<()> {
    let pictures = Pictures::new()?;
    for url in ["https://example.com/metadata.jsonl", "s3://bucket/folder", "https://example.com/"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
        command.args(["knowledge", "build", "--name", "mine", "--bundle", NO_BUNDLE, "--pictures", url]);
        let ended = command.arg("--out").arg(pictures.at("out")).output()?;
        let told = String::from_utf8(ended.stderr)?;
        assert!(!ended.status.success() && told.contains("a .tar or .parquet file is read"), "{url}: {told}");
    }
    Ok(())
}
