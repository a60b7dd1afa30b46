//! Writes the CustomResourceDefinitions to `deploy/crd`.

use std::path::Path;
use std::{fs, io};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crd");
    fs::create_dir_all(&directory)?;
    for (name, content) in muster_api::crd::files()? {
        fs::write(directory.join(&name), content).map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    }
    Ok(())
}
