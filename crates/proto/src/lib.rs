//! The contracts of Reverie: code generated from `protos/`, the bounds of their values, and the conversions between wire messages and
//! values that can be computed with.

pub mod limits;
pub mod names;
pub mod sizes;
pub mod tensors;

/// The compiled descriptors of every contract, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! packages {
    ($($(#[$doc:meta])* $name:ident = $path:literal;)*) => {$(
        $(#[$doc])*
        pub mod $name {
            /// Version 1 of the contract.
            #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]
            pub mod v1 {
                tonic::include_proto!($path);
            }
        }
    )*};
}

packages! {
    /// Tensors, pictures and encoded text.
    tensor = "reverie.tensor.v1";
    /// Prompts and pictures to embeddings.
    encoder = "reverie.encoder.v1";
    /// Nearest-neighbour search.
    vector = "reverie.vector.v1";
    /// Knowledge bases.
    retrieval = "reverie.retrieval.v1";
    /// What requests and answers say about a diffusion stage: sampling, guidance, timings, model identity.
    diffusion = "reverie.diffusion.v1";
    /// What requests and answers say about knowledge bases.
    knowledge = "reverie.knowledge.v1";
    /// The base diffusion model.
    denoiser = "reverie.denoiser.v1";
    /// Between pictures and latents.
    autoencoder = "reverie.autoencoder.v1";
    /// One level of the cascade.
    superresolution = "reverie.superresolution.v1";
    /// The public door.
    generation = "reverie.generation.v1";
}
