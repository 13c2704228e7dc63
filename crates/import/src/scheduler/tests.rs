//! Configurations of published models, and what is refused.

use reverie_diffusion::{FinalSigma, PreviousTimestep, ThresholdingKind, TimestepSpacing, Variance};
use reverie_packages::package::Spacing;

use super::classes::*;
use super::*;

fn read(config: &Value) -> Result<Scheduler, String> {
    super::read(config.as_object().unwrap(), None, Mending::None)
}

/// Settings of published models, and of the classes where they say nothing.
#[test]
fn what_a_configuration_leaves_out_is_the_default_of_its_class() {
    // Stable Diffusion 1.5.
    let pndm = read(&json!({
        "_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "num_train_timesteps": 1000, "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1,
        "trained_betas": null, "clip_sample": false,
    }));
    let pndm = pndm.unwrap();
    assert_eq!((pndm.defaults.sampler, pndm.defaults.steps_offset), (SamplerKind::Plms, 1));
    assert_eq!(pndm.defaults.timestep_spacing, TimestepSpacing::Leading);
    assert_eq!(pndm.defaults.end_at_timestep_0, Some(true));
    assert_eq!(pndm.defaults.thresholding, ThresholdingKind::None);
    let facts = pndm.facts(512, Tokens::Made(1), false);
    assert_eq!((facts.beta_start, facts.beta_end), (Some(0.000_85), Some(0.012)));

    let ddim = read(&json!({"_class_name": "DDIMScheduler"})).unwrap();
    assert_eq!(ddim.defaults.thresholding, ThresholdingKind::Static, "it clips unless it is told not to");
    assert_eq!(ddim.defaults.end_at_timestep_0, None);
    assert_eq!(ddim.defaults.previous_timestep, PreviousTimestep::Stride);
    assert_eq!(ddim.facts(512, Tokens::Made(1), false).beta_schedule, Some(BetaSchedule::Linear));

    let euler = read(&json!({"_class_name": "EulerDiscreteScheduler", "clip_sample": true})).unwrap();
    assert_eq!(euler.defaults.timestep_spacing, TimestepSpacing::Linspace);
    assert_eq!(euler.defaults.thresholding, ThresholdingKind::None, "the class has no clip_sample");

    let lcm = read(&json!({"_class_name": "LCMScheduler", "beta_schedule": "scaled_linear"})).unwrap();
    assert_eq!(lcm.facts(512, Tokens::Made(1), false).distilled_steps, Some(50));

    // DeepFloyd IF.
    let ddpm = read(&json!({
        "_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range",
        "thresholding": true, "dynamic_thresholding_ratio": 0.95, "sample_max_value": 1.5, "clip_sample": true,
    }));
    let ddpm = ddpm.unwrap();
    assert_eq!(ddpm.defaults.thresholding, ThresholdingKind::Dynamic);
    assert_eq!((ddpm.defaults.threshold_quantile, ddpm.defaults.threshold_cap), (0.95, Some(1.5)));
    let facts = ddpm.facts(64, Tokens::Made(1), true);
    assert_eq!((facts.learned_variance, facts.beta_end), (Some(LearnedVariance::LearnedRange), None));
}

#[test]
fn settings_of_another_class_are_nothing() {
    // Made from DPM-Solver++ with Karras' noise levels, as `from_config` makes it.
    let ancestral = read(&json!({
        "_class_name": "EulerAncestralDiscreteScheduler", "use_karras_sigmas": true, "final_sigmas_type": "sigma_min",
        "euler_at_final": true, "thresholding": true, "timestep_spacing": "leading",
    }));
    let defaults = ancestral.unwrap().defaults;
    assert_eq!((defaults.noise_levels, defaults.final_sigma), (Spacing::Trained, FinalSigma::Zero));
    assert_eq!(defaults.thresholding, ThresholdingKind::None);
    assert_eq!(defaults.timestep_spacing, TimestepSpacing::Leading);
}

#[test]
fn another_sampler_can_take_the_place_of_one_that_is_not_known() {
    let config = json!({
        "_class_name": "DEISMultistepScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
        "solver_order": 2, "solver_type": "logrho", "prediction_type": "v_prediction",
    });
    let config = config.as_object().unwrap();
    assert!(super::read(config, None, Mending::None).unwrap_err().contains("--sampler"));
    let scheduler = super::read(config, Some(SamplerKind::Ddim), Mending::None).unwrap();
    assert_eq!(scheduler.defaults.sampler, SamplerKind::Ddim);
    assert_eq!(scheduler.prediction, PredictionType::VPrediction);
    assert_eq!(scheduler.facts(512, Tokens::Made(1), false).beta_end, Some(0.012));
    let sde = super::read(config, Some(SamplerKind::DpmSolverSde), Mending::None).unwrap();
    assert_eq!(sde.defaults.sampler, SamplerKind::DpmSolverSde);
}

