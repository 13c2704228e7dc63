//! Bad input gets a clear answer: the code, the field and its range.

use reverie_imaging::pictures::{self, Rgb};
use std::io::Cursor;

use image::RgbaImage;
use reverie_integration_tests::mutation::checksum;
use reverie_integration_tests::requests::{dimensions, draw, neighbours, quick, steps};
use reverie_integration_tests::{Fallible, mesh};
use reverie_proto::diffusion::v1::{Guidance, GuidanceInterval, InitialPicture, Sampler, Sampling};
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::{
    GenerateRequest, Reference, References, Retrieval, SuperResolutionOptions,
};
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::{Image, ImageFormat};
use tonic::{Code, Status};
use tonic_types::{FieldViolation, StatusExt as _};

/// A request made bad, the field that is to be named, and a part of what is to be said of it.
type Case = (GenerateRequest, &'static str, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_is_named_with_its_range() -> Fallible<()> {
    let mesh = mesh::start().await?;
    let pipeline = mesh.pipeline();
    for (request, field, said) in [cases()?, cases_of_images()?, cases_of_stages()?].concat() {
        let status = draw(pipeline, request).await.map(|_| ()).expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
        let named = violations(&status);
        let [violation] = &named[..] else { panic!("{field}: {named:?}") };
        assert_eq!(violation.field, field);
        assert!(violation.description.contains(said), "{field}: {}", violation.description);
        assert!(status.message().contains(field) && status.message().contains(said), "{status}");
    }

    let unknown = Retrieval { knowledge_base: "birds".to_owned(), ..Default::default() };
    let status = draw(pipeline, with_memory(Memory::Retrieval(unknown))).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    assert!(status.message().contains("birds"), "{status}");

    // What was refused left nothing behind that is in the way of a good request.
    assert_eq!(dimensions(&draw(pipeline, good()).await?)?, (64, 64));
    mesh.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_is_said_at_once() -> Fallible<()> {
    let mesh = mesh::start().await?;
    let mut request = with_memory(neighbours(9));
    request.prompt.clear();
    request.size = Some(100);
    let status = draw(mesh.pipeline(), request).await.map(|_| ()).unwrap_err();
    let named = violations(&status);
    let mut fields: Vec<_> = named.iter().map(|violation| violation.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["prompt", "retrieval.neighbours", "size"]);
    mesh.shutdown().await;
    Ok(())
}

/// Clients take 8 KiB of headers; a caller that is wrong everywhere is told so all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_hears_what_is_wrong_however_much_it_is() -> Fallible<()> {
    let mesh = mesh::start().await?;
    let picture = Image { data: vec![0; 9].into(), ..Default::default() };
    let reference = Reference { image: Some(picture), caption: "\u{7}".repeat(7000), ..Reference::default() };
    let mut request = with_memory(Memory::References(References { references: vec![reference; 100] }));
    request.prompt = "a\u{1b}".repeat(3000);
    request.negative_prompt = Some("猫".repeat(9000));
    request.super_resolution = vec![level(7.0); 100];
    request.guidance =
        Some(Guidance { strategy: 99, text_weight: Some(0.0), rescale: Some(9.0), ..Default::default() });
    let status = draw(mesh.pipeline(), request).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let told = violations(&status).len();
    assert!(told > 5 && status.message().contains(" more"), "{told}: {status}");
    let headers: http::Response<()> = status.into_http();
    let bytes: usize = headers.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(bytes < 4200, "{bytes}");
    mesh.shutdown().await;
    Ok(())
}

fn violations(status: &Status) -> Vec<FieldViolation> {
    status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default()
}

fn good() -> GenerateRequest {
    quick("a small zunin on the left, snow", 64, 1)
}

fn with_prompt(prompt: &str) -> GenerateRequest {
    GenerateRequest { prompt: prompt.to_owned(), ..good() }
}

fn with_memory(memory: Memory) -> GenerateRequest {
    GenerateRequest { memory: Some(memory), ..good() }
}

