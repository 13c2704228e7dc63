//! The mesh on OpenVINO, where `REVERIE_OPENVINO_LIBRARY` names an ONNX Runtime that has it (`cargo xtask openvino` fetches one and sets it):
//! images are those of the CPU but for a little, and the same whatever else is drawn.

use futures::future::try_join_all;
use reverie_imaging::pictures::{self, Rgb};
use reverie_integration_tests::processes::{Process, binary, serve_command};
use reverie_integration_tests::requests::{draw, quick};
use reverie_integration_tests::{Fallible, WORKSPACE};
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::Address;
use serde_json::Value;
use tokio::process::Command;

const PROMPT: &str = "a small zunin on the left, snow";
const SERVICES: [&str; 3] = ["encoder", "denoiser", "super-resolution"];

async fn serve(library: Option<&str>, settings: &[&str]) -> Fallible<Process> {
    let mut command = serve_command("127.0.0.1:0")?;
    for setting in settings {
        for service in SERVICES {
            command.args(["--set", &format!("{service}.inference.{setting}")]);
        }
    }
    if let Some(library) = library {
        command.env("ORT_DYLIB_PATH", library);
    }
    Process::spawn("mesh", command).await
}

async fn image(address: &Address, seed: u64) -> Fallible<Image> {
    Ok(draw(address, quick(PROMPT, 256, seed)).await?.image)
}

/// The mean difference of two images, of 255.
fn difference(one: &Image, other: &Image) -> Fallible<f64> {
    let [one, other]: [Rgb; 2] = [pictures::decode(one)?, pictures::decode(other)?];
    let sum: u64 = one.iter().zip(other.iter()).map(|(one, other)| u64::from(one.abs_diff(*other))).sum();
    Ok(sum as f64 / one.len() as f64)
}

fn has_bf16() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|flags| flags.contains("avx512_bf16"))
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_those_of_the_cpu_but_for_a_little() -> Fallible<()> {
    let Ok(library) = std::env::var("REVERIE_OPENVINO_LIBRARY") else {
        println!("left out: REVERIE_OPENVINO_LIBRARY names no library (cargo xtask openvino)");
        return Ok(());
    };
    let cpu = serve(None, &[]).await?;
    let on_cpu = image(&cpu.address()?, 7).await?;
    let other = image(&cpu.address()?, 8).await?;
    assert!(difference(&on_cpu, &other)? > 5.0, "seeds make images that differ");
    for (precision, batch, range) in
        [("f32", 1, 0.0..=0.05), ("bf16", 1, 0.05..=3.0), ("bf16", 4, 0.05..=3.0)]
    {
        let settings =
            ["provider=openvino", &format!("openvino.precision={precision}"), &format!("batch={batch}")];
        if precision == "bf16" && !has_bf16() {
            let told = serve(Some(&library), &settings).await.err().ok_or("it serves")?.to_string();
            assert!(told.contains("no instructions for bfloat16"), "{told}");
            continue;
        }
        let mesh = serve(Some(&library), &settings).await?;
        let address = mesh.address()?;
        let alone = image(&address, 7).await?;
        let off = difference(&alone, &on_cpu)?;
        println!("{precision}, {batch} rows: {off:.4} of 255");
        assert!(range.contains(&off), "{precision}, {batch}: {off}");
        let together = try_join_all((5..9).map(|seed| image(&address, seed))).await?;
        assert!(together[2] == alone, "{precision}: it depends on its company");
    }
    Ok(())
}

#[tokio::test]
async fn the_check_says_how_far_it_is_from_the_cpu() -> Fallible<()> {
    let Ok(library) = std::env::var("REVERIE_OPENVINO_LIBRARY") else {
        println!("left out: REVERIE_OPENVINO_LIBRARY names no library (cargo xtask openvino)");
        return Ok(());
    };
    for (settings, most) in
        [(&["provider=openvino"][..], 1e-3), (&["provider=openvino", "openvino.precision=bf16"], 0.1)]
    {
        if settings.len() > 1 && !has_bf16() {
            continue;
        }
        let mut check = Command::new(binary("reverie")?);
        check.current_dir(WORKSPACE).env("ORT_DYLIB_PATH", &library);
        check.args(["models", "check", "models/bestiary", "--json"]);
        for setting in settings {
            check.args(["--set", &format!("inference.{setting}")]);
        }
        let output = check.output().await?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told: Value = serde_json::from_slice(&output.stdout)?;
        for package in told["packages"].as_array().ok_or("no packages")? {
            let differences = package["differences"].as_object().ok_or("no differences")?;
            assert!(!differences.is_empty(), "{package}");
            for (output, difference) in differences {
                let difference = difference.as_f64().ok_or("no number")?;
                println!("{settings:?}: {}, {output}: {difference:.6}", package["name"]);
                assert!((0.0..most).contains(&difference), "{settings:?}: {package}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_library_without_it_is_told() -> Fallible<()> {
    let told = serve(None, &["provider=openvino"]).await.err().ok_or("it serves")?.to_string();
    assert!(told.contains("openvino") && told.contains("does not start"), "{told}");
    Ok(())
}
