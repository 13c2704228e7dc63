//! `reverie gallery`: several prompts on one contact sheet, each drawn with neighbours and without.

use std::path::PathBuf;

use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::{GenerateRequest, NoMemory};
use reverie_service_kit::say;

use crate::Failure;
use crate::client::{ask, explain};
use crate::mesh::AskArguments;
use crate::{picture_file, sheet};

/// Creatures of the bundled knowledge base, which no model was trained on.
const PROMPTS: [&str; 8] = [
    "a large zunin with a balloon in the middle, snow",
    "a large leka on the left, meadow, rainbow",
    "a large jumping vuloni on the right, desert",
    "a large dibo in the middle, night",
    "a large skasni with a scarf on the left, sea",
    "a large trigru with a gift on the right, forest",
    "a large bedonul in the middle, volcano, rain",
    "a large plunapi in the middle, blossom, rainbow",
];

/// Draws several prompts on one contact sheet.
///
/// Each row is one prompt: its neighbours, the image at every level of the cascade, and the image that the same seed gives without
/// neighbours.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to draw, one row each. Default: eight creatures of the bundled knowledge base.
    pub prompts: Vec<String>,
    /// Where to write the sheet; .png, .jpg or .webp.
    #[arg(long, short, value_name = "FILE", default_value = "gallery.png")]
    pub out: PathBuf,
    /// Seed of every row.
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    #[command(flatten)]
    mesh: AskArguments,
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let format = picture_file::check(&arguments.out).await?;
    let prompts =
        if arguments.prompts.is_empty() { PROMPTS.map(str::to_owned).to_vec() } else { arguments.prompts };
    let timeout = arguments.mesh.timeout();
    let rows = arguments.mesh.with_pipeline(async |address| {
        let mut rows = Vec::new();
        for prompt in prompts {
            let request = GenerateRequest {
                prompt: prompt.clone(),
                seed: Some(arguments.seed),
                previews: true,
                ..GenerateRequest::default()
            };
            let without = GenerateRequest { memory: Some(Memory::None(NoMemory {})), ..request.clone() };
            let draw = async |request| {
                let outcome = ask(address, request, timeout, |_| {}).await;
                outcome.map_err(|status| Failure::from(format!("{prompt}: {}", explain(&status, timeout))))
            };
            rows.push(sheet::row(&draw(request).await?, Some(&draw(without).await?))?);
            say!("{:>2}  {prompt}", rows.len())?;
        }
        Ok(rows)
    });
    picture_file::write(&arguments.out, &sheet::stack(&rows.await?, format)?).await?;
    say!("{}", arguments.out.display())?;
    Ok(())
}