fn with_guidance(guidance: Guidance) -> GenerateRequest {
    GenerateRequest { guidance: Some(guidance), ..good() }
}

fn with_steps(count: u32) -> GenerateRequest {
    GenerateRequest { base_sampling: Some(steps(count)), ..good() }
}

fn level(noise_level: f32) -> SuperResolutionOptions {
    SuperResolutionOptions { noise_level: Some(noise_level), ..Default::default() }
}

fn with_levels(count: usize, level: SuperResolutionOptions) -> GenerateRequest {
    GenerateRequest { super_resolution: vec![level; count], ..good() }
}

fn with_reference(format: ImageFormat, data: Vec<u8>, caption: &str) -> GenerateRequest {
    let image = Image { format: format.into(), data: data.into(), ..Default::default() };
    let references =
        vec![Reference { image: Some(image), caption: caption.to_owned(), ..Reference::default() }];
    with_memory(Memory::References(References { references }))
}

fn text_weight(weight: f32) -> GenerateRequest {
    with_guidance(Guidance { text_weight: Some(weight), ..Default::default() })
}

fn neighbour_weight(weight: f32) -> GenerateRequest {
    with_guidance(Guidance { neighbour_weight: Some(weight), ..Default::default() })
}

fn cases() -> Fallible<Vec<Case>> {
    let small = pictures::encode(&Rgb::new(8, 8), ImageFormat::Png)?.data.to_vec();
    let reference = |data: Vec<u8>| with_reference(ImageFormat::Unspecified, data, "a zunin");
    let interleave = |ratio| with_guidance(Guidance { interleave_ratio: Some(ratio), ..Default::default() });
    let rescale = |phi| with_guidance(Guidance { rescale: Some(phi), ..Default::default() });
    let interval = |min_sigma, max_sigma| {
        let interval = Some(GuidanceInterval { min_sigma, max_sigma });
        with_guidance(Guidance { interval, ..Default::default() })
    };
    let negative = |prompt: &str| GenerateRequest { negative_prompt: Some(prompt.to_owned()), ..good() };
    let own = |side, level| Some(pictures::raw(Rgb::from_pixel(side, side, [level; 3].into())));
    let initial = |image, mask, strength| {
        let initial = Some(InitialPicture { image, mask, strength, ..InitialPicture::default() });
        GenerateRequest { initial, ..good() }
    };
    let resolution = |width, height| {
        let resolution = Some(Size { width, height });
        GenerateRequest { size: None, resolution, ..good() }
    };
    let unreadable = Some(Image { data: b"no picture".to_vec().into(), ..Default::default() });
    let strength = "must be above 0 and at most 1";
    let mut many_levels = good();
    many_levels.super_resolution.extend_from_within(..);
    let mut level_steps = good();
    level_steps.super_resolution[1].sampling = Some(steps(1001));
    let (ratio, weight, step_range) = ("must be 0 to 1", "must be 1 to 50", "must be 1 to 1000");
    let (image, caption) = ("references.references[0].image", "references.references[0].caption");
    Ok(vec![
        (with_prompt(""), "prompt", "must not be empty: 1 to 8000"),
        (with_prompt(" \t "), "prompt", "must not be empty: 1 to 8000"),
        (with_prompt(&"a".repeat(8001)), "prompt", "at most 8000 bytes, not 8001"),
        (with_prompt("a zunin\u{0}"), "prompt", "control character"),
        (with_prompt("a zunin\u{1b}[2J, snow"), "prompt", "control character"),
        (with_memory(neighbours(0)), "retrieval.neighbours", "must be 1 to 8 (got 0)"),
        (with_memory(neighbours(9)), "retrieval.neighbours", "must be 1 to 8 (got 9)"),
        (with_steps(0), "base_sampling.steps", step_range),
        (with_steps(1001), "base_sampling.steps", step_range),
        (level_steps, "super_resolution[1].sampling.steps", step_range),
        (many_levels, "super_resolution", "must be at most 2 levels (got 4)"),
        (
            with_levels(1000, SuperResolutionOptions::default()),
            "super_resolution",
            "must be at most 2 levels (got 1000)",
        ),
        (
            GenerateRequest { size: Some(100), ..good() },
            "size",
            "must be 64 x 64 or 256 x 256 or 1024 x 1024, not 100 x 100",
        ),
        (GenerateRequest { size: Some(0), ..good() }, "size", "or 1024 x 1024, not 0 x 0"),
        (resolution(96, 64), "resolution", "must be 64 x 64 or 256 x 256 or 1024 x 1024, not 96 x 64"),
        (
            GenerateRequest { size: Some(64), ..resolution(64, 64) },
            "size",
            "must not be set beside resolution",
        ),
        (GenerateRequest { output_format: 99, ..good() }, "output_format", "PNG, JPEG or WEBP"),
        (text_weight(0.5), "guidance.text_weight", weight),
        (text_weight(51.0), "guidance.text_weight", weight),
        (text_weight(f32::NAN), "guidance.text_weight", weight),
        (neighbour_weight(0.5), "guidance.neighbour_weight", weight),
        (neighbour_weight(51.0), "guidance.neighbour_weight", weight),
        (interleave(1.5), "guidance.interleave_ratio", ratio),
        (interleave(-0.1), "guidance.interleave_ratio", ratio),
        (rescale(1.1), "guidance.rescale", ratio),
        (rescale(f32::NAN), "guidance.rescale", ratio),
        (interval(Some(-1.0), None), "guidance.interval.min_sigma", "must be at least 0 (got -1)"),
        (interval(Some(f32::NAN), None), "guidance.interval.min_sigma", "must be at least 0"),
        (interval(Some(5.0), Some(2.0)), "guidance.interval.max_sigma", "must be at least 5 (got 2)"),
        (interval(None, Some(-0.5)), "guidance.interval.max_sigma", "must be at least 0 (got -0.5)"),
        (negative(" "), "negative_prompt", "must not be empty"),
        (negative(&"a".repeat(8001)), "negative_prompt", "at most 8000 bytes, not 8001"),
        (with_guidance(Guidance { strategy: 99, ..Default::default() }), "guidance.strategy", "99"),
        (initial(own(8, 9), None, Some(0.0)), "initial.strength", strength),
        (initial(own(8, 9), None, Some(1.01)), "initial.strength", strength),
        (initial(own(8, 9), None, Some(f64::NAN)), "initial.strength", strength),
        // Only the denoiser knows the steps; it answers for itself.
        (initial(own(8, 9), None, Some(0.2)), "initial.strength", "less than one step: at least 0.25"),
        (initial(None, own(8, 255), None), "initial.image", "is missing"),
        (initial(unreadable.clone(), None, None), "initial.image", "PNG, JPEG, WebP"),
        (initial(own(8, 9), unreadable, None), "initial.mask", "PNG, JPEG, WebP"),
        (
            initial(own(8, 9), own(16, 255), None),
            "initial.mask",
            "16 x 16 pixels, must have the size of the picture, 8 x 8",
        ),
        (initial(own(8, 9), own(8, 0), None), "initial.mask", "no white pixel"),
        (with_memory(Memory::References(References::default())), "references.references", "1 to 8"),
        (reference(Vec::new()), image, "empty"),
        (reference(b"no picture at all".to_vec()), image, "PNG, JPEG, WebP"),
        (reference(small[..40].to_vec()), image, "cannot be decoded"),
        (reference(huge(&small)), image, "65535 x 65535 pixels, each side must be 1 to 4096"),
        (reference([small.clone(), vec![0; 8 << 20]].concat()), image, "at most 8388608"),
        (with_reference(ImageFormat::Jpeg, small.clone(), "a zunin"), image, "cannot be decoded"),
        (with_reference(ImageFormat::Png, small, ""), caption, "must not be empty"),
    ])
}

