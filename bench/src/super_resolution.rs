//! `reverie-bench super-resolution`: each level of the cascade against interpolation, from true drawings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use image::imageops;
use indicatif::ProgressBar;
use reverie::mesh::{Mesh, MeshArguments};
use reverie::{Failure, sheet};
use reverie_imaging::pictures::{self, Rgb};
use reverie_proto::diffusion::v1::Sampling;
use reverie_proto::encoder::v1::EncodeTextRequest;
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::superresolution::v1::super_resolution_service_client::SuperResolutionServiceClient;
use reverie_proto::superresolution::v1::upscale_response::Event;
use reverie_proto::superresolution::v1::{ListLevelsRequest, UpscaleCompleted, UpscaleRequest};
use reverie_proto::tensor::v1::{Image, ImageFormat, TextTokens};
use reverie_service_kit::client::{Channel, MAX_INTERNAL_MESSAGE, Upstream};
use reverie_service_kit::{Context, say};
use reverie_storage::Folder;
use serde::Deserialize;

mod quality;
mod table;

use quality::{Quality, edge_centre};
use table::{Method, Row};

const LIST: &str = "super-resolution.json";
const MAX_BYTES: u64 = 8 << 20;
const SCHEMA: u32 = 1;
const TIMEOUT: Duration = Duration::from_mins(2);
/// Pictures on the sheet, and the side of what is shown of each.
const ROWS: usize = 6;
const CELL: u32 = 256;

/// Holds each level of the cascade against interpolation: PSNR, SSIM and sharpness of edges, from true drawings.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the report and the contact sheets go.
    #[arg(long, short, value_name = "FOLDER", default_value = "super-resolution")]
    out: PathBuf,
    /// Folder of the benchmark. Default: `benchmark` in the bundle.
    #[arg(long, value_name = "FOLDER")]
    benchmark: Option<String>,
    /// How many of the benchmark's pictures.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(2..))]
    pictures: u32,
    /// Steps a picture. Default: each model's own.
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// Noise-conditioning augmentation level, 0 to 1. Default: each model's own.
    #[arg(long, value_name = "LEVEL")]
    noise_level: Option<f32>,
    #[command(flatten)]
    mesh: MeshArguments,
}

/// What the benchmark has: drawings of held-out creatures at every side of the cascade.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    schema: u32,
    world_version: String,
    pictures: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt: String,
    /// File of each side.
    files: BTreeMap<String, String>,
}

struct Benchmark {
    folder: Folder,
    list: List,
}

impl Benchmark {
    async fn read(folder: Folder) -> Result<Self, Failure> {
        let location = format!("{}/{LIST}", folder.location());
        let list: List = serde_json::from_slice(&folder.read(LIST, MAX_BYTES).await?)
            .map_err(|error| format!("{location}: {error}"))?;
        if list.schema != SCHEMA {
            return Err(format!("{location}: schema {} is not known here, only {SCHEMA}", list.schema).into());
        }
        Ok(Self { folder, list })
    }

    async fn picture(&self, line: &Line, side: u32) -> Result<Rgb, Failure> {
        let missing =
            || format!("{}/{LIST}: {:?} has no file of {side} px", self.folder.location(), line.prompt);
        let file = line.files.get(&side.to_string()).ok_or_else(missing)?;
        let data = self.folder.read(file, MAX_BYTES).await?;
        let picture = pictures::decode(&Image { data, ..Image::default() })?;
        if picture.dimensions() != (side, side) {
            return Err(format!("{}/{file} is not {side} x {side} pixels", self.folder.location()).into());
        }
        Ok(picture)
    }
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let folder = crate::benchmark_folder(&arguments.mesh, arguments.benchmark.as_deref())?;
    let mut benchmark = Benchmark::read(folder).await?;
    benchmark.list.pictures.truncate(arguments.pictures as usize);
    std::fs::create_dir_all(&arguments.out)
        .map_err(|error| format!("{}: {error}", arguments.out.display()))?;
    let measured = Mesh::during(&arguments.mesh, async |mesh| measure(&arguments, &benchmark, mesh).await);
    table::write(&benchmark.list.world_version, &measured.await?, &arguments.out)?;
    say!("{}", arguments.out.join(table::MARKDOWN).display())?;
    Ok(())
}

