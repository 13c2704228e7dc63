//! Images on their way through the pipeline. Each is decoded once, in the process's pool, and at once made as small as the
//! models take it: what goes on to the stages is what they see. What was made of the images of knowledge bases is kept for a while, by their
//! content.

use std::sync::{Arc, LazyLock};

use reverie_engine::Cache;
use reverie_imaging::fit::{Fit, Reader};
use reverie_imaging::initial::Opened;
use reverie_imaging::pictures::Rgb;
use reverie_imaging::preview::{self, Bounds};
use reverie_imaging::{Encoded, PictureError, pictures, pool};
use reverie_proto::generation::v1::NeighboursFound;
use reverie_proto::knowledge::v1::ImageDetail;
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::{Refusal, Violations};
use sha2::{Digest as _, Sha256};
use tonic::Status;

use crate::convert::Run;

/// The images of a request that is otherwise right, as far as their headers tell.
#[derive(Debug, Default)]
pub(crate) struct Undecoded {
    pub(crate) references: Vec<(Encoded, Fit)>,
    pub(crate) initial: Option<Opened>,
}

impl Undecoded {
    fn pixels(&self) -> u64 {
        let references = self.references.iter().map(|(image, _)| image.size().pixels());
        references.sum::<u64>() + self.initial.as_ref().map_or(0, |initial| initial.size().pixels())
    }

    /// Decodes them, one after the other, into the run that they are for.
    pub(crate) async fn decode(self, run: &mut Run) -> Result<(), Status> {
        let _turn = pool::turn(self.pixels()).await;
        let mut violations = Violations::new();
        for (index, (image, fit)) in self.references.into_iter().enumerate() {
            let reader = run.reader.ok_or_else(missing_reader)?;
            let square = pool::decode(image, move |picture| pictures::raw(reader.square(picture, fit))).await;
            let own = &mut run.memory.own;
            own.images.extend(violations.take(format!("{}[{index}].image", own.field), square));
        }
        if let Some(initial) = self.initial {
            match initial.bring_to(run.initial_sizes.clone()).await {
                Ok(initial) => run.initial = Some(Arc::new(initial)),
                Err(error) => violations.add(format!("initial.{}", error.field()), error),
            }
        }
        violations.into_result()
    }
}

fn missing_reader() -> Status {
    Refusal::internal("the denoiser takes neighbours and does not say how").into()
}

/// The pictures of neighbours as the model sees them; those in `found`, which are for people, are left in the detail that these asked
/// for.
pub(crate) async fn of_neighbours(
    found: &mut NeighboursFound,
    reader: Option<Reader>,
    detail: ImageDetail,
) -> Result<Vec<Image>, Status> {
    let reader = reader.ok_or_else(missing_reader)?;
    let mut squares = Vec::with_capacity(found.neighbours.len());
    for neighbour in &mut found.neighbours {
        let image = neighbour.image.take().unwrap_or_default();
        let (square, told) = of_neighbour(image, reader, detail).await.map_err(|error| {
            Refusal::internal(format!(
                "the picture of {:?} in the knowledge base {:?} cannot be used, build it again: {error}",
                neighbour.id, found.knowledge_base
            ))
        })?;
        neighbour.image = told;
        squares.push(square);
    }
    Ok(squares)
}

/// What the model sees, and what people are shown.
async fn of_neighbour(
    image: Image,
    reader: Reader,
    detail: ImageDetail,
) -> Result<(Image, Option<Image>), Arc<PictureError>> {
    let encoded = Encoded::read(&image)?;
    let bounds = Bounds::default();
    let as_it_is = detail == ImageDetail::Original || preview::is_small(&image, encoded.size(), bounds);
    let smaller = detail != ImageDetail::None && !as_it_is;
    let see = async || {
        let see = move |picture: &Rgb| {
            let preview = smaller.then(|| preview::of(picture, bounds)).transpose()?;
            Ok(Seen { square: pictures::raw(reader.square(picture, Fit::Crop)), preview })
        };
        pool::decode(encoded.clone(), see).await?
    };
    let Seen { square, preview } = SEEN.get_or_compute(key(&image, reader, smaller), see, |_| false).await?;
    let told = match detail {
        ImageDetail::None => None,
        _ if as_it_is => Some(image),
        _ => preview,
    };
    Ok((square, told))
}

/// What is made of an image.
#[derive(Debug, Clone)]
struct Seen {
    /// For the model.
    square: Image,
    /// For people, where they are shown a smaller one.
    preview: Option<Image>,
}

/// Most bytes of what is kept.
const KEPT_BYTES: u64 = 32 << 20;

