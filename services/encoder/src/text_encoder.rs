//! The encoder of prompts: one text model, or several that read the same prompt and are put together.
//!
//! SDXL reads a prompt with two CLIP encoders, SD3 with T5 besides, FLUX with CLIP for the whole and T5 for the words. What
//! each gives is joined as [`TextFacts`](reverie_packages::package::TextFacts) says, so that no stage after this one knows of
//! more than one encoder.

use std::sync::Arc;

use futures::future::try_join_all;
use reverie_engine::{ModelError, RunError};
use reverie_packages::package::{LeftOut, joint_digest};
use reverie_packages::tokenizer::{Overflow, TokenizeError};
use reverie_packages::{Package, TokenizedText};
use reverie_proto::tensor::v1::TextTokens;
use reverie_proto::tensors;
use reverie_service_kit::Context;

use crate::Settings;
use crate::text_model::{Encoded, TextModel};

const TOKENS: &str = "text_tokens";
const POOLED: &str = "pooled_text";

pub(crate) struct TextEncoder {
    models: Vec<Member>,
    /// Tokens of all blocks, and their width.
    shape: [usize; 2],
    digest: String,
}

/// One of the models.
struct Member {
    model: TextModel,
    /// Where its tokens go, if it gives any.
    tokens: Option<Place>,
    /// Which of its outputs is the pooled text.
    pooled: Option<usize>,
}

/// What tokens a model gives, and their block.
#[derive(Debug, Clone, Copy)]
struct Shape {
    block: usize,
    tokens: usize,
    width: usize,
}

/// Where the tokens of a model go in the joint sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    first_token: usize,
    first_feature: usize,
    tokens: usize,
    width: usize,
}

impl TextEncoder {
    pub(crate) fn load(packages: &[Package], settings: &Settings) -> Result<Self, ModelError> {
        let mut shapes = Vec::new();
        for package in packages {
            let outputs = &package.manifest.graph.outputs;
            let shape = outputs.contains_key(TOKENS).then(|| package.sample_shape(TOKENS)).transpose()?;
            shapes.push(match shape.as_deref() {
                None => None,
                Some(&[tokens, width]) => {
                    let block = package.manifest.text.map_or(0, |facts| facts.block);
                    Some(Shape { block, tokens, width })
                }
                Some(_) => {
                    return Err(package.wrong(format!("{TOKENS} must be [batch, tokens, width]")).into());
                }
            });
        }
        let left_out = packages.iter().filter_map(|package| package.manifest.text?.left_out);
        for LeftOut { tokens, width } in left_out {
            let last = shapes.iter().flatten().map(|shape| shape.block).max();
            shapes.push(Some(Shape { block: last.map_or(0, |last| last + 1), tokens, width }));
        }
        let (places, shape) = lay_out(&shapes).map_err(|why| packages[0].wrong(why))?;
        let member = |(package, tokens): (&Package, Option<Place>)| {
            let gives = |output: &&str| package.manifest.graph.outputs.contains_key(*output);
            let outputs: Vec<&'static str> = [TOKENS, POOLED].into_iter().filter(gives).collect();
            if outputs.is_empty() {
                let why = format!("a text encoder has the output {TOKENS} or {POOLED}");
                return Err(ModelError::from(package.wrong(why)));
            }
            let pooled = outputs.iter().position(|output| *output == POOLED);
            Ok(Member { model: TextModel::load(package, &outputs, "texts", settings)?, tokens, pooled })
        };
        let models: Vec<Member> = packages.iter().zip(places).map(member).collect::<Result<_, _>>()?;
        let digest = joint_digest(models.iter().map(|member| member.model.digest.as_str()));
        Ok(Self { models, shape, digest })
    }

    /// The models.
    pub(crate) fn models(&self) -> impl Iterator<Item = &TextModel> {
        self.models.iter().map(|member| &member.model)
    }

    /// Identity of all models together.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// Tokenizes a text for each model. Unless it may be cut, one of them has to read all of it; the others read its beginning.
    pub(crate) fn tokenize(
        &self,
        text: &str,
        overflow: Overflow,
    ) -> Result<Vec<TokenizedText>, TokenizeError> {
        if overflow == Overflow::Refuse {
            self.check_length(text)?;
        }
        self.models.iter().map(|member| member.model.tokenize(text, Overflow::Cut)).collect()
    }

