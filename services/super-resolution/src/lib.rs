//! reverie-super-resolution
