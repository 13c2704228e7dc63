//! `reverie generate`: one picture, or several of one prompt.

use std::path::PathBuf;

use reverie_proto::diffusion::v1::{
    Guidance, GuidanceInterval, GuidanceStrategy, InterleaveDraw, NoiseLevels, Sampler, Sampling,
    Thresholding,
};
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::retrieval::Embed;
use reverie_proto::generation::v1::{
    GenerateRequest, GeneratedImage, NoMemory, Preview, Reference, References, Retrieval,
};
use reverie_proto::knowledge::v1::NoMatch;
use reverie_proto::limits::MAX_IMAGES;
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::Fit;
use reverie_service_kit::output::print;
use reverie_service_kit::say;

use crate::Failure;
use crate::client::{ask, explain};
use crate::initial::InitialArguments;
use crate::mesh::AskArguments;
use crate::names::parser;
use crate::picture_file::{self, format_of};
use crate::progress::Bars;
use crate::selection::SearchArguments;
use crate::{report, sheet};

/// Draws one picture, or several of one prompt.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to draw, such as "a small zunin on the left, snow".
    pub prompt: String,
    /// What not to draw: guided steps move away from it. Not for models that take the guidance weight as an input (FLUX.1 dev,
    /// latent consistency models).
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub negative_prompt: Option<String>,
    /// Where to write the image; .png, .jpg or .webp. With --count, picture.png stands for picture-1.png, picture-2.png and so on.
    #[arg(long, short, value_name = "FILE", default_value = "picture.png")]
    pub out: PathBuf,
    /// How many images to draw, 1 to 16, with the seeds --seed, --seed + 1 and so on.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_IMAGES)))]
    pub count: u32,
    /// Also writes a contact sheet: the neighbours and every level of the cascade, a row for each image.
    #[arg(long, value_name = "FILE")]
    pub sheet: Option<PathBuf>,
    /// Takes a smaller image if --timeout does not suffice for the whole: that of the last level that was done.
    #[arg(long)]
    pub allow_degraded: bool,
    /// Writes, while the base model draws, what it takes the image for to this file, over the one before; of the encoding of --out, and
    /// with numbers if there are several images.
    #[arg(long, value_name = "FILE")]
    pub step_previews: Option<PathBuf>,
    /// Prints one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Seed of every random draw. Default: a random one, which is printed.
    #[arg(long, allow_negative_numbers = true, value_parser = seed)]
    pub seed: Option<u64>,
    /// Side of the image in pixels: 64, 256 or 1024 with the bundled models. Default: the largest. Or width x height, such as
    /// 768x512, with models that draw other sizes.
    #[arg(long, value_name = "PIXELS", value_parser = size)]
    pub size: Option<Size>,
    /// How your own images (--initial with --mask, --reference) are fitted if their proportions differ from those needed: crop cuts
    /// out the middle, pad keeps everything between gray bars.
    #[arg(long, value_parser = parser::<Fit>(), default_value = "crop")]
    fit: Fit,
    #[command(flatten)]
    guidance: GuidanceArguments,
    #[command(flatten)]
    initial: InitialArguments,
    #[command(flatten)]
    memory: MemoryArguments,
    #[command(flatten)]
    mesh: AskArguments,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sampling and guidance (default: the model's own)")]
struct GuidanceArguments {
    /// Steps of the base model.
    #[arg(long, allow_negative_numbers = true)]
    steps: Option<u32>,
    /// Sampler of the base model.
    #[arg(long, value_parser = parser::<Sampler>())]
    sampler: Option<Sampler>,
    /// How the noise levels are spaced, for samplers that take any spacing.
    #[arg(long, value_parser = parser::<NoiseLevels>())]
    noise_levels: Option<NoiseLevels>,
    /// How the image that each step predicts is kept in range.
    #[arg(long, value_parser = parser::<Thresholding>())]
    thresholding: Option<Thresholding>,
    /// How text and neighbours guide. This and the other options of neighbours are only for models that take them.
    #[arg(long, value_parser = parser::<GuidanceStrategy>())]
    strategy: Option<GuidanceStrategy>,
    /// Weight of the text, 1 (off) to 50.
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    text_weight: Option<f32>,
    /// Weight of the neighbours, 1 (off) to 50.
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    neighbour_weight: Option<f32>,
    /// Share of the steps that are guided by the text; lower values follow the neighbours more closely.
    #[arg(long, value_name = "0..1", allow_negative_numbers = true)]
    interleave_ratio: Option<f32>,
    /// Spreads the steps that are guided by the text evenly instead of drawing them at random.
    #[arg(long)]
    interleave_evenly: bool,
    /// How far the spread of guided predictions is brought back to that of unguided ones, against too much contrast.
    #[arg(long, value_name = "0..1", allow_negative_numbers = true)]
    guidance_rescale: Option<f32>,
    /// Noise levels (sigma) that are guided, such as 0.2..5; either end may be left out.
    #[arg(long, value_name = "MIN..MAX", value_parser = interval, allow_hyphen_values = true)]
    guidance_interval: Option<GuidanceInterval>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Reference images")]
struct MemoryArguments {
    /// K: how many neighbours to retrieve, 1 to 8.
    #[arg(long, short = 'k', value_name = "K", allow_negative_numbers = true)]
    neighbours: Option<u32>,
    /// Text to search for. Default: the prompt or, with --query-image, none.
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
    #[command(flatten)]
    search: SearchArguments,
    /// What to do if nothing in the knowledge base matches.
    #[arg(long, value_parser = parser::<NoMatch>())]
    no_match: Option<NoMatch>,
    /// Draws from the text alone.
    #[arg(long, conflicts_with_all = ["SearchArguments", "neighbours", "query", "no_match", "references"])]
    no_retrieval: bool,
    /// Your own reference image and its caption; may be repeated. They are used instead of a search or, if there is an option of a
    /// search, before what it finds.
    #[arg(long = "reference", value_name = "FILE=CAPTION", value_parser = file_and_caption)]
    references: Vec<(PathBuf, String)>,
}

/// Of all 64 bits.
fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("write a whole number, 0 to {}", u64::MAX))
}

