//! `reverie-bench super-resolution` as its users run it.

use std::fs;

use clap::Parser;
use reverie_bench::Command;
use serde_json::Value;

const BUNDLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/bestiary");

type Fallible<T> = Result<T, reverie::Failure>;

#[derive(Parser)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_level_is_held_against_interpolation() -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().to_str().ok_or("the path is no text")?;
    let line = [
        "reverie-bench",
        "super-resolution",
        "--bundle",
        BUNDLE,
        "--out",
        out,
        "--pictures",
        "2",
        "--steps",
        "2",
    ];
    let CommandLine { command } = CommandLine::try_parse_from(line)?;
    reverie_bench::run(command).await?;

    let report: Value = serde_json::from_slice(&fs::read(folder.path().join("super-resolution.json"))?)?;
    let levels = report["levels"].as_array().ok_or("there are no levels")?;
    let sides: Vec<_> = levels.iter().map(|level| level["image_size"].as_u64()).collect();
    assert_eq!(sides, [Some(256), Some(1024)]);
    for level in levels {
        let mean = |method: &str, measure: &str| level["methods"][method][measure]["mean"].as_f64();
        for method in ["model", "bilinear", "bicubic", "Lanczos"] {
            // Nothing of the kind of the true picture is below 15 dB, and nothing but itself is perfect.
            assert!(
                mean(method, "psnr").is_some_and(|psnr| (15.0..50.0).contains(&psnr)),
                "{method} {level}"
            );
            assert!(mean(method, "ssim").is_some_and(|ssim| (0.5..1.0).contains(&ssim)), "{method} {level}");
        }
        // A wider filter is sharper than a triangle.
        assert!(mean("bicubic", "sharpness") > mean("bilinear", "sharpness"), "{level}");
        let sheet = format!("sheet-{}.png", level["image_size"]);
        assert!(fs::metadata(folder.path().join(sheet))?.len() > 10_000);
    }
    Ok(())
}
