//! What inpainting keeps of the caller's picture, level by level.
//!
//! The base model keeps it while it draws. A super-resolution level knows nothing of it: it enlarges the whole picture, and a
//! decoder of latents gives it back with a loss. Here the kept pixels are put back ([decision 7](../../../docs/decisions/0007-inpainting-through-the-cascade.md)).

use std::sync::Arc;

use reverie_imaging::initial::{Initial, Start};
use reverie_imaging::{PictureError, pictures};
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::{Permit, Refusal};
use tonic::Status;

/// Puts what `initial` keeps, if there is one and it has something to tell at `size`, into the `drawn` picture of that size.
pub(crate) async fn put_back(
    permit: &Permit,
    initial: Option<&Arc<Initial>>,
    size: Size,
    drawn: Image,
) -> Result<Image, Status> {
    let masked = |initial: &&Arc<Initial>| initial.at(size).is_some_and(|start| start.mask.is_some());
    let Some(initial) = initial.filter(masked).cloned() else { return Ok(drawn) };
    let composed = permit.clone().run_blocking(move || {
        let mut picture = pictures::decode(&drawn).map_err(|error| unreadable(&error))?;
        if let Some(Start { picture: own, mask: Some(mask) }) = initial.at(size) {
            mask.keep(own, &mut picture);
        }
        Ok(pictures::raw(picture))
    });
    composed.await
}

/// Of a picture that a stage drew.
pub(crate) fn unreadable(error: &PictureError) -> Refusal {
    Refusal::internal(format!("a stage gave a picture that cannot be read: {error}"))
}