fn size(text: &str) -> Result<Size, String> {
    let wrong = || "write a side such as 256, or WIDTHxHEIGHT such as 96x64".to_owned();
    let side = |text: &str| text.parse().map_err(|_| wrong());
    match text.split_once('x') {
        None => Ok(Size::square(side(text)?)),
        Some((width, height)) => Ok(Size { width: side(width)?, height: side(height)? }),
    }
}

fn file_and_caption(text: &str) -> Result<(PathBuf, String), String> {
    match text.split_once('=') {
        Some((file, caption)) if !file.is_empty() => Ok((file.into(), caption.to_owned())),
        _ => Err("write FILE=CAPTION".to_owned()),
    }
}

fn interval(text: &str) -> Result<GuidanceInterval, String> {
    let end = |text: &str| match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("{text} is no number")),
    };
    let (min, max) = text.split_once("..").ok_or("write MIN..MAX")?;
    Ok(GuidanceInterval { min_sigma: end(min)?, max_sigma: end(max)? })
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let files = picture_file::numbered(&arguments.out, arguments.count);
    let watched = watched(&arguments)?;
    for file in files.iter().chain(&arguments.sheet).chain(&watched) {
        picture_file::check(file).await?;
    }
    let request = request(&arguments).await?;
    let mut bars = Bars::new(arguments.json);
    let timeout = arguments.mesh.timeout();
    let (mut drawn, mut not_shown) = (Vec::new(), None);
    let asked = arguments.mesh.with_pipeline(async |address| {
        let outcome = ask(address, request, timeout, |event| {
            bars.show(event);
            match event {
                Event::Started(_) => drawn.clear(),
                Event::Image(image) => drawn.push(image.clone()),
                Event::Preview(Preview { step: 1.., index, image: Some(image), .. }) => {
                    // Small, a few per second, and nothing else is to do.
                    let shown = watched.get(*index as usize).map(|file| std::fs::write(file, &image.data));
                    not_shown = not_shown.take().or(shown.and_then(Result::err));
                }
                _ => {}
            }
        });
        let outcome = outcome.await;
        bars.finish();
        Ok(outcome.map_err(|status| explain(&status, timeout))?)
    });
    let outcome = asked.await;
    // If one of several failed, those that are there are written.
    drawn.retain(|_| outcome.is_ok() || files.len() > 1);
    drawn.sort_by_key(|image| image.index);
    let mut written = Vec::new();
    for GeneratedImage { index, image, .. } in &drawn {
        if let Some((file, image)) = files.get(*index as usize).zip(image.as_ref()) {
            picture_file::write(file, image).await?;
            written.push(file.display().to_string());
        }
    }
    let outcome = match outcome {
        Err(failure) if !written.is_empty() => {
            return Err(format!("{failure}; written: {}", written.join(", ")).into());
        }
        outcome => outcome?,
    };
    if let Some(error) = not_shown {
        return Err(format!("a preview between steps was not written: {error}").into());
    }
    let sheet = arguments.sheet.as_deref();
    if let Some(path) = sheet {
        picture_file::write(path, &sheet::stack(&sheet::rows(&outcome)?, format_of(path)?)?).await?;
    }
    if arguments.json {
        say!("{}", report::json(&arguments.prompt, &outcome, &files, sheet))?;
    } else {
        print(format_args!("{}", report::text(&outcome, &files, sheet)))?;
    }
    Ok(())
}

