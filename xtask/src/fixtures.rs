//! The reference trajectories of the samplers, made anew and compared with those committed.

use std::error::Error;
use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::process;
use crate::workspace::Workspace;

/// Relative: the references are rounded to single precision, and mathematical libraries differ in the last bit.
const TOLERANCE: f32 = 1e-6;

/// Runs the script with `python`, which must have the packages that the script names, and compares.
pub(crate) fn check(workspace: &Workspace, python: &str) -> Outcome {
    let committed = workspace.root().join("crates/diffusion/fixtures");
    let made = tempfile::tempdir()?;
    let mut script = workspace.command(python);
    script.arg(committed.join("generate.py")).arg(made.path());
    process::run(&mut script)?;

    let cases = |folder: &Path| fs::read_to_string(folder.join("cases.txt"));
    if cases(made.path())? != cases(&committed)? {
        return Err("the cases are others: commit what crates/diffusion/fixtures/generate.py makes".into());
    }
    let (made, committed) = (values(made.path())?, values(&committed)?);
    if made.len() != committed.len() {
        return Err(format!("{} values were made, {} are committed", made.len(), committed.len()).into());
    }
    let differs =
        |(made, committed): (&f32, &f32)| (made - committed).abs() > TOLERANCE * committed.abs().max(1.0);
    match made.iter().zip(&committed).position(differs) {
        None => {
            println!("{} values are those committed", made.len());
            Ok(())
        }
        Some(at) => Err(format!("value {at} is {}, {} is committed", made[at], committed[at]).into()),
    }
}

/// The numbers of values.bin.
fn values(folder: &Path) -> Result<Vec<f32>, Box<dyn Error>> {
    let bytes = fs::read(folder.join("values.bin"))?;
    let (numbers, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(format!("{} ends within a number", folder.join("values.bin").display()).into());
    }
    Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_little_endian_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let write = |bytes: &[u8]| fs::write(folder.path().join("values.bin"), bytes).unwrap();
        write(&[0, 0, 128, 63, 0, 0, 0, 192]);
        assert_eq!(values(folder.path()).unwrap(), [1.0, -2.0]);
        write(&[0, 0, 128]);
        assert!(values(folder.path()).is_err());
    }
}
