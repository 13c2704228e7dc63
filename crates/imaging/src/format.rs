//! The format of an encoded image, told from its first bytes.

use reverie_proto::tensor::v1::ImageFormat;

/// PNG, JPEG or WebP, if it is one of them.
pub fn of(data: &[u8]) -> Option<ImageFormat> {
    if data.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(ImageFormat::Png)
    } else if data.starts_with(b"\xff\xd8\xff") {
        Some(ImageFormat::Jpeg)
    } else if data.starts_with(b"RIFF") && data.get(8..12) == Some(b"WEBP") {
        Some(ImageFormat::Webp)
    } else {
        None
    }
}

/// The name of a format that people send and that is not read here.
pub(crate) fn unsupported(data: &[u8]) -> Option<&'static str> {
    const STARTS: [(&[u8], &str); 14] = [
        (b"GIF8", "GIF"),
        (b"BM", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"II+\0", "TIFF"),
        (b"MM\0+", "TIFF"),
        (b"%PDF", "PDF"),
        (b"8BPS", "PSD"),
        (b"\0\0\x01\0", "ICO"),
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL ", "JPEG XL"),
        (b"\0\0\0\x0cjP  ", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"\x76\x2f\x31\x01", "OpenEXR"),
    ];
    let start = STARTS.iter().find(|(start, _)| data.starts_with(start)).map(|(_, name)| *name);
    start.or_else(|| iso_media(data)).or_else(|| is_svg(data).then_some("SVG"))
}

/// HEIC and AVIF are told apart by the brands of their first box (ISO/IEC 14496-12, section 4.3).
fn iso_media(data: &[u8]) -> Option<&'static str> {
    let length = u32::from_be_bytes(*data.first_chunk()?) as usize;
    let brands = data.get(..length.min(data.len()).min(256))?.get(4..)?.strip_prefix(b"ftyp")?;
    let has = |brand: &[u8]| brands.chunks_exact(4).any(|one| one == brand);
    if has(b"avif") || has(b"avis") {
        Some("AVIF")
    } else if [b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"].into_iter().any(|b| has(b)) {
        Some("HEIC")
    } else {
        Some("MP4")
    }
}

fn is_svg(data: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&data[..data.len().min(1024)]);
    let start = start.trim_start_matches('\u{feff}').trim_start();
    start.starts_with("<svg")
        || ((start.starts_with("<?xml") || start.starts_with("<!")) && start.contains("<svg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_not_read_have_a_name() {
        for (data, name) in [
            (&b"GIF89a\x01\0\x01\0"[..], Some("GIF")),
            (b"BM6\0\0\0", Some("BMP")),
            (b"II*\0\x08\0", Some("TIFF")),
            (b"MM\0*\0\0", Some("TIFF")),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Some("HEIC")),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", Some("HEIC")),
            (b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf", Some("AVIF")),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", Some("AVIF")),
            (b"\0\0\0\x14ftypisom\0\0\0\0isom", Some("MP4")),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Some("SVG")),
            (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg/>", Some("SVG")),
            (b"%PDF-1.7", Some("PDF")),
            (b"\xff\x0a\xfa\x1f", Some("JPEG XL")),
            (b"\0\0\0\x0cJXL \r\n\x87\n", Some("JPEG XL")),
            (b"8BPS\0\x01", Some("PSD")),
            (b"no picture", None),
            (b"<html></html>", None),
            (b"", None),
        ] {
            assert_eq!(unsupported(data), name, "{:?}", String::from_utf8_lossy(data));
            assert_eq!(of(data), None);
        }
    }
}
