//! reverie-encoder