/// The files that show what the base model takes each image for; none if they are not asked for.
fn watched(arguments: &Arguments) -> Result<Vec<PathBuf>, Failure> {
    let Some(file) = &arguments.step_previews else { return Ok(Vec::new()) };
    if format_of(file)? != format_of(&arguments.out)? {
        let (file, out) = (file.display(), arguments.out.display());
        return Err(format!("{file}: must have the encoding of --out, {out}").into());
    }
    Ok(picture_file::numbered(file, arguments.count))
}

async fn request(arguments: &Arguments) -> Result<GenerateRequest, Failure> {
    let GuidanceArguments { steps, sampler, noise_levels, thresholding, strategy, .. } = arguments.guidance;
    let GuidanceArguments { text_weight, neighbour_weight, interleave_ratio, .. } = arguments.guidance;
    let fit = arguments.fit;
    let evenly = arguments.guidance.interleave_evenly;
    let draw = if evenly { InterleaveDraw::LowDiscrepancy } else { InterleaveDraw::Unspecified };
    Ok(GenerateRequest {
        prompt: arguments.prompt.clone(),
        seed: arguments.seed,
        size: arguments.size.filter(|size| size.width == size.height).map(|size| size.width),
        resolution: arguments.size.filter(|size| size.width != size.height),
        memory: memory(&arguments.memory, fit).await?,
        guidance: Some(Guidance {
            strategy: strategy.unwrap_or_default().into(),
            text_weight,
            neighbour_weight,
            interleave_ratio,
            rescale: arguments.guidance.guidance_rescale,
            interval: arguments.guidance.guidance_interval,
            interleave_draw: draw.into(),
        }),
        base_sampling: Some(Sampling {
            steps,
            sampler: sampler.unwrap_or_default().into(),
            thresholding: thresholding.unwrap_or_default().into(),
            noise_levels: noise_levels.unwrap_or_default().into(),
            ..Sampling::default()
        }),
        super_resolution: Vec::new(),
        output_format: format_of(&arguments.out)?.into(),
        previews: arguments.sheet.is_some(),
        negative_prompt: arguments.negative_prompt.clone(),
        initial: arguments.initial.message(fit).await?,
        count: Some(arguments.count),
        allow_degraded: arguments.allow_degraded,
        step_previews: arguments.step_previews.is_some(),
    })
}

/// What was asked for; none leaves it to the mesh, which may have nothing to retrieve.
async fn memory(arguments: &MemoryArguments, fit: Fit) -> Result<Option<Memory>, Failure> {
    if arguments.no_retrieval {
        return Ok(Some(Memory::None(NoMemory {})));
    }
    let mut references = Vec::new();
    for (file, caption) in &arguments.references {
        let image = Some(picture_file::read(file).await?);
        references.push(Reference { image, caption: caption.clone(), fit: fit.into() });
    }
    let search = &arguments.search;
    let retrieval = Retrieval {
        knowledge_base: search.knowledge_base.clone().unwrap_or_default(),
        neighbours: arguments.neighbours,
        strategy: search.retrieval.unwrap_or_default().into(),
        minimum_score: search.minimum_score,
        no_match: arguments.no_match.unwrap_or_default().into(),
        query: arguments.query.clone(),
        embed: match &search.query_image {
            Some(file) => Some(Embed::QueryImage(picture_file::read(file).await?)),
            None => None,
        },
        selection: search.selection(),
        ..Retrieval::default()
    };
    Ok(if retrieval != Retrieval::default() {
        Some(Memory::Retrieval(Retrieval { references, ..retrieval }))
    } else if references.is_empty() {
        None
    } else {
        Some(Memory::References(References { references }))
    })
}