/// Images that nobody can draw from.
fn cases_of_images() -> Fallible<Vec<Case>> {
    let own = |side, level| Some(pictures::raw(Rgb::from_pixel(side, side, [level; 3].into())));
    let initial = |image, mask, strength| {
        let initial = Some(InitialPicture { image, mask, strength, ..InitialPicture::default() });
        GenerateRequest { initial, ..good() }
    };
    let reference = |data: Vec<u8>| with_reference(ImageFormat::Unspecified, data, "a zunin");
    let image = "references.references[0].image";
    let fit = GenerateRequest {
        initial: Some(InitialPicture { image: own(8, 9), fit: 9, ..InitialPicture::default() }),
        ..good()
    };
    let photo_with_a_hole = Some(encoded(&RgbaImage::from_fn(8, 8, |x, y| {
        let hole = if x + y < 5 { [0; 4] } else { [200, 180, 90 + x as u8, 255] };
        hole.into()
    }))?);
    let nothing_painted = Some(encoded(&RgbaImage::new(8, 8))?);
    let whole_jpeg =
        pictures::encode(&Rgb::from_fn(64, 64, |x, y| [x as u8, y as u8, 9].into()), ImageFormat::Jpeg)?;
    let half_jpeg = whole_jpeg.data[..whole_jpeg.data.len() / 2].to_vec();
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec();
    let empty = Some(Image::default());
    Ok(vec![
        (initial(empty.clone(), None, None), "initial.image", "empty: it has 0 bytes"),
        (initial(own(8, 9), empty, None), "initial.mask", "empty: it has 0 bytes"),
        (fit, "initial.fit", "must be FIT_CROP or FIT_PAD (got 9)"),
        (initial(own(8, 9), photo_with_a_hole, None), "initial.mask", "save it without transparency"),
        (initial(own(8, 9), nothing_painted, None), "initial.mask", "transparent everywhere"),
        (reference(half_jpeg), image, "the file is cut off"),
        (reference(heic), image, "HEIC is not supported: convert it to PNG, JPEG or WebP"),
        (reference(b"GIF89a\x01\0\x01\0".to_vec()), image, "GIF is not supported"),
    ])
}

