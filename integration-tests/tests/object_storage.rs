//! Object storage on real servers: what is published there is what is read, by several at once, through a cache that heals, and
//! what is wrong is told. `cargo xtask storage` builds the servers and runs these tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use reverie_integration_tests::creatures;
use reverie_integration_tests::folders::{files, holding};
use reverie_integration_tests::processes::{Process, binary, command, serve_command};
use reverie_integration_tests::servers::{BUCKET, Server, stalling, web};
use reverie_integration_tests::{BUNDLE, Fallible};
use reverie_knowledge::epoch::Entry;
use reverie_storage::{Folder, StorageError, sha256_hex};
use tempfile::TempDir;

const KNOWLEDGE: &str = "knowledge/creatures";
/// What the children of a test commit, and where.
const WRITER: &str = "REVERIE_TEST_WRITER";
const WRITES_TO: &str = "REVERIE_TEST_WRITES_TO";
const COMMITS: u64 = 25;
const PATIENCE: Duration = Duration::from_mins(2);

/// The command `reverie` with no variables of storage but those of `server`, and a cache of its own.
fn reverie(server: &Server, cache: &Path) -> Fallible<Command> {
    let mut command = Command::new(binary("reverie")?);
    let is_of_storage = |name: &str| {
        ["AWS_", "GOOGLE_", "AZURE_", "REVERIE_STORAGE"].iter().any(|kind| name.starts_with(kind))
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_storage) {
            command.env_remove(name);
        }
    }
    command.envs(server.variables.iter().cloned()).env("REVERIE_STORAGE_CACHE", cache);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

fn succeed(command: &mut Command) -> Fallible<String> {
    let ended = command.output()?;
    let told = text(&ended);
    if ended.status.success() { Ok(told) } else { Err(format!("{command:?}: {told}").into()) }
}

fn fail(command: &mut Command) -> Fallible<String> {
    let ended = command.output()?;
    if ended.status.success() { Err(format!("{command:?} went well").into()) } else { Ok(text(&ended)) }
}

fn text(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr)
}

fn publish(server: &Server, from: &str, to: &str) -> Fallible<String> {
    let cache = tempfile::tempdir()?;
    succeed(reverie(server, cache.path())?.args(["models", "publish", from, to]))
}

/// A small image of the models at `bundle`.
fn draw(server: &Server, bundle: &str, cache: &Path) -> Fallible<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("image.png");
    let mut command = reverie(server, cache)?;
    command.args(["generate", "a small zunin on the left, snow", "--bundle", bundle, "--out"]).arg(&out);
    succeed(command.args(["--seed", "5", "--size", "256", "--steps", "2"]))?;
    Ok(fs::read(out)?)
}

/// The files of the cache, which must be what they are called.
fn kept(cache: &Path) -> Fallible<Vec<PathBuf>> {
    let folder = cache.join("sha256");
    let kept = if folder.exists() { files(&folder)? } else { Vec::new() };
    for file in &kept {
        let name = file.file_name().and_then(|name| name.to_str()).ok_or("no name")?;
        assert_eq!(sha256_hex(&fs::read(file)?), name, "taken for whole");
    }
    Ok(kept)
}

/// How often versitygw was asked for the content of objects that are verified, and so may be kept.
fn downloads(server: &Server) -> Fallible<usize> {
    let log = server.log()?;
    let is_download = |line: &&str| {
        line.contains("GET")
            && !["model.toml", "bundle.toml", "manifest.json", ".sha256", "epochs", "list-type"]
                .iter()
                .any(|name| line.contains(name))
    };
    Ok(log.lines().filter(is_download).count())
}

