//! Files as cameras, editors and phones write them, made by files.py.

#![expect(clippy::expect_used, reason = "the names of files are what failures are told by")]

use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use reverie_imaging::{Encoded, pictures};
use reverie_proto::tensor::v1::Image;

fn bytes(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)).expect(name)
}

fn message(data: Vec<u8>) -> Image {
    Image { data: data.into(), ..Image::default() }
}

fn read(name: &str) -> RgbImage {
    pictures::decode(&message(bytes(name))).expect(name)
}

/// The largest difference of a channel.
fn distance(one: &RgbImage, other: &RgbImage) -> u8 {
    assert_eq!(one.dimensions(), other.dimensions());
    one.iter().zip(other.iter()).map(|(one, other)| one.abs_diff(*other)).max().unwrap_or(0)
}

#[test]
fn pictures_are_turned_as_their_orientation_says() {
    let upright = read("upright.png");
    let jpegs = (1..=8).map(|orientation| format!("orientation-{orientation}.jpg"));
    for name in jpegs.chain(["orientation-6.png", "orientation-6.webp"].map(str::to_owned)) {
        let size = Encoded::read(&message(bytes(&name))).expect(&name).size();
        assert_eq!((size.width, size.height), upright.dimensions(), "{name}: the header says it too");
        let off = distance(&read(&name), &upright);
        let most = if name.ends_with("jpg") { 24 } else { 0 };
        assert!(off <= most, "{name}: {off}");
    }
}

#[test]
fn colour_profiles_are_converted_to_srgb() {
    let plain = read("plain.png");
    let expected = read("adobe-rgb-expected.png");
    assert!(distance(&plain, &expected) > 20, "the profile matters");
    for (name, most) in [("adobe-rgb.png", 2), ("adobe-rgb.webp", 2), ("adobe-rgb.jpg", 12)] {
        let off = distance(&read(name), &expected);
        assert!(off <= most, "{name}: {off} from LittleCMS");
    }
    for (name, most) in [("gray.png", 2), ("gray.jpg", 4)] {
        let off = distance(&read(name), &read("gray-expected.png"));
        assert!(off <= most, "{name}: {off} from LittleCMS");
    }
    assert_eq!(read("srgb.png"), plain, "what is sRGB keeps every bit");
    // Inks are converted without their profile.
    assert_eq!(read("cmyk-with-profile.jpg"), read("cmyk.jpg"));
    let off = distance(&read("cmyk.jpg"), &plain);
    assert!(off <= 8, "{off}");
}

#[test]
fn a_profile_that_cannot_be_read_is_said() {
    let whole = bytes("adobe-rgb.jpg");
    let at = whole.windows(4).position(|window| window == b"acsp").expect("the profile's signature");
    let mut broken = whole;
    broken[at..at + 4].copy_from_slice(b"nope");
    let error = pictures::decode(&message(broken)).expect_err("no profile").to_string();
    assert!(error.contains("colour profile") && error.contains("save it as sRGB"), "{error}");
}

#[test]
fn a_file_that_is_cut_off_is_refused_wherever_it_ends() {
    let names = [
        "baseline.jpg",
        "progressive.jpg",
        "restarts.jpg",
        "gray.jpg",
        "cmyk.jpg",
        "orientation-6.jpg",
        "lossy.webp",
        "lossless.webp",
        "alpha.webp",
        "plain-noise.png",
        "palette.png",
        "alpha.png",
        "gray-16.png",
    ];
    for name in names {
        let whole = bytes(name);
        assert!(pictures::decode(&message(whole.clone())).is_ok(), "{name}");
        // The end-of-image marker has 2 bytes; PNG's last chunk and its checksum hold no pixels, nor does WebP's last byte.
        let ends = match name.rsplit_once('.') {
            Some((_, "png")) => whole.len() - 16,
            Some((_, "webp")) => whole.len() - 2,
            _ => whole.len() - 1,
        };
        for end in (1..20).map(|part| whole.len() * part / 20).chain([ends]) {
            let cut = pictures::decode(&message(whole[..end].to_vec()));
            assert!(cut.is_err(), "{name}: {end} of {} bytes", whole.len());
        }
    }
}

#[test]
fn transparency_is_left_out() {
    let noise = read("plain-noise.png");
    assert_eq!(read("alpha.png"), noise);
    assert_eq!(read("alpha-lossless.webp"), noise);
    let clear = image::RgbaImage::from_pixel(1, 1, image::Rgba([10, 20, 30, 0]));
    let mut data = std::io::Cursor::new(Vec::new());
    clear.write_to(&mut data, image::ImageFormat::Png).expect("encoded");
    let read = pictures::decode(&message(data.into_inner())).expect("decoded");
    assert_eq!(read.get_pixel(0, 0), &Rgb([10, 20, 30]), "as Pillow's convert(\"RGB\")");
}
