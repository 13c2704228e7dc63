//! Writes the standard normals of a stream to standard output, raw little-endian f32, for references drawn elsewhere
//! with the same noise.
//!
//! `noise SEED SAMPLE STAGE initial|step|augmentation STEP COUNT`

use std::error::Error;
use std::io::Write;

use reverie_diffusion::{NoiseSource, Stream};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seed, sample, stage, stream, step, count] = arguments.as_slice() else {
        return Err("usage: noise SEED SAMPLE STAGE initial|step|augmentation STEP COUNT".into());
    };
    let stream = match stream.as_str() {
        "initial" => Stream::InitialNoise,
        "step" => Stream::StepNoise,
        "augmentation" => Stream::Augmentation,
        other => return Err(format!("there is no stream {other}").into()),
    };
    let noise = NoiseSource::new(seed.parse()?, sample.parse()?, stage.parse()?);
    let mut normals = vec![0.0_f32; count.parse()?];
    noise.fill_normal(stream, step.parse()?, &mut normals);
    let bytes: Vec<u8> = normals.iter().flat_map(|z| z.to_le_bytes()).collect();
    std::io::stdout().write_all(&bytes)?;
    Ok(())
}
