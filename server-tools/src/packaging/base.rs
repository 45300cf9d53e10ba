//! What a package is made for: version directories, or complete packages of which they are made.

use std::fs::File;
use std::path::Path;

use protocol::Failure;
use updater::package::{Limits, Manifest, look};
use updater::patch;
use updater::situation::version_of;
use updater::version_directory::{TreeFile, VERSION_FILE, read_tree, tree_hash, version_id};

/// A version that the package may be put on.
pub struct Base {
    id: String,
    files: Vec<TreeFile>,
}

impl Base {
    /// A version directory (named after its content, or with a `version.txt`), or a complete package.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        if path.is_dir() { Self::of_directory(path) } else { Self::of_package(path) }
    }

    fn of_directory(path: &Path) -> Result<Self, Failure> {
        let mut files = read_tree(path)?;
        files.retain(|file| file.path != VERSION_FILE);
        let hash = tree_hash(&files);
        let name = path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let version = match name.as_deref().map(version_of) {
            Some(Ok(version)) => version.to_string(),
            _ => {
                let file = path.join(VERSION_FILE);
                let text = std::fs::read_to_string(&file).map_err(|error| durable::name_error("read", &file, error))?;
                text.trim().to_owned()
            }
        };
        let id = version_id(&version, &hash);
        match name.filter(|name| version_of(name).is_ok() && *name != id) {
            Some(name) => {
                Err(Failure::integrity(format!("{name} is not what its name says: its content makes it {id}")))
            }
            None => Ok(Self { id, files }),
        }
    }

    fn of_package(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| durable::name_error("read", path, error))?;
        let package = look(file, &Limits::DEFAULT);
        let manifest =
            package.map_err(|refusal| Failure::integrity(format!("{}: {refusal}", path.display())))?.manifest;
        if !manifest.complete {
            let what = "is no complete package, so what it leads to is not known; give the version directory itself";
            return Err(Failure::usage(format!("{} {what}", path.display())));
        }
        let files = patch::result(&manifest, &[]).map_err(Failure::integrity)?;
        Ok(Self { id: version_id(&manifest.version.to_string(), &tree_hash(&files)), files })
    }
}

/// Says in the manifest what it may be put on, and what has to come out.
pub fn bind(manifest: &mut Manifest, bases: &[Base]) -> Result<(), Failure> {
    let refused = |refusal| Failure::usage(format!("no plant would take this package: {refusal}"));
    if manifest.complete {
        manifest.result_tree = Some(tree_hash(&patch::result(manifest, &[]).map_err(refused)?));
    }
    for base in bases {
        let result = patch::result(manifest, &base.files).map_err(|refusal| {
            Failure::usage(format!("on {}: {refusal}; several bases have to lead to one and the same version", base.id))
        })?;
        manifest.result_tree = Some(tree_hash(&result));
        let ids = manifest.base.get_or_insert_default();
        if !ids.contains(&base.id) {
            ids.push(base.id.clone());
        }
    }
    Ok(())
}
