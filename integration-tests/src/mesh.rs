//! The mesh in one process, over the bundle of the workspace.

use reverie::mesh::{Mesh, MeshArguments, MeshSettings};

use crate::{BUNDLE, Fallible};

/// Starts it with default settings, and waits until it serves.
pub async fn start() -> Fallible<Mesh> {
    let arguments = MeshArguments { bundle: BUNDLE.to_owned(), ..MeshArguments::default() };
    Mesh::start(MeshSettings::load(&arguments).await?, None).await
}