/// A PNG with transparency.
fn encoded(picture: &RgbaImage) -> Fallible<Image> {
    let mut data = Cursor::new(Vec::new());
    picture.write_to(&mut data, image::ImageFormat::Png)?;
    Ok(Image { data: data.into_inner().into(), ..Default::default() })
}

/// What only the stages know: the caller hears of its own fields, and of what to do.
fn cases_of_stages() -> Fallible<Vec<Case>> {
    let small = pictures::encode(&Rgb::new(8, 8), ImageFormat::Png)?.data.to_vec();
    let (long, too_long) = ("zunin ".repeat(40), "tokens, the model takes at most 32: shorten it");
    let lcm = Some(Sampling { sampler: Sampler::Lcm.into(), ..Sampling::default() });
    let distilled = "only for models distilled to few steps";
    let mut level_sampler = quick("a zunin", 1024, 1);
    level_sampler.super_resolution[1].sampling = lcm;
    let caption = "references.references[0].caption";
    Ok(vec![
        (with_prompt(&long), "prompt", too_long),
        (GenerateRequest { negative_prompt: Some(long.clone()), ..good() }, "negative_prompt", too_long),
        (with_reference(ImageFormat::Png, small, &long), caption, too_long),
        (GenerateRequest { base_sampling: lcm, ..good() }, "base_sampling.sampler", distilled),
        (level_sampler, "super_resolution[1].sampling.sampler", distilled),
    ])
}

/// The PNG `small`, claiming to be 65,535 pixels wide and high, its checksum made right.
fn huge(small: &[u8]) -> Vec<u8> {
    let mut picture = small.to_vec();
    picture[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let checksum = checksum(&picture[12..29]);
    picture[29..33].copy_from_slice(&checksum.to_be_bytes());
    picture
}
