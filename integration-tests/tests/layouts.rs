//! Exported pipelines as they lie on people's disks: in caches of Hugging Face, with ONNX files apart or named by their precision,
//! with weights beside the graph. All of them become the bundle that the plain layout becomes.

use std::fs;
use std::path::{Path, PathBuf};

use reverie::mesh::{Mesh, MeshArguments, MeshSettings};
use reverie_import::{ImportError, Request};
use reverie_integration_tests::requests::{PATIENCE, draw};
use reverie_integration_tests::{Fallible, folders};
use reverie_proto::encoder::v1::EmbedImageRequest;
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::generation::v1::GenerateRequest;
use reverie_proto::tensor::v1::Image;
use reverie_proto::tensors;
use reverie_service_kit::Context;
use reverie_service_kit::client::Upstream;
use serde_json::Value;

fn import(from: &Path, out: &Path) -> Result<(), ImportError> {
    let request = Request {
        from: from.to_owned(),
        name: Some("tiny".to_owned()),
        size: Some(32),
        ..Request::default()
    };
    reverie_import::import(&request, out).map(|_| ())
}

/// The manifests of a bundle, which name every file with its digest.
fn manifests(bundle: &Path) -> Fallible<Vec<String>> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(bundle)?.map(|entry| Ok(entry?.path())).collect::<Fallible<_>>()?;
    folders.sort();
    let packages = folders.iter().map(|folder| folder.join("model.toml")).filter(|path| path.exists());
    packages.map(|path| Ok(fs::read_to_string(path)?)).collect()
}

/// What a layout becomes, once `arrange` has made it of a copy of the plain one.
fn arranged(
    pipeline: &str,
    arrange: impl FnOnce(&Path) -> Fallible<PathBuf>,
) -> Fallible<(Vec<String>, Vec<String>)> {
    let place = tempfile::tempdir()?;
    let folder = place.path().join("pipeline");
    folders::copy(&folders::pipeline(pipeline), &folder)?;
    import(&folder, &place.path().join("plain"))?;
    let folder = arrange(&folder)?;
    import(&folder, &place.path().join("arranged"))?;
    Ok((manifests(&place.path().join("plain"))?, manifests(&place.path().join("arranged"))?))
}