#[test]
#[ignore = "needs the servers of `cargo xtask storage`"]
fn models_in_a_bucket_draw_the_same_image_and_are_downloaded_once() -> Fallible<()> {
    let (server, cache) = (Server::s3()?, tempfile::tempdir()?);
    let bundle = format!("{}/bundles/bestiary", server.url);
    let told = publish(&server, BUNDLE, &bundle)?;
    assert!(told.contains(" 0 were there"), "{told}");
    let told = publish(&server, BUNDLE, &bundle)?;
    assert!(told.contains(" 0 files written"), "{told}");

    let of_folder = draw(&server, BUNDLE, cache.path())?;
    assert_eq!((downloads(&server)?, kept(cache.path())?.len()), (0, 0));
    assert!(draw(&server, &bundle, cache.path())? == of_folder, "the bytes differ");
    let (downloaded, blobs) = (downloads(&server)?, kept(cache.path())?);
    assert_eq!(downloaded, blobs.len(), "a file was downloaded twice: {}", server.log()?);

    // A second start downloads nothing, and a file that was damaged meanwhile is mended.
    assert!(draw(&server, &bundle, cache.path())? == of_folder, "the bytes differ");
    assert_eq!(downloads(&server)?, downloaded);
    let damaged = blobs.iter().max_by_key(|blob| fs::metadata(blob).map_or(0, |about| about.len()));
    let damaged = damaged.ok_or("nothing is kept")?;
    let mut bytes = fs::read(damaged)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(damaged, bytes)?;
    assert!(draw(&server, &bundle, cache.path())? == of_folder, "the bytes differ");
    assert_eq!((downloads(&server)?, kept(cache.path())?), (downloaded + 1, blobs));

    // An object that lost its end is named, and nothing of it is kept.
    let graph = server.object("bundles/bestiary/base-64/model.onnx");
    let whole = fs::metadata(&graph)?.len();
    fs::OpenOptions::new().write(true).open(&graph)?.set_len(whole - 1)?;
    let fresh = tempfile::tempdir()?;
    let error = draw(&server, &bundle, fresh.path()).err().ok_or("it was drawn")?.to_string();
    let told = format!("base-64/model.onnx is damaged: it should have {whole} bytes, it has {}", whole - 1);
    assert!(error.contains(&told), "{error}");
    kept(fresh.path())?;
    // Those who have it draw on.
    assert!(draw(&server, &bundle, cache.path())? == of_folder, "the bytes differ");
    Ok(())
}

#[test]
#[ignore = "needs the servers of `cargo xtask storage`"]
fn two_processes_share_a_cache_and_download_once() -> Fallible<()> {
    let (server, cache) = (Server::s3()?, tempfile::tempdir()?);
    publish(&server, BUNDLE, &server.url)?;
    let check = || -> Fallible<Child> {
        Ok(reverie(&server, cache.path())?.args(["models", "check", &server.url]).spawn()?)
    };
    for process in [check()?, check()?] {
        let ended = process.wait_with_output()?;
        assert!(ended.status.success(), "{}", text(&ended));
    }
    assert_eq!(downloads(&server)?, kept(cache.path())?.len(), "{}", server.log()?);
    Ok(())
}

#[test]
#[ignore = "needs the servers of `cargo xtask storage`"]
fn a_killed_download_leaves_nothing_that_is_taken_for_whole() -> Fallible<()> {
    let (server, cache) = (Server::s3()?, tempfile::tempdir()?);
    publish(&server, BUNDLE, &server.url)?;
    // Smaller files pass; of a larger one, a batch is written.
    let stalling = stalling(server.address(), (1 << 20) + (1 << 16))?;
    let mut command = reverie(&server, cache.path())?;
    command.env("AWS_ENDPOINT_URL", format!("http://{stalling}"));
    let mut process = command.args(["models", "check", &server.url]).spawn()?;
    let incoming = cache.path().join("incoming");
    let begun = Instant::now();
    let has_part = || {
        let found = files(&incoming).unwrap_or_default();
        found.iter().any(|file| fs::metadata(file).is_ok_and(|about| about.len() >= 1 << 20))
    };
    while !has_part() {
        assert!(begun.elapsed() < PATIENCE, "nothing is downloaded");
        assert!(process.try_wait()?.is_none(), "{}", text(&process.wait_with_output()?));
        std::thread::sleep(Duration::from_millis(10));
    }
    process.kill()?;
    process.wait()?;
    assert!(has_part(), "nothing was left");
    kept(cache.path())?;
    let told = succeed(reverie(&server, cache.path())?.args(["models", "check", &server.url]))?;
    assert!(told.contains("are sound"), "{told}");
    Ok(())
}

