//! Embeds pictures by the encoder service: in this process, or one that runs.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::encoder::v1::{EmbedImageRequest, EmbedImageResponse, GetModelsRequest, JointSpace};
use reverie_proto::tensor::v1::Image;
use reverie_proto::tensors;
use reverie_service_kit::client::{Channel, MAX_INTERNAL_MESSAGE, Upstream};
use reverie_service_kit::{Address, Context, Listener, Shutdown, output};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::source::{Candidate, Source};
use super::target::Target;
use super::unfinished::Unfinished;
use crate::Failure;
use crate::credentials::Credentials;
use crate::mesh::{self, MeshArguments};
use crate::progress::counting_bar;

/// The most of a call, unless one picture alone has more.
const BATCH: Batch = Batch { pictures: 32, bytes: 16 << 20, pixels: 32 << 20 };
/// How long the encoder may take to load, and for each picture.
const TIMEOUT: Duration = Duration::from_mins(1);
/// How long a batch is given again to an encoder that has no time, or cannot be reached.
const PATIENCE: Duration = Duration::from_mins(5);
/// The wait before that, if the encoder names none.
const PAUSE: Duration = Duration::from_secs(1);

/// Who embeds.
#[derive(Debug, clap::Args)]
pub(super) struct EncoderArguments {
    /// Asks a running encoder service, such as <http://127.0.0.1:7101>, instead of starting one with the bundle's models.
    #[arg(long, value_name = "URL")]
    encoder: Option<Address>,
    /// Of the running one.
    #[command(flatten)]
    credentials: Credentials,
    /// Of the one that is started.
    #[command(flatten)]
    mesh: MeshArguments,
}

/// The vectors of a list of pictures.
pub(super) struct Embedded {
    /// In the order of the candidates.
    pub(super) rows: Vec<Vec<f32>>,
    pub(super) dimension: u32,
    /// Identity of the encoder.
    pub(super) space_digest: String,
}

/// How much goes into a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch {
    pub(super) pictures: usize,
    pub(super) bytes: usize,
    pub(super) pixels: u64,
}

/// Embeds every picture that no earlier build has embedded.
pub(super) async fn embed(
    source: &Source,
    target: &mut Target,
    arguments: &EncoderArguments,
) -> Result<Embedded, Failure> {
    with_encoder(arguments, async |client| embed_by(client, source, target).await).await
}

/// The joint space of a bundle's encoders.
pub(super) async fn joint_space(arguments: &EncoderArguments) -> Result<JointSpace, Failure> {
    with_encoder(arguments, async |mut client| ask_for_space(&mut client).await).await
}

/// Gives `work` the encoder service that runs, or starts one for it.
async fn with_encoder<T>(
    arguments: &EncoderArguments,
    work: impl AsyncFnOnce(EncoderServiceClient<Channel>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let EncoderArguments { encoder, credentials, mesh } = arguments;
    let client = |address: &Address| {
        EncoderServiceClient::new(Upstream::new("encoder", address).channel())
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE)
    };
    if let Some(running) = encoder {
        credentials.use_for(running).await?;
        return work(client(running)).await;
    }
    let mut settings: reverie_encoder::Settings = mesh::service(mesh)?;
    settings.inference.bundle.clone_from(&mesh.bundle);
    let (listener, address) = Listener::memory();
    let shutdown = Shutdown::new();
    let encoder = tokio::spawn(reverie_encoder::run(settings, listener, shutdown.clone()));
    let outcome = work(client(&address)).await;
    shutdown.cancel();
    // What kept the encoder from starting says more than that it cannot be reached.
    encoder.await??;
    outcome
}

async fn ask_for_space(client: &mut EncoderServiceClient<Channel>) -> Result<JointSpace, Failure> {
    let models = client.get_models(Context::with_timeout(TIMEOUT).outgoing(GetModelsRequest {})).await;
    let models = models.map_err(|status| format!("the encoder: {}", status.message()))?.into_inner();
    Ok(models.joint.ok_or("the bundle has no joint encoders, so its pictures cannot be searched")?)
}

async fn embed_by(
    mut client: EncoderServiceClient<Channel>,
    source: &Source,
    target: &mut Target,
) -> Result<Embedded, Failure> {
    let candidates = &source.candidates;
    let space = ask_for_space(&mut client).await?;
    let mut unfinished = target.unfinished(&space.space_digest, space.dimension as usize)?;

    let known = unfinished.vectors();
    let mut seen = HashSet::new();
    let pending: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| {
            !known.contains_key(&candidate.picture.digest) && seen.insert(candidate.picture.digest.as_str())
        })
        .collect();
    let resumed = candidates.iter().filter(|candidate| known.contains_key(&candidate.picture.digest)).count();
    if resumed > 0 {
        output::note(format_args!("{resumed} of {} pictures were embedded before", candidates.len()));
    }
    let bar = counting_bar("embed", pending.len());
    let outcome = embed_pending(&mut client, source, &space, &pending, &mut unfinished, &bar).await;
    bar.finish_and_clear();
    outcome?;
    Ok(Embedded {
        rows: rows(candidates, unfinished.vectors())?,
        dimension: space.dimension,
        space_digest: space.space_digest,
    })
}

