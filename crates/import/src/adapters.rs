//! Files beside a pipeline's models that change them when other programs load them: nothing here does, so each is noted.

use std::fs;

use crate::source::Source;

/// Enough to see what kind of folder it is.
const MAX_NOTES: usize = 8;

/// A note for each such file in the folder and in those of its parts.
pub(crate) fn notes(source: &Source) -> Vec<String> {
    let mut names = names(source, "");
    names.sort();
    let notes = names.iter().filter_map(|name| Some(format!("{name} is left out: {}", advice(name)?)));
    let mut notes: Vec<String> = notes.collect();
    let more = notes.len().saturating_sub(MAX_NOTES);
    if more > 0 {
        notes.truncate(MAX_NOTES);
        notes.push(format!("{more} more such files are left out"));
    }
    notes
}

/// Files of `folder` and, from the root, of the folders in it. What cannot be listed is not there.
fn names(source: &Source, folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(source.root().join(folder)) else { return Vec::new() };
    let mut names = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.file_type().is_ok_and(|of| of.is_dir());
        if is_folder && folder.is_empty() {
            names.extend(self::names(source, &format!("{name}/")));
        } else if !is_folder {
            names.push(format!("{folder}{name}"));
        }
    }
    names
}

/// What to do about a file, if it is such a one.
fn advice(name: &str) -> Option<&'static str> {
    let file = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let (stem, extension) = file.rsplit_once('.')?;
    if !["safetensors", "bin", "pt", "pth", "ckpt"].contains(&extension) {
        return None;
    }
    let is = |part: &str| stem.contains(part);
    if is("lora") || is("lycoris") || stem == "adapter_model" {
        Some("a LoRA must be merged into the model before its export (load_lora_weights, fuse_lora)")
    } else if is("learned_embeds") || is("textual_inversion") {
        Some("embeddings must be in the text encoder before its export (load_textual_inversion)")
    } else if is("ip-adapter") || is("ip_adapter") {
        Some("adapters of pictures have no place here")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_a_model_is_noted() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        fs::create_dir_all(root.join("unet/deep")).unwrap();
        for file in [
            "pytorch_lora_weights.safetensors",
            "learned_embeds.bin",
            "unet/My-LoRA.safetensors",
            "unet/deep/lora.safetensors",
            "unet/adapter_model.bin",
            "unet/model.onnx",
            "unet/diffusion_pytorch_model.safetensors",
            "flora.txt",
        ] {
            fs::write(root.join(file), "").unwrap();
        }
        let source = Source::open(root).unwrap();
        let notes = notes(&source);
        let named: Vec<&str> = notes.iter().filter_map(|note| note.split(' ').next()).collect();
        let expected = [
            "learned_embeds.bin",
            "pytorch_lora_weights.safetensors",
            "unet/My-LoRA.safetensors",
            "unet/adapter_model.bin",
        ];
        assert_eq!(named, expected);
        assert!(notes[0].contains("load_textual_inversion") && notes[1].contains("fuse_lora"), "{notes:?}");

        (0..20).for_each(|i| fs::write(root.join(format!("lora-{i}.pt")), "").unwrap());
        let notes = self::notes(&source);
        assert_eq!((notes.len(), notes[8].as_str()), (9, "16 more such files are left out"));
    }
}