#[test]
#[ignore = "needs the servers of `cargo xtask storage`"]
fn what_is_wrong_is_told_with_what_to_do() -> Fallible<()> {
    let (server, cache) = (Server::s3()?, tempfile::tempdir()?);
    publish(&server, BUNDLE, &format!("{}/bestiary", server.url))?;
    server.add_user("stranger", "stranger-secret")?;
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let nowhere = format!("http://{free}");
    let there = format!("s3://{BUCKET}/bestiary");
    let read = |url: &str, variables: &[(&str, &str)]| -> Fallible<String> {
        let copy = tempfile::tempdir()?;
        let mut command = reverie(&server, cache.path())?;
        command.envs(variables.iter().copied()).args(["models", "publish", url]).arg(copy.path());
        fail(&mut command)
    };
    for (url, variables, told) in [
        ("s3://no-such-bucket/bestiary", &[][..], "there is no such bucket"),
        ("s3://models/none", &[], "s3://models/none/bundle.toml does not exist"),
        (&there, &[("AWS_ACCESS_KEY_ID", "nobody")], "the credentials were not accepted (InvalidAccessKeyId"),
        (
            &there,
            &[("AWS_SECRET_ACCESS_KEY", "wrong")],
            "the credentials were not accepted (SignatureDoesNotMatch",
        ),
        (
            &there,
            &[("AWS_ACCESS_KEY_ID", "stranger"), ("AWS_SECRET_ACCESS_KEY", "stranger-secret")],
            "no permission (AccessDenied",
        ),
        (
            &there,
            &[("AWS_REGION", "eu-west-1")],
            "the bucket is in another region, us-east-1; set AWS_REGION",
        ),
        (&there, &[("AWS_ALLOW_HTTP", "")], "which has no TLS; set AWS_ALLOW_HTTP=true"),
        (&there, &[("AWS_ENDPOINT_URL", &nowhere)], "the server cannot be reached"),
        (
            &there,
            &[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("AWS_METADATA_ENDPOINT", &nowhere)],
            "there are none in the environment",
        ),
    ] {
        let error = read(url, variables)?;
        assert!(
            error.contains(told) && error.contains("/bundle.toml"),
            "{variables:?} not {told:?}: {error}"
        );
    }
    // A name, once written, keeps its bytes.
    let other = tempfile::tempdir()?;
    succeed(reverie(&server, cache.path())?.args(["models", "publish", BUNDLE]).arg(other.path()))?;
    let manifest = other.path().join("bundle.toml");
    fs::write(&manifest, fs::read_to_string(&manifest)?.replace("0.1.0", "0.1.1"))?;
    let error =
        fail(reverie(&server, cache.path())?.args(["models", "publish"]).arg(other.path()).arg(&there))?;
    assert!(error.contains("is there already with another content"), "{error}");
    assert_eq!(
        fs::read(server.object("bestiary/bundle.toml"))?,
        fs::read(Path::new(BUNDLE).join("bundle.toml"))?
    );
    Ok(())
}

/// Services take the cache from their settings, and say in the log what they download.
#[tokio::test]
#[ignore = "needs the servers of `cargo xtask storage`"]
async fn services_read_what_their_settings_name_and_log_the_download() -> Fallible<()> {
    let (server, cache) = (Server::s3()?, tempfile::tempdir()?);
    publish(&server, BUNDLE, &server.url)?;
    let start = async |service, setting: String| -> Fallible<Process> {
        let mut command = command(service, &[setting, format!("storage.cache={}", cache.path().display())])?;
        command.envs(server.variables.iter().cloned());
        let mut process = Process::spawn(service, command).await?;
        process.serving().await?;
        Ok(process)
    };
    let mut denoiser = start("denoiser", format!("inference.bundle={}", server.url)).await?;
    let of_models = kept(cache.path())?.len();
    let log = denoiser.log();
    assert!(log.contains("downloading s3://models/base-64/model.onnx: 11 of 11 MiB, "), "{log}");
    let mut vector = start("vector", format!("knowledge_bases.creatures={}/{KNOWLEDGE}", server.url)).await?;
    assert!(of_models > 0 && kept(cache.path())?.len() > of_models, "{of_models}");
    assert!(denoiser.terminate().await?.success() && vector.terminate().await?.success());
    Ok(())
}