async fn embed_pending(
    client: &mut EncoderServiceClient<Channel>,
    source: &Source,
    space: &JointSpace,
    pending: &[&Candidate],
    unfinished: &mut Unfinished<'_>,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let mut rest = pending;
    while let Some((batch, later)) = BATCH.next(rest) {
        rest = later;
        let mut images = Vec::with_capacity(batch.len());
        for candidate in batch {
            images.push(Image { data: source.image(candidate).await?, ..Image::default() });
        }
        let request = EmbedImageRequest { images, ..EmbedImageRequest::default() };
        let answer = embed_batch(client, request).await.map_err(|status| {
            let (first, last) = (batch[0].place, batch[batch.len() - 1].place);
            format!("pictures of {first} to {last}: {}", status.message())
        })?;
        // It may have been started with other models since, or be one of several.
        if answer.space_digest != space.space_digest {
            return Err("the encoder has other models than before; start the build anew".into());
        }
        let (shape, values) = tensors::to_f32(&answer.embeddings.unwrap_or_default())?;
        let width = shape.last().copied().unwrap_or(1).max(1);
        if values.len() != batch.len() * width {
            return Err(format!("the encoder gave {shape:?} for {} pictures", batch.len()).into());
        }
        let mut vectors = Vec::with_capacity(batch.len());
        for (candidate, vector) in batch.iter().zip(values.chunks(width)) {
            if vector.iter().any(|value| !value.is_finite()) {
                let Candidate { label, place, .. } = candidate;
                return Err(
                    format!("{place}, {:?}: the encoder makes no vector of its picture", label.id).into()
                );
            }
            vectors.push((candidate.picture.digest.clone(), vector.to_vec()));
        }
        unfinished.add(vectors)?;
        bar.inc(batch.len() as u64);
    }
    Ok(())
}

/// Makes one call, and again where that helps: other builds may keep the encoder busy.
async fn embed_batch(
    client: &mut EncoderServiceClient<Channel>,
    request: EmbedImageRequest,
) -> Result<EmbedImageResponse, Status> {
    let (begun, timeout) = (Instant::now(), TIMEOUT * (1 + request.images.len() as u32));
    loop {
        let answer = client.embed_image(Context::with_timeout(timeout).outgoing(request.clone())).await;
        match answer {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status)
                if matches!(status.code(), Code::ResourceExhausted | Code::Unavailable)
                    && begun.elapsed() < PATIENCE =>
            {
                let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
                tokio::time::sleep(told.unwrap_or(PAUSE)).await;
            }
            Err(status) => return Err(status),
        }
    }
}

fn rows(candidates: &[Candidate], vectors: &HashMap<String, Vec<f32>>) -> Result<Vec<Vec<f32>>, Failure> {
    let row = |candidate: &Candidate| vectors.get(&candidate.picture.digest).cloned();
    candidates.iter().map(row).collect::<Option<_>>().ok_or_else(|| "a picture was not embedded".into())
}

impl Batch {
    /// The candidates of the next call, at least one, and those that come later.
    pub(super) fn next<'a, 'c>(
        self,
        rest: &'a [&'c Candidate],
    ) -> Option<(&'a [&'c Candidate], &'a [&'c Candidate])> {
        let (mut bytes, mut pixels) = (0, 0);
        let fits = |candidate: &&&Candidate| {
            bytes += candidate.picture.bytes;
            pixels += candidate.picture.pixels;
            bytes <= self.bytes && pixels <= self.pixels
        };
        let count = rest.iter().take(self.pictures).take_while(fits).count().max(1);
        rest.split_at_checked(count)
    }
}

#[cfg(test)]
mod tests {
    use reverie_knowledge::epoch::Label;

    use super::*;
    use crate::knowledge::listing::Place;
    use crate::knowledge::picture_files::{Picture, PictureFile};

    fn candidate(bytes: usize, pixels: u64) -> Candidate {
        let (id, caption, attribution, metadata) = Default::default();
        let label = Label { id, caption, attribution, metadata };
        let picture = Picture { digest: String::new(), bytes, pixels };
        Candidate { label, file: PictureFile::named(String::new()), place: Place::Line(1), picture }
    }

    #[test]
    fn calls_are_bounded_by_number_bytes_and_pixels() {
        let most = Batch { pictures: 3, bytes: 10, pixels: 100 };
        let all =
            [(1, 1), (1, 1), (1, 1), (1, 1), (6, 1), (6, 1), (50, 1), (1, 60), (1, 60), (1, 500), (1, 1)]
                .map(|(bytes, pixels)| candidate(bytes, pixels));
        let all: Vec<&Candidate> = all.iter().collect();
        let (mut rest, mut sizes) = (&all[..], Vec::new());
        while let Some((batch, later)) = most.next(rest) {
            sizes.push(batch.len());
            rest = later;
        }
        assert_eq!(sizes, [3, 2, 1, 1, 1, 1, 1, 1]);
    }
}
