//! Another bundle is rolled out while callers draw: each image is drawn with the models of one bundle, none fails, and the pipeline
//! need not be restarted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use futures::future::try_join_all;
use reverie::client::Outcome;
use reverie_integration_tests::processes::Process;
use reverie_integration_tests::requests::{draw, quick};
use reverie_integration_tests::{BUNDLE, Fallible, folders};
use reverie_service_kit::Shutdown;
use reverie_storage::sha256_hex;

/// Callers at a time.
const CALLERS: u64 = 3;
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The packages that differ.
const PACKAGES: [&str; 4] = ["text-encoder", "base-64", "super-resolution-256", "super-resolution-1024"];
/// `ModelProto.metadata_props` with one entry, as protobuf writes it: nothing to the model, and another digest.
const METADATA: [u8; 8] = [0x72, 6, 0x0a, 1, b'k', 0x12, 1, b'v'];

/// Copies the bundle and gives its models another identity. What refers to a model refers to the new one.
fn another_bundle(place: &Path) -> Fallible<()> {
    folders::copy(Path::new(BUNDLE), place)?;
    for package in PACKAGES {
        let graph = place.join(package).join("model.onnx");
        let mut bytes = fs::read(&graph)?;
        let (old, old_size) = (sha256_hex(&bytes), bytes.len());
        bytes.extend(METADATA);
        let (new, new_size) = (sha256_hex(&bytes), bytes.len());
        fs::write(&graph, bytes)?;
        for manifest in PACKAGES.map(|package| place.join(package).join("model.toml")) {
            let text = fs::read_to_string(&manifest)?.replace(&old, &new);
            let sized =
                text.replace(&format!("size_bytes = {old_size}\n"), &format!("size_bytes = {new_size}\n"));
            fs::write(&manifest, sized)?;
        }
    }
    Ok(())
}

/// The digests of the models that drew an image.
fn models_of(image: &Outcome) -> Vec<String> {
    let models = image.completed.stages.iter().filter_map(|report| report.model.as_ref());
    models.map(|model| model.digest.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_of_one_bundle_or_the_other_while_it_is_rolled_out() -> Fallible<()> {
    let place = tempfile::tempdir()?;
    another_bundle(place.path())?;
    let server = ["server.lame_duck_seconds=2", "server.drain_seconds=60"].map(str::to_owned);
    let start = async |bundle: &str| {
        let settings = [&server[..], &[format!("inference.bundle={bundle}")]].concat();
        let stages = ["encoder", "denoiser", "super-resolution"];
        let mut stages = try_join_all(stages.map(|service| Process::start(service, &settings))).await?;
        try_join_all(stages.iter_mut().map(Process::serving)).await?;
        Fallible::Ok(stages)
    };
    let mut old = start(BUNDLE).await?;
    let mut new = start(&place.path().display().to_string()).await?;
    // Their addresses are known; they come up later.
    for process in &mut new {
        process.kill().await?;
    }
    let both = |stage: usize| format!("{},{}", old[stage].url(), new[stage].url());
    let mut vector = Process::start("vector", &server).await?;
    let stages = [format!("stages.encoder={}", both(0)), format!("stages.vector={}", vector.url())];
    let mut retrieval = Process::start("retrieval", &[&server[..], &stages].concat()).await?;
    let stages = [
        format!("stages.encoder={}", both(0)),
        format!("stages.retrieval={}", retrieval.url()),
        format!("stages.denoiser={}", both(1)),
        format!("stages.super_resolution=[\"{}\"]", both(2)),
    ];
    let mut pipeline = Process::start("pipeline", &stages).await?;
    try_join_all([&mut vector, &mut retrieval, &mut pipeline].map(Process::serving)).await?;

    let address = pipeline.address()?;
    let (drawn, over) = (Mutex::new(Vec::<Vec<String>>::new()), Shutdown::new());
    let count = || drawn.lock().map_or(0, |drawn| drawn.len());
    let caller = async |caller: u64| {
        let mut seed = caller;
        while !over.is_cancelled() {
            seed += CALLERS;
            let image = draw(&address, quick("a small zunin on the left, snow", 256, seed)).await;
            let image = image.map_err(|status| format!("image {seed}: {status}\n{}", pipeline.log()))?;
            drawn.lock().map_err(|_| "a caller panicked")?.push(models_of(&image));
        }
        Fallible::Ok(())
    };
    let more = async || {
        let before = count();
        while count() < before + 2 * CALLERS as usize {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let rollout = async {
        let _over = over.clone().drop_guard();
        more().await;
        for process in &mut new {
            process.start_again().await?;
            more().await;
        }
        for process in &mut old {
            let ended = process.terminate().await?;
            if ended.code() != Some(0) {
                return Err(format!("{} ended with {ended}\n{}", process.service(), process.log()).into());
            }
            more().await;
        }
        Fallible::Ok(())
    };
    tokio::try_join!(try_join_all((0..CALLERS).map(caller)), rollout)?;

    let drawn = drawn.into_inner()?;
    let kinds: BTreeSet<&Vec<String>> = drawn.iter().collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    let (first, last) = (&drawn[0], &drawn[drawn.len() - 1]);
    assert!(first.len() == 2 && last.len() == 2, "the base model and one level: {first:?}");
    assert!(first.iter().zip(last).all(|(old, new)| old != new), "{first:?} {last:?}");
    pipeline.says("replicas have different models: denoiser: bestiary-base-64 0.1.0 (").await?;
    Ok(())
}
