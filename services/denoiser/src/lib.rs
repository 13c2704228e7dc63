//! reverie-denoiser