/// From a bucket, in which it was published as bestiary, to a folder.
fn comes_back_whole(server: &Server) -> Fallible<TempDir> {
    let (cache, copy, bucket) = (tempfile::tempdir()?, tempfile::tempdir()?, &server.url);
    succeed(
        reverie(server, cache.path())?
            .args(["models", "publish", &format!("{bucket}/bestiary")])
            .arg(copy.path()),
    )?;
    for file in files(copy.path())? {
        if !file.ends_with("published.sha256") {
            let original = Path::new(BUNDLE).join(file.strip_prefix(copy.path())?);
            assert!(fs::read(&file)? == fs::read(original)?, "{}", file.display());
        }
    }
    assert!(copy.path().join(KNOWLEDGE).join("manifest.json").is_file());
    Ok(copy)
}

#[test]
#[ignore = "needs the servers of `cargo xtask storage`"]
fn what_lies_in_google_cloud_storage_is_read() -> Fallible<()> {
    let (server, folder) = (Server::google()?, tempfile::tempdir()?);
    publish(&server, BUNDLE, &folder.path().display().to_string())?;
    for file in files(folder.path())? {
        let path = file.strip_prefix(folder.path())?.to_str().ok_or("no text")?;
        server.upload(&format!("bestiary/{path}"), &fs::read(&file)?)?;
    }
    let copy = comes_back_whole(&server)?;
    let error = fail(reverie(&server, copy.path())?.args(["models", "publish", "gs://models/none", "x"]))?;
    assert!(error.contains("gs://models/none/bundle.toml does not exist"), "{error}");
    // A plain web server is only read.
    let (cache, back) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let web = format!("http://{}", web(copy.path())?);
    succeed(reverie(&server, cache.path())?.args(["models", "publish", &web]).arg(back.path()))?;
    let error = fail(reverie(&server, cache.path())?.args(["models", "publish", BUNDLE, &web]))?;
    assert!(error.contains("is only read"), "{error}");
    Ok(())
}

#[test]
#[ignore = "needs the servers of `cargo xtask storage`"]
fn azure_gives_back_what_was_published() -> Fallible<()> {
    let server = Server::azure()?;
    let cache = tempfile::tempdir()?;
    let error = fail(reverie(&server, cache.path())?.args(["models", "publish", BUNDLE, "az://none/x"]))?;
    assert!(error.contains("there is no such container"), "{error}");
    server.make_container()?;
    publish(&server, BUNDLE, &format!("{}/bestiary", server.url))?;
    comes_back_whole(&server)?;
    let mut wrong = reverie(&server, cache.path())?;
    wrong.env("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=");
    let error = fail(wrong.args(["models", "publish", BUNDLE, &format!("{}/x", server.url)]))?;
    assert!(error.contains("the credentials were not accepted"), "{error}");
    writers_lose_nothing(&server)
}

#[test]
#[ignore = "needs the servers of `cargo xtask storage`"]
fn of_two_writers_at_once_one_wins_each_number() -> Fallible<()> {
    writers_lose_nothing(&Server::s3()?)
}

/// Two processes commit at once, each number is won by one of them, the other takes the next, and all commits are there.
fn writers_lose_nothing(server: &Server) -> Fallible<()> {
    let child = |name: &str, writer: &str| -> Fallible<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([name, "--exact", "--ignored", "--nocapture"]).envs(server.variables.iter().cloned());
        command.env(WRITER, writer).env(WRITES_TO, format!("{}/commits", server.url));
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    };
    for process in [child("child_writes", "first")?, child("child_writes", "second")?] {
        let ended = process.wait_with_output()?;
        assert!(ended.status.success(), "{}", text(&ended));
    }
    let ended = child("child_reads", "")?.wait_with_output()?;
    assert!(ended.status.success(), "{}", text(&ended));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the servers of `cargo xtask storage`"]
async fn a_knowledge_base_in_a_bucket_is_changed_by_several_meshes() -> Fallible<()> {
    let server = Server::s3()?;
    lives(&server).await?;
    let image = &pictured().await?[0].image;
    let left = holding(server.data(), image)?;
    assert!(left.is_empty(), "what was forgotten is in {left:?}");
    let server = Server::azure()?;
    server.make_container()?;
    lives(&server).await
}

/// Views of two creatures.
async fn pictured() -> Fallible<Vec<Entry>> {
    let names = creatures::names(2).await?;
    let mut entries = creatures::entries().await?;
    entries
        .retain(|entry| creatures::name_of(&entry.id).is_some_and(|name| names.contains(&name.to_owned())));
    Ok(entries)
}

