//! Sessions of one model that share its weights: as many threads as there are run it at the same time, with equal results, from one copy
//! in memory.

use std::fs;
use std::num::NonZeroUsize;
use std::thread;

use reverie_engine::execution::{ConvolutionSearch, CudaSettings, Provider};
use reverie_engine::{InferenceSettings, Input, ModelError, RowData, Session, Values};
use reverie_integration_tests::Fallible;
use reverie_packages::{Bundle, Package, Role};

const BUNDLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/bestiary");
const TEXTS: usize = 8;
const RUNS: usize = 300;
const THREADS: usize = 4;

fn settings(sessions: usize) -> InferenceSettings {
    InferenceSettings {
        bundle: BUNDLE.to_owned(),
        onnxruntime_library: String::new(),
        provider: Provider::Cpu,
        sessions,
        threads: 1,
        batch: NonZeroUsize::MIN,
        cuda: CudaSettings {
            device_id: 0,
            memory_limit_mib: 0,
            convolution_search: ConvolutionSearch::Default,
        },
    }
}

async fn package(role: Role) -> Fallible<Package> {
    let bundle = Bundle::open(BUNDLE).await?;
    let named = bundle.manifest.packages.all().into_iter().find(|(_, of)| *of == role);
    Ok(bundle.package(&named.ok_or("the bundle lacks it")?.0, role).await?)
}

fn encode(session: &mut Session, ids: &[i64], elements: usize) -> Result<Vec<u32>, ModelError> {
    let shape = [1, ids.len()];
    let mask = vec![1; ids.len()];
    let inputs = [("token_ids", ids), ("attention_mask", &mask)];
    let inputs = inputs.map(|(name, values)| Input {
        name,
        shape: &shape,
        values: Values::I64(values),
        identity: None,
    });
    let inputs: Vec<_> = inputs.into_iter().filter(|input| session.takes(input.name)).collect();
    let mut tokens = vec![0.0; elements];
    session.run(&mut [RowData { inputs, outputs: vec![("text_tokens", &mut tokens)] }])?;
    Ok(tokens.iter().map(|value| value.to_bits()).collect())
}

#[tokio::test]
async fn threads_that_share_a_session_get_what_one_alone_gets() -> Fallible<()> {
    let package = package(Role::TextEncoder).await?;
    let shape = package.sample_shape("text_tokens")?;
    let elements = shape.iter().product();
    let text = |number: usize| -> Vec<i64> {
        (0..shape[0]).map(|place| i64::from(((7 * number + place) % 50) as u32)).collect()
    };
    let mut alone = Session::open(&package, &settings(1))?;
    let expected = (0..TEXTS).map(|number| encode(&mut alone, &text(number), elements));
    let expected = expected.collect::<Result<Vec<_>, _>>()?;
    assert_ne!(expected[0], expected[1]);
    let sessions = Session::open_all(&package, &settings(THREADS))?;
    assert_eq!(sessions.len(), THREADS);
    thread::scope(|scope| {
        for (thread, mut session) in sessions.into_iter().enumerate() {
            let (expected, text) = (&expected, &text);
            scope.spawn(move || {
                for run in 0..RUNS {
                    let number = (thread + run) % TEXTS;
                    let encoded = encode(&mut session, &text(number), elements);
                    assert_eq!(encoded.ok().as_ref(), Some(&expected[number]), "thread {thread}, run {run}");
                }
            });
        }
    });
    Ok(())
}

/// Bytes of this process that are in memory and in no file.
fn resident() -> Fallible<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
    Ok(1024 * line.trim().trim_end_matches(" kB").parse::<u64>()?)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn sessions_share_one_copy_of_the_weights() -> Fallible<()> {
    let package = package(Role::Denoiser).await?;
    let bytes: u64 = package.manifest.files.iter().map(|file| file.size_bytes).sum();
    let first = Session::open_all(&package, &settings(1))?;
    let before = resident()?;
    let many = Session::open_all(&package, &settings(16))?;
    let one_more = resident()?.saturating_sub(before);
    assert!(one_more < 4 * bytes, "16 sessions of a model of {bytes} bytes take {one_more}");
    drop((first, many));
    Ok(())
}
