//! reverie-storage