/// Of the process, as its pool is.
static SEEN: LazyLock<Cache<Seen>> = LazyLock::new(|| {
    let bytes =
        |seen: &Seen| seen.square.data.len() + seen.preview.as_ref().map_or(0, |image| image.data.len());
    Cache::new("neighbour-images", KEPT_BYTES, bytes)
});

/// All that what is made of an image depends on.
fn key(image: &Image, reader: Reader, smaller: bool) -> [u8; 32] {
    let Image { data, format, width, height } = image;
    let mut digest = Sha256::new();
    for number in
        [*format as u32, *width, *height, reader.side, reader.shorter.unwrap_or(0), u32::from(smaller)]
    {
        digest.update(number.to_le_bytes());
    }
    digest.update(data);
    digest.finalize().into()
}

/// The sizes at which an initial picture is needed: of the base picture `size`, and with a mask of the levels' pictures, given
/// by their sides before and after, to which the caller's picture has more to tell than the level was given.
pub(crate) fn initial_sizes(
    initial: &Opened,
    size: Size,
    levels: impl Iterator<Item = (u32, u32)>,
) -> Vec<Size> {
    let own_width = initial.own_width(size);
    let kept = levels.filter(|(low_side, _)| initial.has_mask() && own_width > *low_side);
    [size].into_iter().chain(kept.map(|(_, side)| Size::square(side))).collect()
}

#[cfg(test)]
mod tests {
    use reverie_proto::knowledge::v1::Neighbour;
    use reverie_proto::tensor::v1::ImageFormat;

    use super::*;

    #[tokio::test]
    async fn neighbours_are_told_of_in_less_than_a_stock_client_takes() {
        let mut state = 7_u32;
        let noise = Rgb::from_fn(1000, 800, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            [(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8].into()
        });
        let large = pictures::encode(&noise, ImageFormat::Png).unwrap();
        let small = pictures::encode(&Rgb::new(128, 96), ImageFormat::Png).unwrap();
        assert!(large.data.len() > 2 << 20, "{}", large.data.len());
        let neighbour = |image: &Image| Neighbour { image: Some(image.clone()), ..Neighbour::default() };
        let mut neighbours = vec![neighbour(&large); 7];
        neighbours.push(neighbour(&small));
        let mut found = NeighboursFound { neighbours, ..NeighboursFound::default() };
        let reader = Reader { side: 64, shorter: None };
        let squares = of_neighbours(&mut found, Some(reader), ImageDetail::Unspecified).await.unwrap();

        let bytes: usize =
            found.neighbours.iter().flat_map(|one| &one.image).map(|image| image.data.len()).sum();
        assert!(bytes < 7 << 19, "{bytes} bytes of images");
        assert_eq!(found.neighbours[7].image.as_ref(), Some(&small), "a small image is sent as it is");
        assert_eq!(squares.len(), 8);
        for (square, original) in squares.iter().zip([&noise; 7]) {
            assert_eq!(
                *square,
                pictures::raw(reader.square(original, Fit::Crop)),
                "the model sees the original"
            );
        }
        for (detail, expected) in [(ImageDetail::None, None), (ImageDetail::Original, Some(&large))] {
            let mut found =
                NeighboursFound { neighbours: vec![neighbour(&large)], ..NeighboursFound::default() };
            let seen = of_neighbours(&mut found, Some(reader), detail).await.unwrap();
            assert_eq!((found.neighbours[0].image.as_ref(), &seen[0]), (expected, &squares[0]));
        }
        let preview = pictures::decode(found.neighbours[0].image.as_ref().unwrap()).unwrap();
        assert!(
            preview.width() <= 512 && 4 * preview.width() <= 5 * preview.height() + 5,
            "{:?}",
            preview.dimensions()
        );
    }

    #[tokio::test]
    async fn a_stored_picture_that_is_broken_is_named() {
        let broken = Image { data: b"GIF89a".to_vec().into(), ..Image::default() };
        let neighbour = Neighbour { id: "zunin-7".to_owned(), image: Some(broken), ..Neighbour::default() };
        let mut found = NeighboursFound {
            neighbours: vec![neighbour],
            knowledge_base: "creatures".to_owned(),
            ..NeighboursFound::default()
        };
        let reader = Reader { side: 64, shorter: None };
        let status = of_neighbours(&mut found, Some(reader), ImageDetail::None).await.unwrap_err();
        for part in ["\"zunin-7\"", "\"creatures\"", "GIF is not supported"] {
            assert!(status.message().contains(part), "{status}");
        }
    }
}
