//! What images take in memory: a file of 49 KB can hold 48 MiB of pixels.
//!
//! One test, in a process of its own: it measures the whole process.
#![cfg(target_os = "linux")]

use std::fs;

use reverie_imaging::pictures::{self, Rgb};
use reverie_integration_tests::requests::{PATIENCE, draw, quick};
use reverie_integration_tests::{Fallible, mesh};
use reverie_proto::encoder::v1::EmbedImageRequest;
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::{Reference, References};
use reverie_proto::tensor::v1::{Image, ImageFormat};
use reverie_service_kit::Context;
use reverie_service_kit::client::{MAX_INTERNAL_MESSAGE, Upstream};

const MIB: u64 = 1 << 20;
/// Two images of the largest size with all that decoding takes, and room for the rest.
const MOST: u64 = 200 * MIB;

/// The most memory that was resident since the last call, bytes, and what is resident now.
fn peak_and_now() -> Fallible<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status")?;
    let read = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let kib =
            line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse::<u64>().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| format!("{name} is not in /proc/self/status"))
    };
    let found = (read("VmHWM:")?, read("VmRSS:")?);
    // 5 sets the peak back (proc(5)).
    fs::write("/proc/self/clear_refs", "5")?;
    Ok(found)
}

fn large() -> Fallible<Image> {
    let image = pictures::encode(&Rgb::from_pixel(4096, 4096, [90, 120, 40].into()), ImageFormat::Png)?;
    assert!(image.data.len() < 1 << 18, "{} bytes", image.data.len());
    Ok(image)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_images_take_no_more_memory_than_two() -> Fallible<()> {
    let image = large()?;
    let mesh = mesh::start().await?;
    draw(mesh.pipeline(), quick("a small zunin, snow", 64, 1)).await?;

    let (_, before) = peak_and_now()?;
    let requests = [1, 2].map(|seed| {
        let references = (0..4)
            .map(|_| Reference {
                image: Some(image.clone()),
                caption: "a zunin".to_owned(),
                ..Reference::default()
            })
            .collect();
        let mut request = quick("a small zunin, snow", 64, seed);
        request.memory = Some(Memory::References(References { references }));
        draw(mesh.pipeline(), request)
    });
    futures::future::try_join_all(requests).await?;
    let (peak, _) = peak_and_now()?;
    println!("2 x 4 references: {} MiB, from {} MiB", peak / MIB, before / MIB);
    assert!(
        peak - before < MOST,
        "2 x 4 references: {} MiB more than {}",
        (peak - before) / MIB,
        before / MIB
    );

    let stage = Upstream::new("encoder", mesh.encoder());
    let mut client =
        EncoderServiceClient::new(stage.channel()).max_encoding_message_size(MAX_INTERNAL_MESSAGE);
    let (_, before) = peak_and_now()?;
    let request = EmbedImageRequest { images: vec![image; 8], ..EmbedImageRequest::default() };
    let context = Context::with_timeout(4 * PATIENCE);
    client.embed_image(context.outgoing(request)).await?;
    let (peak, _) = peak_and_now()?;
    println!("8 images to embed: {} MiB, from {} MiB", peak / MIB, before / MIB);
    assert!(peak - before < MOST, "8 images: {} MiB more than {}", (peak - before) / MIB, before / MIB);
    mesh.shutdown().await;
    Ok(())
}
