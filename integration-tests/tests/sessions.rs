//! Sessions of one model that share its weights: as many threads as there are run it at the same time, with equal results, from one copy
//! in memory.

use std::fs;
use std::num::NonZeroUsize;
use std::thread;

use reverie_engine::{Identity, InferenceSettings, Input, ModelError, RowData, Session, Values};
use reverie_integration_tests::Fallible;
use reverie_packages::{Bundle, Package, Role};

const BUNDLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/bestiary");
const TEXTS: usize = 8;
const RUNS: usize = 300;
const THREADS: usize = 4;

fn settings(sessions: usize) -> InferenceSettings {
    InferenceSettings::on_cpu(sessions, 1, NonZeroUsize::MIN)
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

#[tokio::test]
async fn what_lasts_is_uploaded_once() -> Fallible<()> {
    let package = package(Role::TextEncoder).await?;
    let shape = package.sample_shape("text_tokens")?;
    let ids_shape = [1, shape[0]];
    let mut session = Session::open(&package, &settings(1))?;
    let mut encode = |number: i64, identity: Option<Identity>| -> Fallible<(Vec<f32>, u64)> {
        let (ids, mask) = (vec![number; shape[0]], vec![1; shape[0]]);
        let input = |name, values| Input { name, shape: &ids_shape, values: Values::I64(values), identity };
        let inputs = [input("token_ids", &ids), input("attention_mask", &mask)];
        let inputs: Vec<_> = inputs.into_iter().filter(|input| session.takes(input.name)).collect();
        let mut tokens = vec![0.0; shape.iter().product()];
        session.run(&mut [RowData { inputs, outputs: vec![("text_tokens", &mut tokens)] }])?;
        Ok((tokens, session.uploads()))
    };
    let (one, none) = encode(1, None)?;
    let (two, _) = encode(2, None)?;
    assert_ne!(one, two);
    assert_eq!(none, 0);
    let [first, second] = [Identity::unique(), Identity::unique()];
    let (_, each) = encode(1, Some(first))?;
    assert!(each > 0);
    for _ in 0..3 {
        // Of the values that were uploaded, whatever comes later.
        assert_eq!(encode(9, Some(first))?, (one.clone(), each));
    }
    assert_eq!(encode(2, Some(second))?, (two.clone(), 2 * each));
    assert_eq!(encode(9, Some(first))?, (one, 2 * each));
    assert_eq!(encode(2, Some(first.variant(1)))?, (two, 3 * each));
    Ok(())
}

#[tokio::test]
async fn rows_of_two_shapes_are_refused_and_the_session_goes_on() -> Fallible<()> {
    let package = package(Role::TextEncoder).await?;
    let shape = package.sample_shape("text_tokens")?;
    let several = InferenceSettings { batch: NonZeroUsize::MIN.saturating_add(1), ..settings(1) };
    let mut session = Session::open(&package, &several)?;
    let length = shape[0];
    let mut run = |lengths: &[usize]| -> Result<Vec<Vec<f32>>, ModelError> {
        let shapes: Vec<[usize; 2]> = lengths.iter().map(|length| [1, *length]).collect();
        let ids = vec![1_i64; length + 1];
        let mut outputs = vec![vec![0.0; shape.iter().product()]; lengths.len()];
        let data = shapes.iter().zip(&mut outputs).map(|(shape, output)| {
            let values = Values::I64(&ids[..shape[1]]);
            let input = |name| Input { name, shape, values, identity: None };
            let inputs = ["token_ids", "attention_mask"].map(input);
            let inputs = inputs.into_iter().filter(|input| session.takes(input.name)).collect();
            RowData { inputs, outputs: vec![("text_tokens", output.as_mut_slice())] }
        });
        let mut data: Vec<RowData<'_>> = data.collect();
        session.run(&mut data)?;
        Ok(outputs)
    };
    let expected = run(&[length])?;
    for wrong in [&[length, length + 1][..], &[length; 3], &[]] {
        assert!(run(wrong).is_err(), "{wrong:?}");
        assert_eq!(run(&[length, length])?, [expected.clone(), expected.clone()].concat());
    }
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