    fn check_length(&self, text: &str) -> Result<(), TokenizeError> {
        let (mut is_read, mut longest) = (false, None);
        for member in &self.models {
            match member.model.tokenize(text, Overflow::Refuse) {
                Ok(_) => is_read = true,
                Err(TokenizeError::TooLong { tokens, limit }) => longest = longest.max(Some((limit, tokens))),
                Err(error) => return Err(error),
            }
        }
        if let (Some((limit, tokens)), false) = (longest, is_read) {
            return Err(TokenizeError::TooLong { tokens, limit });
        }
        Ok(())
    }

    /// Encodes one text.
    pub(crate) async fn encode(
        &self,
        text: &[TokenizedText],
        context: Context,
    ) -> Result<TextTokens, Arc<RunError>> {
        let members = self.models.iter().zip(text);
        let encoded: Vec<Arc<Encoded>> =
            try_join_all(members.map(|(member, text)| member.model.encode(text, context))).await?;
        let [rows, width] = self.shape;
        let mut joint = vec![0.0; rows * width];
        let mut pooled = Vec::new();
        for (member, encoded) in self.models.iter().zip(&encoded) {
            if let Some(place) = member.tokens {
                let tokens = encoded.outputs[0].chunks_exact(place.width);
                let rows = joint.chunks_exact_mut(width).skip(place.first_token);
                for (row, token) in rows.zip(tokens) {
                    row[place.first_feature..][..place.width].copy_from_slice(token);
                }
            }
            pooled.extend(member.pooled.iter().flat_map(|&output| &encoded.outputs[output]));
        }
        let length = match &encoded[..] {
            // Only one encoder's padding lies at the end of the sequence.
            [only] => only.length.min(rows),
            _ => rows,
        };
        Ok(TextTokens {
            tokens: Some(tensors::from_f32(&self.shape, &joint)),
            length: length as u32,
            encoder_digest: self.digest.clone(),
            pooled: (!pooled.is_empty()).then(|| tensors::from_f32(&[pooled.len()], &pooled)),
        })
    }
}

/// Where the tokens of each model go, and the extents of the whole.
fn lay_out(shapes: &[Option<Shape>]) -> Result<(Vec<Option<Place>>, [usize; 2]), String> {
    let mut places = vec![None; shapes.len()];
    let (mut rows, mut widest) = (0, 0);
    let blocks = shapes.iter().flatten().map(|shape| shape.block).max().map_or(0, |last| last + 1);
    for block in 0..blocks {
        let (mut first_feature, mut height) = (0, None);
        for (place, shape) in places.iter_mut().zip(shapes) {
            let Some(Shape { tokens, width, .. }) = shape.filter(|shape| shape.block == block) else {
                continue;
            };
            if *height.get_or_insert(tokens) != tokens {
                return Err(format!("text encoders of block {block} must give equally many tokens"));
            }
            *place = Some(Place { first_token: rows, first_feature, tokens, width });
            first_feature += width;
        }
        rows += height.unwrap_or_default();
        widest = widest.max(first_feature);
    }
    if rows == 0 || widest == 0 {
        Err("no text encoder gives tokens".to_owned())
    } else {
        Ok((places, [rows, widest]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoders_of_a_block_stand_side_by_side_and_blocks_follow_each_other() {
        let place = |first_token, first_feature, tokens, width| {
            Some(Place { first_token, first_feature, tokens, width })
        };
        let shape = |block, tokens, width| Some(Shape { block, tokens, width });
        // SD3: two CLIP encoders, then T5, which is wider than both.
        let (places, extents) =
            lay_out(&[shape(0, 77, 768), shape(0, 77, 1280), shape(1, 256, 4096)]).unwrap();
        assert_eq!(places, [place(0, 0, 77, 768), place(0, 768, 77, 1280), place(77, 0, 256, 4096)]);
        assert_eq!(extents, [333, 4096]);
        // FLUX: CLIP gives no tokens.
        let (places, extents) = lay_out(&[None, shape(0, 512, 4096)]).unwrap();
        assert_eq!((places, extents), (vec![None, place(0, 0, 512, 4096)], [512, 4096]));
    }

    #[test]
    fn encoders_that_do_not_fit_together_are_refused() {
        let shape = |tokens| Some(Shape { block: 0, tokens, width: 768 });
        assert!(lay_out(&[shape(77), shape(64)]).unwrap_err().contains("block 0"));
        assert!(lay_out(&[None, None]).is_err());
    }
}
