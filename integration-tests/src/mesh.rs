//! The mesh in one process, over the bundle of the workspace.

use std::sync::LazyLock;

use reverie::mesh::{Mesh, MeshArguments, MeshSettings};
use reverie_service_kit::Address;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::{BUNDLE, Fallible};

/// Starts it with default settings, and waits until it serves.
pub async fn start() -> Fallible<Mesh> {
    let arguments = MeshArguments { bundle: BUNDLE.to_owned(), ..MeshArguments::default() };
    Mesh::start(MeshSettings::load(&arguments).await?).await
}

/// One mesh draws for all the tests of a file, side by side.
static RUNTIME: LazyLock<std::io::Result<Runtime>> = LazyLock::new(Runtime::new);
static MESH: OnceCell<Mesh> = OnceCell::const_new();

/// Runs a test with the address of the pipeline of that mesh.
pub fn with_mesh(test: impl AsyncFnOnce(Address) -> Fallible<()>) -> Fallible<()> {
    let runtime = RUNTIME.as_ref().map_err(ToString::to_string)?;
    runtime.block_on(async {
        let mesh = MESH.get_or_try_init(start).await?;
        test(mesh.pipeline().clone()).await
    })
}
