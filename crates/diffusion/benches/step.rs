//! What a step costs outside the model: noise, thresholding, sampler, guidance.
//!
//! `cargo bench -p reverie-diffusion`; a small picture, a latent and a large picture, and copies of them as a yardstick:
//! a copy reads and writes a sample once, the shortest step reads and writes two.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up should stop")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use reverie_diffusion::guidance::combine;
use reverie_diffusion::{
    BetaSchedule, Method, NoiseSchedule, NoiseSource, Sampler, SamplerKind, SamplerSettings, Stream,
    Thresholding,
};

fn step(criterion: &mut Criterion) {
    let noise = NoiseSource::new(7, 0, 0);
    let schedule = NoiseSchedule::new(BetaSchedule::SquaredcosCapV2, 1000).unwrap();
    let dynamic = Thresholding::Dynamic { quantile: 0.995, cap: None };
    for (side, channels) in [(64, 3), (128, 4), (1024, 3)] {
        let elements = channels * side * side;
        let mut group = criterion.benchmark_group(format!("{side}x{side}x{channels}"));
        group.throughput(Throughput::Elements(elements as u64)).sample_size(10);

        let (mut z, mut out) = (vec![0.0; elements], vec![0.0; elements]);
        group.bench_function("noise", |b| {
            b.iter(|| noise.fill_normal(Stream::StepNoise, 1, black_box(&mut z)));
        });

        group.bench_function("copy", |b| b.iter(|| out.copy_from_slice(black_box(&z))));

        for (name, sampler, thresholding) in [
            ("ddim", SamplerKind::Ddim, Thresholding::None),
            ("ddim, static", SamplerKind::Ddim, Thresholding::Static),
            ("ddim, dynamic", SamplerKind::Ddim, dynamic),
            ("ddpm, static", SamplerKind::Ddpm, Thresholding::Static),
            ("euler", SamplerKind::Euler, Thresholding::None),
            ("heun", SamplerKind::Heun, Thresholding::None),
            ("dpmpp_2m", SamplerKind::DpmSolver, Thresholding::None),
            ("dpmpp_2m_sde", SamplerKind::DpmSolverSde, Thresholding::None),
            ("unipc", SamplerKind::UniPc, Thresholding::None),
            ("plms", SamplerKind::Plms, Thresholding::None),
        ] {
            let settings =
                SamplerSettings { method: Method::from(sampler), thresholding, ..SamplerSettings::default() };
            let mut sampler = Sampler::new(&schedule, &settings).unwrap();
            let (mut x, mut output) = (z.clone(), z.clone());
            // What earlier evaluations leave is there.
            (0..25).for_each(|i| sampler.step(i, &mut x, &mut output, &noise));
            group.bench_function(BenchmarkId::new("step", name), |b| {
                b.iter_custom(|times| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..times {
                        // Some pixels out of range, as guidance leaves them.
                        output.copy_from_slice(&z);
                        x.copy_from_slice(&z);
                        let started = Instant::now();
                        sampler.step(25, black_box(&mut x), &mut output, &noise);
                        spent += started.elapsed();
                    }
                    spent
                });
            });
        }

        group.bench_function("guidance of two rows", |b| {
            b.iter(|| combine(&[3.0, -2.0], &[black_box(&z), &z], &mut out));
        });
        group.finish();
    }
}

criterion_group!(benches, step);
criterion_main!(benches);