#[test]
fn graphs_are_found_where_exporters_put_them() -> Fallible<()> {
    type Arrange = fn(&Path) -> Fallible<PathBuf>;
    let layouts: [(&str, Arrange); 4] = [
        ("named by the precision", |folder| {
            for part in ["unet", "text_encoder"] {
                let folder = folder.join(part);
                fs::rename(folder.join("model.onnx"), folder.join("model_fp16.onnx"))?;
            }
            Ok(folder.to_owned())
        }),
        ("apart within each part", |folder| {
            fs::create_dir(folder.join("unet/onnx"))?;
            fs::rename(folder.join("unet/model.onnx"), folder.join("unet/onnx/model.onnx"))?;
            Ok(folder.to_owned())
        }),
        ("apart from all parts", |folder| {
            for part in ["unet", "vae_decoder"] {
                fs::create_dir_all(folder.join("onnx").join(part))?;
                fs::rename(
                    folder.join(part).join("model.onnx"),
                    folder.join("onnx").join(part).join("model.onnx"),
                )?;
            }
            Ok(folder.to_owned())
        }),
        ("all of it apart", |folder| {
            let repository = folder.with_file_name("repository");
            fs::create_dir(&repository)?;
            fs::rename(folder, repository.join("onnx"))?;
            Ok(repository)
        }),
    ];
    for (name, arrange) in layouts {
        let (plain, arranged) = arranged("stable-diffusion", arrange)?;
        assert_eq!(plain, arranged, "{name}");
    }
    // Which of several is meant is not guessed.
    let place = tempfile::tempdir()?;
    let folder = place.path().join("pipeline");
    folders::copy(&folders::pipeline("stable-diffusion"), &folder)?;
    fs::copy(folder.join("unet/model.onnx"), folder.join("unet/model_fp16.onnx"))?;
    import(&folder, &place.path().join("one"))?;
    fs::rename(folder.join("unet/model.onnx"), folder.join("unet/model_quantized.onnx"))?;
    let refusal = import(&folder, &place.path().join("two")).err().ok_or("there are two")?.to_string();
    assert!(
        refusal.contains("model_fp16.onnx, model_quantized.onnx") && refusal.contains("rename"),
        "{refusal}"
    );
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_cache_of_hugging_face_is_imported() -> Fallible<()> {
    use std::os::unix::fs::symlink;

    let (plain, cached) = arranged("flux", |folder| {
        let repository = folder.with_file_name("models--owner--flux");
        let (snapshot, blobs) = (repository.join("snapshots/0a1b2c"), repository.join("blobs"));
        fs::create_dir_all(&blobs)?;
        fs::create_dir_all(repository.join("refs"))?;
        fs::write(repository.join("refs/main"), "0a1b2c")?;
        let mut number = 0;
        for part in fs::read_dir(folder)? {
            let part = part?;
            let files: Vec<PathBuf> = if part.file_type()?.is_dir() {
                fs::read_dir(part.path())?.map(|file| Ok(file?.path())).collect::<Fallible<_>>()?
            } else {
                vec![part.path()]
            };
            for file in files {
                let relative = file.strip_prefix(folder)?;
                let link = snapshot.join(relative);
                fs::create_dir_all(link.parent().ok_or("it lies in a folder")?)?;
                let up = "../".repeat(relative.components().count() + 1);
                fs::rename(&file, blobs.join(number.to_string()))?;
                symlink(format!("{up}blobs/{number}"), link)?;
                number += 1;
            }
        }
        Ok(repository)
    })?;
    assert_eq!(plain, cached);
    Ok(())
}

/// `./model.onnx_data` is the file beside the graph, for the import, for `models check` and for a service.
#[test]
fn weights_beside_the_graph_may_be_named_with_a_dot() -> Fallible<()> {
    let place = tempfile::tempdir()?;
    let folder = place.path().join("pipeline");
    folders::copy(&folders::pipeline("flux"), &folder)?;
    import(&folder, &place.path().join("plain"))?;
    let graph = folder.join("transformer/model.onnx");
    let mut bytes = fs::read(&graph)?;
    let (name, dotted) = (b"model.onnx_data", b"./del.onnx_data");
    let mut renamed = 0;
    for start in 0..bytes.len() - name.len() {
        if bytes[start..].starts_with(name) {
            bytes[start..start + name.len()].copy_from_slice(dotted);
            renamed += 1;
        }
    }
    assert!(renamed > 0);
    fs::write(&graph, bytes)?;
    fs::rename(folder.join("transformer/model.onnx_data"), folder.join("transformer/del.onnx_data"))?;
    import(&folder, &place.path().join("dotted"))?;
    let runtime = tokio::runtime::Runtime::new()?;
    let picture = |bundle: &str| {
        runtime.block_on(with_bundle(&place.path().join(bundle), async |mesh| {
            let prompt = "a house".to_owned();
            let request = GenerateRequest { prompt, seed: Some(7), ..GenerateRequest::default() };
            Ok(draw(mesh.pipeline(), request).await?.image.data)
        }))
    };
    assert_eq!(picture("plain")?, picture("dotted")?);
    Ok(())
}

async fn with_bundle<T>(bundle: &Path, work: impl AsyncFnOnce(&Mesh) -> Fallible<T>) -> Fallible<T> {
    let arguments = MeshArguments { bundle: bundle.display().to_string(), ..MeshArguments::default() };
    let mesh = Mesh::start(MeshSettings::load(&arguments).await?).await?;
    let outcome = work(&mesh).await;
    mesh.shutdown().await;
    outcome
}

/// Pictures are resized and cut as transformers does it (`fixtures/diffusers/preprocess.py`): the vector of a picture is that of
/// what transformers cut out of it.
#[test]
fn pictures_are_cut_as_their_preprocessor_says() -> Fallible<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let reference = folders::pipeline("retrieval").join("reference");
    let embed = |side: u32, names: &[String]| -> Fallible<Vec<f32>> {
        let place = tempfile::tempdir()?;
        let folder = place.path().join("pipeline");
        folders::copy(&folders::pipeline("retrieval"), &folder)?;
        let path = folder.join("feature_extractor/preprocessor_config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        config["size"]["shortest_edge"] = side.into();
        fs::write(&path, config.to_string())?;
        let out = place.path().join("bundle");
        import(&folder, &out)?;
        let image =
            |name: &String| Ok(Image { data: fs::read(reference.join(name))?.into(), ..Image::default() });
        let images = names.iter().map(image).collect::<Fallible<_>>()?;
        runtime.block_on(with_bundle(&out, async |mesh| {
            let encoder = Upstream::new("encoder", mesh.encoder());
            let mut client = EncoderServiceClient::new(encoder.channel());
            let request = Context::with_timeout(PATIENCE)
                .outgoing(EmbedImageRequest { images, ..EmbedImageRequest::default() });
            let embeddings = client.embed_image(request).await?.into_inner().embeddings.unwrap_or_default();
            Ok(tensors::to_f32(&embeddings)?.1)
        }))
    };
    let originals: Vec<String> = (0..4).map(|i| format!("neighbour-{i}.png")).collect();
    let uncut = embed(32, &originals)?;
    for side in [33, 48, 57] {
        let cut: Vec<String> = (0..4).map(|i| format!("cut-from-{side}-{i}.png")).collect();
        let (ours, theirs) = (embed(side, &originals)?, embed(32, &cut)?);
        assert_eq!(ours, theirs, "shortest_edge {side}");
        assert_ne!(ours, uncut, "shortest_edge {side}");
    }
    Ok(())
}
