//! CreatureDrawBench as its users run it: from the public API to the report, and again after it was broken off.

use std::fs;
use std::path::Path;

use clap::Parser;
use reverie_bench::creatures;
use serde_json::Value;

const BUNDLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/bestiary");

type Fallible<T> = Result<T, reverie::Failure>;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    arguments: creatures::Arguments,
}

const ARMS: [&str; 4] =
    ["none,steps=2", "oracle,k=1,steps=2", "wrong,steps=2,strategy=weighted", "bm25,steps=2"];

/// Two creatures, one prompt and one seed each.
async fn run(out: &Path, arms: &[&str]) -> Fallible<Value> {
    let out = out.to_str().ok_or("the path is no text")?;
    let part =
        ["creatures", "--bundle", BUNDLE, "--out", out, "--creatures", "2", "--prompts", "1", "--seeds", "1"];
    let arms = arms.iter().flat_map(|arm| ["--arm", arm]);
    creatures::run(CommandLine::try_parse_from(part.into_iter().chain(arms))?.arguments).await?;
    Ok(serde_json::from_slice(&fs::read(Path::new(out).join("report.json"))?)?)
}

fn arm<'a>(report: &'a Value, name: &str) -> &'a Value {
    let arms = report["arms"].as_array().map(Vec::as_slice).unwrap_or_default();
    arms.iter().find(|arm| arm["arm"] == name).unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_reported_and_taken_up_again() -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path();
    let report = run(out, &ARMS).await?;
    for (name, evaluations) in ARMS.into_iter().zip([4.0, 4.0, 6.0, 4.0]) {
        let arm = arm(&report, name);
        assert_eq!((&arm["pictures"], arm["evaluations"].as_f64()), (&2.into(), Some(evaluations)), "{name}");
    }
    // Nothing was revealed to the first, and one of the creature's own pictures to the second.
    assert!(arm(&report, ARMS[0])["strict"]["mean"].is_null());
    assert!(arm(&report, ARMS[1])["strict"]["mean"].is_number());
    assert!(arm(&report, ARMS[2])["stand_in"]["mean"].is_number());
    assert!(report["judge_accuracy"]["main"].as_f64().is_some_and(|right| right > 0.9), "{report}");
    assert!(fs::read_to_string(out.join("report.md"))?.contains("| wrong,steps=2,strategy=weighted |"));

    // Broken off in the middle of a line: that picture is drawn again, and comes out the same.
    let list = out.join("drawn.jsonl");
    let lines = fs::read_to_string(&list)?;
    let picture = |lines: &str| -> Fallible<Vec<u8>> {
        let last: Value = serde_json::from_str(lines.lines().last().ok_or("nothing was drawn")?)?;
        Ok(fs::read(out.join(last["file"].as_str().ok_or("a line has no file")?))?)
    };
    let before = picture(&lines)?;
    fs::write(&list, &lines[..lines.len() - 10])?;
    let again = run(out, &ARMS).await?;
    let now = fs::read_to_string(&list)?;
    assert_eq!(now.lines().count(), lines.lines().count());
    assert_eq!(picture(&now)?, before);
    assert_eq!(arm(&again, ARMS[1])["faithful"], arm(&report, ARMS[1])["faithful"]);

    // Other models: their pictures are not mixed with these.
    let base = report["models"]["base"].as_str().ok_or("the base model is not named")?;
    fs::write(&list, now.replace(base, &"0".repeat(base.len())))?;
    let why = run(out, &["none,steps=1"]).await.err().ok_or("pictures of two models were mixed")?.to_string();
    assert!(why.contains("other models"), "{why}");
    Ok(())
}