#[test]
fn flow_is_shifted_by_a_number_or_by_the_size() {
    let flow = |shift: f64, dynamic: bool| {
        let config = json!({
            "_class_name": "FlowMatchEulerDiscreteScheduler", "shift": shift, "use_dynamic_shifting": dynamic,
            "base_image_seq_len": 256, "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15,
        });
        read(&config).unwrap()
    };
    // SD3; FLUX.1 schnell; FLUX.1 dev at 1024 px.
    let facts = |shift, dynamic, tokens| flow(shift, dynamic).facts(1024, tokens, false).flow;
    assert_eq!(facts(3.0, false, Tokens::Made(2)), Some(Flow::Shift(3.0)));
    let unshifted = Flow::Mu { base: 0.0, per_token: 0.0, to_last_timestep: false };
    assert_eq!(facts(1.0, false, Tokens::Given), Some(unshifted));
    for (of, pixels) in [(Tokens::Given, 1.0), (Tokens::Made(2), 4.0)] {
        let Some(Flow::Mu { base, per_token, to_last_timestep }) = facts(3.0, true, of) else {
            panic!("it depends on the tokens");
        };
        assert_eq!(to_last_timestep, matches!(of, Tokens::Made(_)));
        for (tokens, mu) in [(256.0, 0.5), (4096.0, 1.15)] {
            assert!((base + per_token * tokens * pixels - mu).abs() < 1e-12, "{tokens}");
        }
    }
}

#[test]
fn flow_matching_takes_samplers_that_are_defined_on_it() {
    let config = json!({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0});
    let config = config.as_object().unwrap();
    let sampler =
        |kind| super::read(config, Some(kind), Mending::None).map(|scheduler| scheduler.defaults.sampler);
    assert_eq!(sampler(SamplerKind::UniPc), Ok(SamplerKind::UniPc));
    let refusal = sampler(SamplerKind::Lcm).unwrap_err();
    assert!(
        refusal.contains("lcm does not fit a model trained by flow matching: euler, heun, "),
        "{refusal}"
    );
    assert!(sampler(SamplerKind::EulerAncestral).is_err());
}

/// What `X.from_config(pipe.scheduler.config)` makes of the scheduler file of Stable Diffusion 1.5.
#[test]
fn other_samplers_have_the_defaults_of_their_classes() {
    let pndm = json!({
        "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": false, "skip_prk_steps": true,
        "steps_offset": 1, "trained_betas": null, "clip_sample": false,
    });
    let pndm = super::read(pndm.as_object().unwrap(), None, Mending::StableDiffusion).unwrap();
    let of = |kind| pndm.defaults.with_sampler(kind);
    for kind in SamplerKind::ALL {
        let leads =
            [SamplerKind::Ddim, SamplerKind::Ddpm, SamplerKind::Lcm, SamplerKind::Pndm, SamplerKind::Plms];
        let spacing =
            if leads.contains(&kind) { TimestepSpacing::Leading } else { TimestepSpacing::Linspace };
        assert_eq!(of(kind).timestep_spacing, spacing, "{kind:?}");
        assert_eq!(of(kind).steps_offset, 1, "{kind:?}: it is written down");
        assert_eq!(of(kind).thresholding, ThresholdingKind::None, "{kind:?}: so is that");
        assert_eq!(pndm.defaults.unfit(kind), None);
    }
}

/// `_use_default_values` of diffusers: what the first class made up is not handed on.
#[test]
fn only_what_is_written_down_is_handed_on() {
    let bare = json!({"_class_name": "DDIMScheduler", "clip_sample": true, "steps_offset": 0});
    let bare = super::read(bare.as_object().unwrap(), None, Mending::StableDiffusion).unwrap();
    assert_eq!((bare.defaults.steps_offset, bare.defaults.thresholding), (1, ThresholdingKind::None));
    let ddpm = bare.defaults.with_sampler(SamplerKind::Ddpm);
    assert_eq!((ddpm.steps_offset, ddpm.thresholding), (1, ThresholdingKind::None));

    let barer = json!({"_class_name": "DDIMScheduler"});
    let barer = super::read(barer.as_object().unwrap(), None, Mending::StableDiffusion).unwrap();
    assert_eq!((barer.defaults.steps_offset, barer.defaults.thresholding), (1, ThresholdingKind::None));
    let ddpm = barer.defaults.with_sampler(SamplerKind::Ddpm);
    assert_eq!((ddpm.steps_offset, ddpm.thresholding), (0, ThresholdingKind::Static));
}