/// Two meshes serve one knowledge base: what one of them adds, the other finds, and what the other forgets, the first finds no more.
async fn lives(server: &Server) -> Fallible<()> {
    let (caches, pictures) = ([tempfile::tempdir()?, tempfile::tempdir()?], tempfile::tempdir()?);
    let (base, entries) = (format!("{}/knowledge/birds", server.url), pictured().await?);
    for entry in &entries {
        fs::write(pictures.path().join(format!("{}.png", entry.id)), &entry.image)?;
        fs::write(pictures.path().join(format!("{}.txt", entry.id)), &entry.caption)?;
    }
    let cache = caches[0].path();
    succeed(reverie(server, cache)?.args([
        "knowledge",
        "create",
        &base,
        "--name",
        "birds",
        "--bundle",
        BUNDLE,
    ]))?;
    let serve = async |cache: &TempDir| -> Fallible<Process> {
        let mut command = serve_command("127.0.0.1:0")?;
        command.args(["--writable", "--with-knowledge-base", &format!("birds={base}")]);
        command.envs(server.variables.iter().cloned()).env("REVERIE_STORAGE_CACHE", cache.path());
        Process::spawn("mesh", command).await
    };
    let (one, other) = tokio::try_join!(serve(&caches[0]), serve(&caches[1]))?;
    let ask = |mesh: &Process, arguments: &[&str], base: &str| -> Fallible<String> {
        let mut command = reverie(server, cache)?;
        command.arg("knowledge").args(arguments);
        succeed(command.args([base, "birds", "--server", &mesh.url()]))
    };
    let folder = pictures.path().to_str().ok_or("no text")?;
    let count = entries.len();
    let told = ask(&one, &["add", folder], "--to")?;
    assert!(
        told.contains(&format!("birds: {count} added, 0 replaced, 0 unchanged; {count} entries")),
        "{told}"
    );
    fs::write(pictures.path().join(format!("{}.txt", entries[1].id)), "another caption")?;
    let told = ask(&one, &["add", folder], "--to")?;
    assert!(told.contains(&format!("birds: 0 added, 1 replaced, {} unchanged", count - 1)), "{told}");

    let name = creatures::name_of(&entries[0].id).ok_or("no name")?;
    let search = ["search", name];
    let becomes = async |mesh: &Process, is_there: bool| -> Fallible<()> {
        let begun = Instant::now();
        while ask(mesh, &search, "--knowledge-base")?.contains(&entries[0].id) != is_there {
            assert!(begun.elapsed() < PATIENCE, "it does not follow");
        }
        Ok(())
    };
    becomes(&other, true).await?;
    let told = ask(&other, &["forget", &entries[0].id], "--to")?;
    assert!(told.contains(&format!("1 forgotten; {} entries", count - 1)), "{told}");
    becomes(&one, false).await?;
    let told = ask(&one, &["delete", &entries[0].id], "--to")?;
    assert!(told.contains(&format!("not there: {}", entries[0].id)), "{told}");
    Ok(())
}

fn commits() -> Fallible<Folder> {
    Ok(Folder::open(&std::env::var(WRITES_TO).map_err(|_| "started by the tests above only")?)?)
}

#[tokio::test]
#[ignore = "started by the tests above"]
async fn child_writes() -> Fallible<()> {
    let (folder, writer) = (commits()?, std::env::var(WRITER)?);
    let mut number = 1;
    for commit in 0..COMMITS {
        let content = format!("{writer} {commit}");
        loop {
            let created = folder.create(&number.to_string(), content.clone().into()).await;
            number += 1;
            match created {
                Ok(()) => break,
                Err(StorageError::AlreadyExists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

#[tokio::test]
#[ignore = "started by the tests above"]
async fn child_reads() -> Fallible<()> {
    let folder = commits()?;
    let mut found = Vec::new();
    for number in 1..=2 * COMMITS {
        found.push(String::from_utf8(folder.read(&number.to_string(), 99).await?.to_vec())?);
    }
    for writer in ["first", "second"] {
        let own: Vec<_> = found.iter().filter(|content| content.starts_with(writer)).cloned().collect();
        let expected: Vec<_> = (0..COMMITS).map(|commit| format!("{writer} {commit}")).collect();
        assert_eq!(own, expected, "of the {writer} writer");
    }
    let last = folder.size(&(2 * COMMITS + 1).to_string()).await?;
    assert_eq!(last, None, "a number was skipped");
    Ok(())
}
