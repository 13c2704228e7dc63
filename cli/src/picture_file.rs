//! Files of pictures: what can be told of them is told before anything is drawn.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use reverie_proto::tensor::v1::{Image, ImageFormat};

use crate::Failure;

/// Room that a file is looked for: what a picture of 1024 x 1024 takes at most.
const ROOM: usize = 3 << 20;

/// The encoding that a file's name asks for.
pub fn format_of(path: &Path) -> Result<ImageFormat, Failure> {
    let ending = path.extension().and_then(|ending| ending.to_str()).and_then(format_of_ending);
    ending.ok_or_else(|| format!("{}: write .png, .jpg or .webp", path.display()).into())
}

/// The encoding of files whose names end so, if they are images.
pub(crate) fn format_of_ending(ending: &str) -> Option<ImageFormat> {
    match ending.to_ascii_lowercase().as_str() {
        "png" => Some(ImageFormat::Png),
        "jpg" | "jpeg" => Some(ImageFormat::Jpeg),
        "webp" => Some(ImageFormat::Webp),
        _ => None,
    }
}

/// The files of `count` pictures: the one at `path`, or, of several, picture-1.png, picture-2.png and so on beside it.
pub fn numbered(path: &Path, count: u32) -> Vec<PathBuf> {
    if count == 1 {
        return vec![path.to_owned()];
    }
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_owned();
    let name = |number: u32| {
        let mut name = part(path.file_stem());
        name.push(format!("-{number}."));
        name.push(part(path.extension()));
        path.with_file_name(name)
    };
    (1..=count).map(name).collect()
}

/// Finds out whether a picture can be written to `path`, without leaving a trace, and gives its encoding.
pub async fn check(path: &Path) -> Result<ImageFormat, Failure> {
    let format = format_of(path)?;
    let place = path.to_owned();
    let tried = tokio::task::spawn_blocking(move || try_out(&place)).await?;
    tried.map_err(|why| Failure::from(format!("cannot write {}: {why}", path.display())))?;
    Ok(format)
}

fn try_out(path: &Path) -> Result<(), String> {
    let told = |error: io::Error| error.to_string();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(format!("there is no folder {}", folder.display()));
    }
    if path.is_dir() {
        return Err("it is a folder".to_owned());
    }
    if path.exists() {
        // Neither made nor emptied: the picture that is there stays until there is another.
        let file = OpenOptions::new().write(true).open(path).map_err(told)?;
        if !file.metadata().map_err(told)?.is_file() {
            return Ok(());
        }
    }
    // A file without a name, which goes with the process.
    let mut probe: File = tempfile::tempfile_in(folder).map_err(told)?;
    probe.write_all(&vec![0; ROOM]).and_then(|()| probe.flush()).map_err(told)
}

/// Writes a picture; a new file that cannot be written whole is removed.
pub async fn write(path: &Path, image: &Image) -> Result<(), Failure> {
    let is_new = !path.exists();
    if let Err(error) = tokio::fs::write(path, &image.data).await {
        if is_new {
            let _ = tokio::fs::remove_file(path).await;
        }
        return Err(format!("cannot write {}: {error}", path.display()).into());
    }
    Ok(())
}

/// A picture as it lies in its file.
pub async fn read(path: &Path) -> Result<Image, Failure> {
    let data = tokio::fs::read(path).await;
    let data = data.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(Image { data: data.into(), ..Image::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_pictures_have_numbers() {
        assert_eq!(numbered(Path::new("a/b.c.png"), 1), [Path::new("a/b.c.png")]);
        let several = numbered(Path::new("a/b.c.png"), 2);
        assert_eq!(several, [Path::new("a/b.c-1.png"), Path::new("a/b.c-2.png")]);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_told_beforehand_and_nothing_is_left_behind() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for (name, format) in
            [("a.PNG", ImageFormat::Png), ("a.Jpg", ImageFormat::Jpeg), ("a.WEBP", ImageFormat::Webp)]
        {
            assert_eq!(check(&at(name)).await.unwrap(), format);
        }
        std::fs::create_dir(at("folder.png")).unwrap();
        std::fs::write(at("there.png"), b"a picture").unwrap();
        check(&at("there.png")).await.unwrap();
        assert_eq!(std::fs::read(at("there.png")).unwrap(), b"a picture");
        for (name, why) in [
            ("missing/a.png", "there is no folder"),
            ("there.png/a.png", "there is no folder"),
            ("folder.png", "it is a folder"),
            ("a.gif", "write .png, .jpg or .webp"),
        ] {
            let told = check(&at(name)).await.unwrap_err().to_string();
            assert!(told.contains(why) && told.contains(name), "{told}");
        }
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
    }
}
