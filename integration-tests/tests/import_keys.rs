//! Every key of every configuration that an import reads is honoured, refused by its name, or known to change no picture.
//!
//! Each is given another value, and the bundle that is imported then is compared with the one before. That what is honoured is
//! what diffusers does is the matter of `diffusers.rs`; `preprocessing` below has what transformers makes of a picture.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use reverie_import::Request;
use reverie_integration_tests::Fallible;
use reverie_integration_tests::folders::Copy;
use serde_json::{Value, json};

/// What becomes of another value.
#[derive(Clone)]
enum Fate {
    /// Another bundle.
    Changes,
    /// A refusal that names file and key.
    Refused,
    /// The same bundle, because of this.
    Same(&'static str),
    /// The same bundle, and a note that names the key.
    Noted,
}

use Fate::{Changes, Noted, Refused, Same};

type Row = (&'static str, Value, Fate);

/// What an import gives: the texts of the bundle's files, and the notes.
type Imported = (BTreeMap<String, String>, Vec<String>);

/// Text of all that a bundle says, and the notes of its import; or the refusal.
fn import(folder: &Path, size: Option<usize>) -> Fallible<Result<Imported, String>> {
    let place = tempfile::tempdir()?;
    let out = place.path().join("bundle");
    let request = Request { from: folder.to_owned(), size, ..Request::default() };
    let imported = match reverie_import::import(&request, &out) {
        Err(refusal) => return Ok(Err(refusal.to_string())),
        Ok(imported) => imported,
    };
    let mut texts = BTreeMap::new();
    for package in &imported.packages {
        for name in ["model.toml", "tokenizer.json"] {
            let path = out.join(package).join(name);
            if path.exists() {
                texts.insert(format!("{package}/{name}"), fs::read_to_string(path)?);
            }
        }
    }
    Ok(Ok((texts, imported.notes)))
}

/// Gives each key its value and compares what is imported. `base` is set beforehand.
fn try_keys(pipeline: &str, size: Option<usize>, file: &str, base: &Value, rows: &[Row]) -> Fallible<()> {
    let copy = Copy::of(pipeline)?;
    try_keys_of(&copy, size, file, base, rows).map_err(|error| format!("{pipeline}: {error}").into())
}

fn try_keys_of(copy: &Copy, size: Option<usize>, file: &str, base: &Value, rows: &[Row]) -> Fallible<()> {
    let mut sound = copy.read(file)?;
    for (key, value) in base.as_object().into_iter().flatten() {
        sound[key] = value.clone();
    }
    copy.write(file, &sound)?;
    let (before, notes_before) = import(&copy.folder(), size)??;
    let mut wrong = Vec::new();
    for (key, value, fate) in rows {
        let mut changed = sound.clone();
        changed[*key] = value.clone();
        assert_ne!(changed, sound, "{file}: {key} is as before");
        copy.write(file, &changed)?;
        let after = import(&copy.folder(), size)?;
        let seen = match &after {
            Err(refusal) => format!("refused: {refusal}"),
            Ok((texts, _)) if *texts != before => "another bundle".to_owned(),
            Ok((_, notes)) => format!("the same bundle, {} notes", notes.len()),
        };
        let is_right = match (fate, after) {
            (Changes, Ok((texts, _))) => texts != before,
            (Refused, Err(refusal)) => refusal.contains(file) && refusal.contains(key),
            (Same(_), Ok((texts, notes))) => texts == before && notes == notes_before,
            (Noted, Ok((texts, notes))) => texts == before && notes.iter().any(|note| note.contains(key)),
            _ => false,
        };
        let expected = match fate {
            Same(why) => format!(" although {why}"),
            _ => String::new(),
        };
        if !is_right {
            wrong.push(format!("{file}: {key} = {value}: {seen}{expected}"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// The keys that a file of a fixture has, which the rows must all try.
fn all_are_tried(pipeline: &str, file: &str, rows: &[Row]) -> Fallible<()> {
    let copy = Copy::of(pipeline)?;
    let keys = copy.read(file)?;
    for key in keys.as_object().into_iter().flatten().map(|(key, _)| key) {
        assert!(rows.iter().any(|(tried, ..)| tried == key), "{pipeline}/{file}: {key} is not tried");
    }
    Ok(())
}

const INDEX: &str = "model_index.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";
const WHERE_FROM: &str = "it says where the file came from";
const IN_THE_GRAPH: &str = "the exported graph has it in itself";

#[test]
fn the_index() -> Fallible<()> {
    let part = |class: &str| json!(["diffusers", class]);
    let rows = [
        ("_class_name", json!("StableDiffusionInpaintPipeline"), Changes),
        ("_diffusers_version", json!("0.1.0"), Same(WHERE_FROM)),
        ("feature_extractor", part("CLIPImageProcessor"), Noted),
        ("image_encoder", part("CLIPVisionModelWithProjection"), Noted),
        ("requires_safety_checker", json!(true), Same("pictures are not checked here")),
        ("safety_checker", part("StableDiffusionSafetyChecker"), Noted),
        ("scheduler", part("DDIMScheduler"), Changes),
        ("text_encoder", part("CLIPTextModelWithProjection"), Refused),
        ("tokenizer", part("BertTokenizer"), Refused),
        ("unet", part("UNet2DModel"), Refused),
        ("unet", json!(5), Noted),
        ("vae", part("AutoencoderTiny"), Refused),
        ("requires_aesthetics_score", json!("yes"), Refused),
        ("unheard_of", json!(1), Noted),
    ];
    all_are_tried("stable-diffusion", INDEX, &rows)?;
    try_keys("stable-diffusion", Some(32), INDEX, &json!({}), &rows)?;
    let rows = [
        ("force_zeros_for_empty_prompt", json!(false), Changes),
        ("force_zeros_for_empty_prompt", json!(1), Refused),
        ("text_encoder_2", part("CLIPTextModel"), Refused),
    ];
    try_keys("stable-diffusion-xl", Some(32), INDEX, &json!({}), &rows)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of keys")]
fn schedulers() -> Fallible<()> {
    let of_betas = || {
        vec![
            ("num_train_timesteps", json!(500), Changes),
            ("num_train_timesteps", json!("500"), Refused),
            ("num_train_timesteps", json!(null), Refused),
            ("num_train_timesteps", json!(0), Refused),
            ("beta_start", json!(0.001), Changes),
            ("beta_start", json!(null), Refused),
            ("beta_end", json!(0.015), Changes),
            ("beta_schedule", json!("linear"), Changes),
            ("beta_schedule", json!("exp"), Refused),
            ("trained_betas", json!([0.1, 0.2]), Refused),
            ("prediction_type", json!("v_prediction"), Changes),
            ("prediction_type", json!(null), Refused),
            ("prediction_type", json!("flow_prediction"), Refused),
            ("unheard_of", json!(1), Noted),
            ("_diffusers_version", json!("0.1.0"), Same(WHERE_FROM)),
        ]
    };
    let threshold = || {
        vec![
            ("thresholding", json!(true), Changes),
            ("thresholding", json!(1), Refused),
            ("dynamic_thresholding_ratio", json!(0.9), Changes),
            ("sample_max_value", json!(2.0), Same("thresholding is off")),
        ]
    };
    let offset = || ("steps_offset", json!(0), Same("Stable Diffusion's pipelines set it to 1"));
    let levels = || {
        vec![
            ("use_karras_sigmas", json!(true), Changes),
            ("use_karras_sigmas", json!(null), Same("null is false")),
            ("use_exponential_sigmas", json!(true), Refused),
            ("use_beta_sigmas", json!(true), Refused),
            ("timestep_spacing", json!("trailing"), Changes),
            ("timestep_spacing", json!("other"), Refused),
        ]
    };
    for (class, own) in [
        (
            "DDIMScheduler",
            [
                threshold(),
                vec![
                    offset(),
                    ("clip_sample", json!(true), Same("Stable Diffusion's pipelines set it to false")),
                    ("set_alpha_to_one", json!(true), Changes),
                    ("timestep_spacing", json!("trailing"), Changes),
                    ("rescale_betas_zero_snr", json!(true), Refused),
                ],
            ]
            .concat(),
        ),
        (
            "PNDMScheduler",
            vec![
                offset(),
                ("skip_prk_steps", json!(false), Changes),
                ("set_alpha_to_one", json!(true), Changes),
                ("timestep_spacing", json!("trailing"), Refused),
                (
                    "clip_sample",
                    json!(true),
                    Same("the class has none, and those made of it set it to false"),
                ),
            ],
        ),
        (
            "LCMScheduler",
            vec![
                offset(),
                ("original_inference_steps", json!(40), Changes),
                ("timestep_scaling", json!(5.0), Refused),
            ],
        ),
        (
            "EulerDiscreteScheduler",
            [
                levels(),
                vec![
                    offset(),
                    ("interpolation_type", json!("log_linear"), Refused),
                    ("sigma_min", json!(0.1), Refused),
                    ("sigma_max", json!(10.0), Refused),
                    ("timestep_type", json!("continuous"), Refused),
                    ("final_sigmas_type", json!("sigma_min"), Changes),
                    // The class has none; a request for UniPC gets it, as by from_config of diffusers.
                    ("solver_order", json!(3), Changes),
                ],
            ]
            .concat(),
        ),
        ("EulerAncestralDiscreteScheduler", vec![offset(), ("timestep_spacing", json!("trailing"), Changes)]),
        ("HeunDiscreteScheduler", [levels(), vec![offset()]].concat()),
        (
            "DPMSolverMultistepScheduler",
            [
                levels(),
                threshold(),
                vec![
                    offset(),
                    ("solver_order", json!(3), Refused),
                    ("algorithm_type", json!("sde-dpmsolver++"), Changes),
                    ("algorithm_type", json!("dpmsolver"), Refused),
                    ("solver_type", json!("heun"), Refused),
                    // Its own last step is of first order either way; UniPC, which a request may ask for, does not take it.
                    ("lower_order_final", json!(false), Changes),
                    ("euler_at_final", json!(true), Same("the step to no noise is of first order")),
                    ("use_lu_lambdas", json!(true), Refused),
                    ("use_flow_sigmas", json!(true), Refused),
                    ("flow_shift", json!(3.0), Same("use_flow_sigmas is off")),
                    ("final_sigmas_type", json!("sigma_min"), Changes),
                    ("final_sigmas_type", json!(null), Refused),
                    ("lambda_min_clipped", json!(-5.1), Refused),
                    ("use_dynamic_shifting", json!(true), Refused),
                    ("time_shift_type", json!("linear"), Refused),
                ],
            ]
            .concat(),
        ),
        (
            "UniPCMultistepScheduler",
            [
                levels(),
                threshold(),
                vec![
                    offset(),
                    ("solver_order", json!(3), Changes),
                    ("solver_order", json!(4), Refused),
                    ("predict_x0", json!(false), Refused),
                    ("solver_type", json!("bh1"), Refused),
                    ("lower_order_final", json!(false), Refused),
                    ("disable_corrector", json!([0]), Refused),
                    ("disable_corrector", json!("none"), Refused),
                    ("solver_p", json!("other"), Refused),
                    ("use_flow_sigmas", json!(true), Refused),
                    ("flow_shift", json!(3.0), Same("use_flow_sigmas is off")),
                    ("final_sigmas_type", json!("sigma_min"), Changes),
                    ("sigma_min", json!(0.1), Refused),
                    ("sigma_max", json!(10.0), Refused),
                    ("use_dynamic_shifting", json!(true), Refused),
                    ("time_shift_type", json!("linear"), Refused),
                    ("shift_terminal", json!(0.1), Refused),
                ],
            ]
            .concat(),
        ),
    ] {
        let base = json!({
            "_class_name": class, "beta_schedule": "scaled_linear", "clip_sample": false, "timestep_spacing": "leading",
            "skip_prk_steps": true, "steps_offset": 1, "set_alpha_to_one": false,
        });
        let copy = Copy::of("stable-diffusion")?;
        let mut index = copy.read(INDEX)?;
        index["scheduler"][1] = json!(class);
        copy.write(INDEX, &index)?;
        let rows = [of_betas(), own].concat();
        try_keys_of(&copy, Some(32), SCHEDULER, &base, &rows).map_err(|error| format!("{class}: {error}"))?;
    }
    Ok(())
}

#[test]
fn schedulers_of_flow_matching() -> Fallible<()> {
    let rows = [
        ("_class_name", json!("FlowMatchHeunDiscreteScheduler"), Noted),
        ("num_train_timesteps", json!(500), Changes),
        ("shift", json!(2.0), Changes),
        ("shift", json!("3"), Refused),
        ("shift", json!(0), Refused),
        ("use_dynamic_shifting", json!(true), Changes),
        ("base_shift", json!(0.4), Same("the shift is static")),
        ("max_shift", json!(1.0), Same("the shift is static")),
        ("base_image_seq_len", json!(128), Same("the shift is static")),
        ("max_image_seq_len", json!(2048), Same("the shift is static")),
        ("invert_sigmas", json!(true), Refused),
        ("shift_terminal", json!(0.02), Refused),
        ("use_karras_sigmas", json!(true), Refused),
        ("use_exponential_sigmas", json!(true), Refused),
        ("use_beta_sigmas", json!(true), Refused),
        ("time_shift_type", json!("linear"), Refused),
        ("stochastic_sampling", json!(true), Refused),
        ("_diffusers_version", json!("0.1.0"), Same(WHERE_FROM)),
    ];
    all_are_tried("stable-diffusion-3", SCHEDULER, &rows)?;
    try_keys("stable-diffusion-3", Some(32), SCHEDULER, &json!({}), &rows)?;
    let rows = [
        ("base_shift", json!(0.4), Changes),
        ("max_shift", json!(1.0), Changes),
        ("base_image_seq_len", json!(128), Changes),
        ("max_image_seq_len", json!(2048), Changes),
        ("shift", json!(2.0), Same("the shift is dynamic")),
    ];
    try_keys("stable-diffusion-3", Some(32), SCHEDULER, &json!({"use_dynamic_shifting": true}), &rows)?;

    // Heun's method, where the index says so too.
    let copy = Copy::of("stable-diffusion-3")?;
    let mut index = copy.read(INDEX)?;
    index["scheduler"][1] = json!("FlowMatchHeunDiscreteScheduler");
    copy.write(INDEX, &index)?;
    let (texts, _) = import(&copy.folder(), Some(32))??;
    assert!(texts["denoiser/model.toml"].contains("sampler = \"heun\""), "{}", texts["denoiser/model.toml"]);
    Ok(())
}

#[test]
fn text_encoders() -> Fallible<()> {
    let file = "text_encoder/config.json";
    let mut rows: Vec<Row> = vec![
        ("hidden_size", json!(33), Refused),
        ("hidden_size", json!("32"), Refused),
        ("use_attention_mask", json!(true), Refused),
        ("max_position_embeddings", json!(76), Same("the tokenizer's file is refused for it")),
    ];
    rows.pop();
    for key in [
        "architectures",
        "attention_dropout",
        "bos_token_id",
        "dtype",
        "eos_token_id",
        "export_model_type",
        "hidden_act",
        "initializer_factor",
        "initializer_range",
        "intermediate_size",
        "layer_norm_eps",
        "model_type",
        "num_attention_heads",
        "num_hidden_layers",
        "pad_token_id",
        "transformers_version",
        "vocab_size",
    ] {
        rows.push((key, json!(7), Same(IN_THE_GRAPH)));
    }
    rows.push(("projection_dim", json!(7), Same("this class projects nothing")));
    try_keys("stable-diffusion", Some(32), file, &json!({}), &rows)?;
    let rows = [
        ("projection_dim", json!(17), Refused),
        ("num_hidden_layers", json!(1), Changes),
        ("num_hidden_layers", json!(null), Refused),
    ];
    try_keys("stable-diffusion-3", Some(32), file, &json!({}), &rows)?;
    let rows = [("d_model", json!(41), Refused), ("num_layers", json!(7), Same("the last layer is read"))];
    try_keys("stable-diffusion-3", Some(32), "text_encoder_3/config.json", &json!({}), &rows)
}

#[test]
fn tokenizers() -> Fallible<()> {
    let file = "tokenizer/tokenizer_config.json";
    let described = |id: &str, content: &str| {
        json!({
            "602": {"content": "<|startoftext|>", "special": true}, "603": {"content": "<|endoftext|>", "special": true},
            id: {"content": content, "special": false},
        })
    };
    let rows = [
        ("added_tokens_decoder", described("604", "<new>"), Changes),
        ("added_tokens_decoder", json!({"602": "<|startoftext|>"}), Refused),
        ("added_tokens_decoder", json!({"first": {"content": "x"}}), Refused),
        ("bos_token", json!("a</w>"), Changes),
        ("bos_token", json!(5), Refused),
        ("eos_token", json!("a</w>"), Changes),
        ("unk_token", json!("a</w>"), Changes),
        ("pad_token", json!("a</w>"), Changes),
        ("pad_token", json!(["a"]), Refused),
        ("cls_token", json!("a</w>"), Changes),
        ("cls_token", json!("nowhere to be found"), Refused),
        ("additional_special_tokens", json!(["a</w>"]), Changes),
        ("additional_special_tokens", json!(["nowhere to be found"]), Refused),
        ("additional_special_tokens", json!("a</w>"), Refused),
        ("extra_special_tokens", json!({"image_token": "a</w>"}), Refused),
        ("model_max_length", json!(64), Changes),
        ("model_max_length", json!(78), Refused),
        ("model_max_length", json!(null), Refused),
        ("model_max_length", json!("77"), Refused),
        ("padding_side", json!("left"), Refused),
        ("truncation_side", json!("left"), Refused),
        ("split_special_tokens", json!(true), Refused),
        ("tokenizer_file", json!("/elsewhere/tokenizer.json"), Refused),
        ("tokenizer_class", json!("CLIPTokenizerFast"), Same("the index says which class is made")),
        ("clean_up_tokenization_spaces", json!(true), Same("of decoding")),
        ("errors", json!("strict"), Same("of decoding")),
        ("do_lower_case", json!(false), Same("this class lowers whatever it says")),
        ("add_prefix_space", json!(true), Same("this class has none")),
        ("pad_to_multiple_of", json!(8), Same("pipelines pad to a length")),
        ("max_length", json!(20), Same("pipelines cut to a length")),
        ("unheard_of", json!(1), Noted),
    ];
    all_are_tried("stable-diffusion", file, &rows)?;
    try_keys("stable-diffusion", Some(32), file, &json!({}), &rows)?;

    let file = "tokenizer_3/tokenizer_config.json";
    let rows = [
        ("extra_ids", json!(11), Refused),
        ("add_prefix_space", json!(true), Refused),
        ("legacy", json!(false), Same("it is of the tokenizer in Python")),
        ("model_max_length", json!(100), Same("the pipeline pads to 256")),
        ("pad_token", json!("</s>"), Changes),
        ("additional_special_tokens", json!(["<nowhere>"]), Refused),
    ];
    try_keys("stable-diffusion-3", Some(32), file, &json!({}), &rows)?;

    // Files from before added_tokens_decoder: special_tokens_map.json has the last word.
    let copy = Copy::of("stable-diffusion")?;
    let mut old = copy.read("tokenizer/tokenizer_config.json")?;
    old.as_object_mut().ok_or("it is an object")?.remove("added_tokens_decoder");
    copy.write("tokenizer/tokenizer_config.json", &old)?;
    let rows = [
        ("pad_token", json!("a</w>"), Changes),
        ("bos_token", json!({"content": "a</w>"}), Changes),
        ("eos_token", json!("a</w>"), Changes),
        ("unk_token", json!("a</w>"), Changes),
        ("mask_token", json!(true), Refused),
        ("additional_special_tokens", json!(["a</w>"]), Changes),
        ("unheard_of", json!("a</w>"), Noted),
    ];
    try_keys_of(&copy, Some(32), "tokenizer/special_tokens_map.json", &json!({}), &rows)
}

#[test]
fn autoencoders() -> Fallible<()> {
    let file = "vae_decoder/config.json";
    let rows = [("scaling_factor", json!(0.2), Refused), ("latent_channels", json!(5), Same(""))];
    // What both halves say must be the same, so that another value of one is refused in the other's name.
    let copy = Copy::of("stable-diffusion")?;
    for (key, value, _) in &rows {
        let mut config = copy.read(file)?;
        let sound = config.clone();
        config[*key] = value.clone();
        copy.write(file, &config)?;
        let refusal = import(&copy.folder(), Some(32))?.err().ok_or("it should be refused")?;
        assert!(refusal.contains(key) || refusal.contains("is needed"), "{refusal}");
        copy.write(file, &sound)?;
    }
    let one_half = |pipeline: &str| -> Fallible<Copy> {
        let copy = Copy::of(pipeline)?;
        fs::remove_dir_all(copy.folder().join("vae_encoder"))?;
        Ok(copy)
    };
    let mut rows: Vec<Row> = vec![
        ("scaling_factor", json!(0.2), Changes),
        ("scaling_factor", json!(0), Refused),
        ("scaling_factor", json!("0.2"), Refused),
        ("block_out_channels", json!([8, 8, 8]), Changes),
        ("block_out_channels", json!(8), Refused),
        ("latent_channels", json!(null), Refused),
        ("force_upcast", json!(false), Same("the graph is of 32 bits")),
        ("force_upcast", json!(1), Refused),
        ("shift_factor", json!(0.5), Same("Stable Diffusion's pipelines do not look at it")),
        ("latents_mean", json!([0.0, 0.0, 0.0, 0.0]), Same("Stable Diffusion's pipelines do not look at it")),
        ("latents_std", json!([1.0, 1.0, 1.0, 1.0]), Same("Stable Diffusion's pipelines do not look at it")),
    ];
    for key in [
        "_class_name",
        "_diffusers_version",
        "act_fn",
        "down_block_types",
        "in_channels",
        "layers_per_block",
        "mid_block_add_attention",
        "norm_num_groups",
        "out_channels",
        "sample_size",
        "up_block_types",
        "use_post_quant_conv",
        "use_quant_conv",
    ] {
        rows.push((key, json!(7), Same(IN_THE_GRAPH)));
    }
    all_are_tried("stable-diffusion", file, &rows)?;
    try_keys_of(&one_half("stable-diffusion")?, Some(32), file, &json!({}), &rows)?;
    let rows = [("shift_factor", json!(0.5), Changes), ("shift_factor", json!("0"), Refused)];
    try_keys_of(&one_half("stable-diffusion-3")?, Some(32), file, &json!({}), &rows)?;
    let rows = [("latents_mean", json!([0.0, 0.0, 0.0, 0.0]), Refused)];
    try_keys_of(
        &one_half("stable-diffusion-xl")?,
        Some(32),
        file,
        &json!({"latents_std": [1.0, 1.0, 1.0, 1.0]}),
        &rows,
    )
}

#[test]
fn diffusion_models() -> Fallible<()> {
    let file = "unet/config.json";
    let mut rows: Vec<Row> = vec![
        ("sample_size", json!(24), Changes),
        ("sample_size", json!([16, 24]), Refused),
        ("sample_size", json!(null), Refused),
        ("sample_size", json!("16"), Refused),
        ("in_channels", json!(5), Refused),
        ("out_channels", json!(5), Refused),
        ("block_out_channels", json!([16, 16, 16]), Changes),
        ("time_cond_proj_dim", json!(16), Refused),
        ("_diffusers_version", json!("0.8.1"), Changes),
        ("_diffusers_version", json!("0.9.0"), Same("only before 0.9 was sample_size wrong")),
        ("cross_attention_dim", json!(33), Same(IN_THE_GRAPH)),
    ];
    let copy = Copy::of("stable-diffusion")?;
    for key in copy.read(file)?.as_object().into_iter().flatten().map(|(key, _)| key.clone()) {
        if !rows.iter().any(|(tried, ..)| *tried == key) {
            rows.push((key.leak(), json!("other"), Same(IN_THE_GRAPH)));
        }
    }
    try_keys("stable-diffusion", None, file, &json!({}), &rows)?;
    let rows = [
        ("sample_size", json!(8), Changes),
        ("patch_size", json!(4), Changes),
        ("pos_embed_max_size", json!(10), Changes),
        ("joint_attention_dim", json!(41), Refused),
        ("pooled_projection_dim", json!(41), Refused),
        ("in_channels", json!(9), Refused),
        ("out_channels", json!(9), Refused),
        ("num_layers", json!(9), Same(IN_THE_GRAPH)),
    ];
    try_keys("stable-diffusion-3", None, "transformer/config.json", &json!({}), &rows)?;
    let rows = [
        ("guidance_embeds", json!(false), Refused),
        ("guidance_embeds", json!("yes"), Refused),
        ("in_channels", json!(9), Refused),
    ];
    try_keys("flux", Some(32), "transformer/config.json", &json!({}), &rows)?;
    let rows = [("time_cond_proj_dim", json!(8), Refused), ("in_channels", json!(5), Refused)];
    try_keys("latent-consistency", Some(32), file, &json!({}), &rows)
}

/// Diffusers draws 512 px with what configurations of its first months call 32.
#[test]
fn old_configurations_draw_what_they_meant() -> Fallible<()> {
    let side = |pipeline: &str, version: Value| -> Fallible<u64> {
        let copy = Copy::of(pipeline)?;
        let mut config = copy.read("unet/config.json")?;
        config["_diffusers_version"] = version;
        copy.write("unet/config.json", &config)?;
        let (texts, _) = import(&copy.folder(), None)??;
        let manifest: toml::Table = texts["denoiser/model.toml"].parse()?;
        Ok(manifest["diffusion"]["image_size"].as_integer().unwrap_or_default().try_into()?)
    };
    // The tiny autoencoder halves a picture once: 64 x 2.
    for (version, expected) in [("0.6.0", 128), ("0.8.1", 128), ("0.9.0", 32), ("0.10.0", 32), ("1.0.0", 32)]
    {
        assert_eq!(side("stable-diffusion", json!(version))?, expected, "{version}");
    }
    assert_eq!(side("stable-diffusion", Value::Null)?, 32);
    // Other pipelines are younger.
    assert_eq!(side("latent-consistency", json!("0.6.0"))?, 32);
    Ok(())
}

const PREPROCESSOR: &str = "feature_extractor/preprocessor_config.json";

#[test]
fn preprocessors() -> Fallible<()> {
    let rows = [
        ("size", json!({"shortest_edge": 48}), Changes),
        ("size", json!(48), Changes),
        ("size", json!({"shortest_edge": 24}), Refused),
        ("size", json!({"height": 32, "width": 32}), Refused),
        ("size", json!("32"), Refused),
        ("crop_size", json!({"height": 16, "width": 16}), Refused),
        ("crop_size", json!({"height": 32, "width": 16}), Refused),
        ("crop_size", json!(32), Same("the same in old words")),
        ("resample", json!(2), Refused),
        ("do_center_crop", json!(false), Refused),
        ("do_resize", json!(false), Refused),
        ("do_rescale", json!(false), Changes),
        ("rescale_factor", json!(0.5), Changes),
        ("rescale_factor", json!(-1), Refused),
        ("do_normalize", json!(false), Changes),
        ("do_normalize", json!("no"), Refused),
        ("image_mean", json!([0.5, 0.5, 0.5]), Changes),
        ("image_mean", json!(0.5), Changes),
        ("image_mean", json!([0.5]), Refused),
        ("image_std", json!([0.5, 0.5, 0.5]), Changes),
        ("image_std", json!([0.0, 0.5, 0.5]), Refused),
        ("image_processor_type", json!("CLIPFeatureExtractor"), Same("the index says which class is made")),
        ("do_convert_rgb", json!(false), Same("pictures are of three colours when they come here")),
        ("unheard_of", json!(1), Noted),
    ];
    all_are_tried("retrieval", PREPROCESSOR, &rows)?;
    try_keys("retrieval", Some(32), PREPROCESSOR, &json!({}), &rows)
}
