//! The size of a PNG, which is all that is looked at here: xtask is built before the crates that decode.

/// Width and height, from the header that a PNG begins with (PNG specification, 11.2.1).
///
/// # Errors
/// That it is none.
pub(crate) fn dimensions(png: &[u8]) -> Result<(u32, u32), String> {
    let is_png = png.starts_with(b"\x89PNG\r\n\x1a\n") && png.get(12..16) == Some(b"IHDR".as_slice());
    let number =
        |range| png.get(range).and_then(|bytes: &[u8]| bytes.try_into().ok()).map(u32::from_be_bytes);
    match (is_png, number(16..20), number(20..24)) {
        (true, Some(width), Some(height)) => Ok((width, height)),
        _ => Err(format!("{} bytes that are no PNG", png.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_an_image_is_read_from_its_header() {
        let header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x04\0\0\0\x02\0\x08\x02";
        assert_eq!(dimensions(header), Ok((1024, 512)));
        assert!(dimensions(b"\x89PNG\r\n\x1a\n").is_err());
        assert!(dimensions(&[0; 64]).is_err());
    }

    #[test]
    fn sides_are_read_from_the_header_of_a_png_only() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x01\0\0\0\0\x40".to_vec();
        assert_eq!(dimensions(&png).unwrap(), (256, 64));
        assert!(dimensions(&png[..20]).is_err());
        png[1] = b'J';
        assert!(dimensions(&png).is_err());
    }
}