#[test]
fn a_sampler_that_cannot_be_made_of_the_settings_is_unfit() {
    let ddim = json!({
        "_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "rescale_betas_zero_snr": true,
        "timestep_spacing": "trailing", "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
    });
    let defaults = read(&ddim).unwrap().defaults;
    let unfit: Vec<_> = SamplerKind::ALL.into_iter().filter(|kind| defaults.unfit(*kind).is_some()).collect();
    assert_eq!(unfit, [SamplerKind::Heun, SamplerKind::Pndm, SamplerKind::Plms]);
    let why = defaults.unfit(SamplerKind::Heun).unwrap();
    assert!(why.contains("rescale_betas_zero_snr"), "{why}");
    // Heun's class has other betas than Euler's, where none are written down.
    let euler = read(&json!({"_class_name": "EulerDiscreteScheduler"})).unwrap().defaults;
    assert!(euler.unfit(SamplerKind::Heun).unwrap().contains("noise levels"));
}

/// They were trained with a noise that no sampler of betas goes through.
#[test]
fn nothing_stands_in_for_a_scheduler_of_another_kind_of_training() {
    for class in [
        "EDMEulerScheduler",
        "EDMDPMSolverMultistepScheduler",
        "CosineDPMSolverMultistepScheduler",
        "CMStochasticIterativeScheduler",
        "TCDScheduler",
        "IPNDMScheduler",
        "ScoreSdeVeScheduler",
        "SomebodysOwnScheduler",
    ] {
        let config = json!({"_class_name": class, "sigma_data": 0.5});
        for sampler in [None, Some(SamplerKind::DpmSolver)] {
            let refusal = super::read(config.as_object().unwrap(), sampler, Mending::None).unwrap_err();
            assert!(refusal.contains(class) && !refusal.contains("--sampler"), "{refusal}");
        }
    }
}

/// Each sampler that a refusal names must work.
#[test]
fn what_is_recommended_can_be_imported() {
    for class in REPLACEABLE {
        let config = json!({"_class_name": class});
        let config = config.as_object().unwrap();
        assert!(super::read(config, None, Mending::None).unwrap_err().contains("--sampler"), "{class}");
        for kind in SamplerKind::ALL.into_iter().filter(|kind| !matches!(kind, SamplerKind::Lcm)) {
            let scheduler = super::read(config, Some(kind), Mending::None).unwrap();
            assert_eq!(scheduler.defaults.sampler, kind, "{class}");
        }
    }
}

#[test]
fn a_variance_is_read_as_the_configuration_says() {
    let read = |variance: &str| {
        let config = json!({"_class_name": "DDPMScheduler", "variance_type": variance});
        read(&config).map(|of| (of.facts(64, Tokens::Made(1), true).learned_variance, of.defaults.variance))
    };
    for (name, learned, fixed) in [
        ("fixed_small", LearnedVariance::Unread, None),
        ("fixed_small_log", LearnedVariance::Unread, None),
        ("fixed_large", LearnedVariance::Unread, Some(Variance::FixedLarge)),
        ("fixed_large_log", LearnedVariance::Unread, Some(Variance::FixedLarge)),
        ("learned", LearnedVariance::Learned, None),
        ("learned_range", LearnedVariance::LearnedRange, None),
    ] {
        assert_eq!(read(name), Ok((Some(learned), fixed)), "{name}");
    }
    let refusal = read("learned_sigma").unwrap_err();
    assert!(refusal.contains("variance_type must be fixed_small") && refusal.contains("learned_sigma"));
    // A scheduler without variances of its own splits off what the graph gives.
    let ddim = super::tests::read(&json!({"_class_name": "DDIMScheduler"})).unwrap();
    assert_eq!(ddim.facts(64, Tokens::Made(1), true).learned_variance, Some(LearnedVariance::Unread));
    assert_eq!(ddim.facts(64, Tokens::Made(1), false).learned_variance, None);
}

/// `DDIMScheduler.from_config` of diffusers finds it among what Euler's class has no use for.
#[test]
fn the_end_of_other_samplers_is_kept() {
    let euler = json!({"_class_name": "EulerDiscreteScheduler", "set_alpha_to_one": false});
    assert_eq!(read(&euler).unwrap().defaults.end_at_timestep_0, Some(true));
}

#[test]
fn settings_that_are_not_served_are_named() {
    for (class, key, value) in [
        ("EulerDiscreteScheduler", "use_beta_sigmas", json!(true)),
        ("DPMSolverMultistepScheduler", "solver_order", json!(3)),
        ("DPMSolverMultistepScheduler", "solver_type", json!("heun")),
        ("DPMSolverMultistepScheduler", "algorithm_type", json!("dpmsolver")),
        ("DPMSolverMultistepScheduler", "lambda_min_clipped", json!(-5.1)),
        ("UniPCMultistepScheduler", "solver_type", json!("bh1")),
        ("DDIMScheduler", "clip_sample_range", json!(2.0)),
        ("LCMScheduler", "timestep_scaling", json!(1.0)),
        ("DDIMScheduler", "beta_schedule", json!("exp")),
    ] {
        let config = json!({"_class_name": class, "clip_sample": true, key: value});
        let refusal = read(&config).unwrap_err();
        assert!(refusal.contains(key), "{class}: {refusal}");
    }
}