async fn measure(arguments: &Arguments, benchmark: &Benchmark, mesh: &Mesh) -> Result<Vec<Row>, Failure> {
    let server = mesh.super_resolution().ok_or("this bundle has no super-resolution levels")?;
    let server = Upstream::new("super-resolution", server);
    let mut client =
        SuperResolutionServiceClient::new(server.channel()).max_decoding_message_size(MAX_INTERNAL_MESSAGE);
    let levels = client.list_levels(Context::with_timeout(TIMEOUT).outgoing(ListLevelsRequest {})).await?;
    let levels = levels.into_inner().levels;
    let texts = encode(mesh, &benchmark.list.pictures).await?;
    let bar = ProgressBar::new((levels.len() * benchmark.list.pictures.len()) as u64);
    let mut rows = Vec::new();
    for level in &levels {
        let mut shown = Vec::new();
        for (index, (line, text)) in benchmark.list.pictures.iter().zip(&texts).enumerate() {
            let low = benchmark.picture(line, level.low_resolution_size).await?;
            let truth = benchmark.picture(line, level.image_size).await?;
            let done = upscale(arguments, &mut client, &low, text.clone(), index as u64).await?;
            let drawn = pictures::decode(&done.image.ok_or("the picture is missing in the answer")?)?;
            let tried = Method::ALL.map(|method| {
                let side = level.image_size;
                let interpolated = method.filter().map(|filter| imageops::resize(&low, side, side, filter));
                (method, interpolated.unwrap_or_else(|| drawn.clone()))
            });
            for (method, picture) in &tried {
                rows.push(Row {
                    level: level.clone(),
                    picture: index,
                    method: *method,
                    quality: Quality::of(picture, &truth),
                });
            }
            if index < ROWS {
                shown.push(cells(&truth, &tried));
            }
            bar.inc(1);
        }
        write_sheet(&arguments.out.join(table::sheet_name(level)), &shown)?;
    }
    bar.finish_and_clear();
    Ok(rows)
}

/// The encoded prompts, in order.
async fn encode(mesh: &Mesh, lines: &[Line]) -> Result<Vec<Option<TextTokens>>, Failure> {
    let encoder = Upstream::new("encoder", mesh.encoder());
    let mut client = EncoderServiceClient::new(encoder.channel());
    let mut texts = Vec::with_capacity(lines.len());
    for line in lines {
        let request = EncodeTextRequest { texts: vec![line.prompt.clone()], ..Default::default() };
        let answer = client.encode_text(Context::with_timeout(TIMEOUT).outgoing(request)).await?;
        texts.push(answer.into_inner().texts.pop());
    }
    Ok(texts)
}

async fn upscale(
    arguments: &Arguments,
    client: &mut SuperResolutionServiceClient<Channel>,
    low: &Rgb,
    text: Option<TextTokens>,
    seed: u64,
) -> Result<UpscaleCompleted, Failure> {
    let request = UpscaleRequest {
        seed,
        image: Some(pictures::encode(low, ImageFormat::Rgb8)?),
        text,
        noise_level: arguments.noise_level,
        sampling: Some(Sampling { steps: arguments.steps, ..Sampling::default() }),
        ..UpscaleRequest::default()
    };
    let mut news = client.upscale(Context::with_timeout(TIMEOUT).outgoing(request)).await?.into_inner();
    while let Some(response) = news.message().await? {
        if let Some(Event::Completed(completed)) = response.event {
            return Ok(completed);
        }
    }
    Err("super-resolution ended without a picture".into())
}

/// The part of the truth with most to see, and of the model's and the bicubic picture.
fn cells(truth: &Rgb, tried: &[(Method, Rgb)]) -> Vec<Rgb> {
    let side = truth.width();
    let (x, y) = edge_centre(truth);
    let corner = |centre: u32| centre.saturating_sub(CELL / 2).min(side - CELL.min(side));
    let shown = tried
        .iter()
        .filter(|(method, _)| matches!(method, Method::Model | Method::Bicubic))
        .map(|(_, picture)| picture);
    std::iter::once(truth)
        .chain(shown)
        .map(|picture| {
            imageops::crop_imm(picture, corner(x), corner(y), CELL.min(side), CELL.min(side)).to_image()
        })
        .collect()
}

fn write_sheet(path: &Path, rows: &[Vec<Rgb>]) -> Result<(), Failure> {
    let rows: Vec<_> =
        rows.iter().map(|row| sheet::lay_out(&[row.iter().map(Some).collect()], CELL)).collect();
    std::fs::write(path, sheet::stack(&rows, ImageFormat::Png)?.data)?;
    Ok(())
}
