//! reverie-pipeline
