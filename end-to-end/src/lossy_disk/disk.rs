use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rand::Rng as _;
use rand::rngs::SmallRng;

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;
const EXECUTABLE: u32 = 0o100;

/// Files and folders, each as it is now and as far as it is durable.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The first one is the folder that all others are in.
    nodes: Vec<Node>,
}

/// Names a file or a folder, whatever its entries.
pub type NodeId = usize;
pub const TOP: NodeId = 0;

#[derive(Clone, Debug)]
enum Node {
    File(File),
    Folder(Folder),
}

#[derive(Clone, Debug, Default)]
struct File {
    durable: Content,
    now: Content,
    unsynced: Vec<Change>,
    /// Changed through memory, which no trace shows.
    mapped: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Content {
    bytes: Vec<u8>,
    mode: u32,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
    Mode(u32),
}

#[derive(Clone, Debug, Default)]
struct Folder {
    durable: BTreeMap<String, NodeId>,
    now: BTreeMap<String, NodeId>,
    unsynced: Vec<EntryChange>,
}

#[derive(Clone, Debug)]
enum EntryChange {
    Add(String, NodeId),
    Remove(String),
    /// Lost or kept as one.
    Rename {
        from: String,
        to: String,
        node: NodeId,
    },
}

/// What survives of that which was not synced.
#[derive(Clone, Debug)]
pub enum Survives {
    Nothing,
    /// What files hold and no entry that leads to it.
    Data,
    /// Entries that lead to files without what was written to them.
    Entries,
    Everything,
    /// Any of it: entries, writes, sectors of writes.
    Some(Box<SmallRng>),
}

/// What a root holds, by paths relative to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tree(pub BTreeMap<PathBuf, Entry>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    Folder,
    File { bytes: Vec<u8>, executable: bool },
}

impl Disk {
    /// What is at `path`, all of it durable.
    pub fn read(path: &Path) -> Self {
        let mut disk = Self { nodes: Vec::new() };
        disk.read_node(path, &mut HashMap::new());
        disk
    }

    fn read_node(&mut self, path: &Path, seen: &mut HashMap<u64, NodeId>) -> NodeId {
        let metadata = fs::symlink_metadata(path).expect("a readable root that nobody else changes");
        // Of a file that has two names there is one.
        if let Some(node) = seen.get(&metadata.ino()) {
            return *node;
        }
        let node = self.nodes.len();
        seen.insert(metadata.ino(), node);
        if metadata.is_dir() {
            self.nodes.push(Node::Folder(Folder::default()));
            let mut entries = BTreeMap::new();
            for (name, path) in listed(path) {
                entries.insert(name, self.read_node(&path, seen));
            }
            self.nodes[node] = Node::Folder(Folder { durable: entries.clone(), now: entries, unsynced: Vec::new() });
        } else {
            assert!(metadata.is_file(), "{} is neither file nor folder", path.display());
            let content = Content { bytes: fs::read(path).expect("our own file"), mode: metadata.mode() };
            let file = File { durable: content.clone(), now: content, unsynced: Vec::new(), mapped: false };
            self.nodes.push(Node::File(file));
        }
        node
    }

    pub fn entry(&self, folder: NodeId, name: &str) -> Option<NodeId> {
        match &self.nodes[folder] {
            Node::Folder(folder) => folder.now.get(name).copied(),
            Node::File(_) => None,
        }
    }

    pub fn create_file(&mut self, folder: NodeId, name: &str, mode: u32) -> NodeId {
        let content = Content { bytes: Vec::new(), mode };
        let file = File { durable: content.clone(), now: content, unsynced: Vec::new(), mapped: false };
        self.nodes.push(Node::File(file));
        self.add(folder, name, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    pub fn create_folder(&mut self, folder: NodeId, name: &str) {
        self.nodes.push(Node::Folder(Folder::default()));
        self.add(folder, name, self.nodes.len() - 1);
    }

    pub fn add(&mut self, folder: NodeId, name: &str, node: NodeId) {
        self.change_entries(folder, EntryChange::Add(name.to_owned(), node));
    }

    pub fn remove(&mut self, folder: NodeId, name: &str) {
        self.change_entries(folder, EntryChange::Remove(name.to_owned()));
    }

    pub fn rename(&mut self, folder: NodeId, from: &str, to: &str) {
        let node = self.entry(folder, from).expect("the call has succeeded");
        self.change_entries(folder, EntryChange::Rename { from: from.to_owned(), to: to.to_owned(), node });
    }

    fn change_entries(&mut self, folder: NodeId, change: EntryChange) {
        let Node::Folder(folder) = &mut self.nodes[folder] else { panic!("entries are in folders") };
        change.make(&mut folder.now);
        folder.unsynced.push(change);
    }

    pub fn write(&mut self, file: NodeId, at: usize, bytes: Vec<u8>) {
        self.change(file, Change::Write { at, bytes });
    }

    pub fn set_length(&mut self, file: NodeId, length: usize) {
        self.change(file, Change::Length(length));
    }

    pub fn set_mode(&mut self, file: NodeId, mode: u32) {
        self.change(file, Change::Mode(mode));
    }

    pub fn map(&mut self, file: NodeId) {
        self.file(file).mapped = true;
    }

    fn change(&mut self, file: NodeId, change: Change) {
        let file = self.file(file);
        change.make(&mut file.now);
        file.unsynced.push(change);
    }

    fn file(&mut self, node: NodeId) -> &mut File {
        match &mut self.nodes[node] {
            Node::File(file) => file,
            Node::Folder(_) => panic!("a folder is not written to"),
        }
    }

    pub fn bytes(&self, file: NodeId) -> &[u8] {
        match &self.nodes[file] {
            Node::File(file) => &file.now.bytes,
            Node::Folder(_) => panic!("a folder is not read"),
        }
    }

    /// What the file holds, or the folder's entries, are durable from now on. Not the entry that leads to it: POSIX
    /// promises that only for a sync of the folder that it is in, whatever some file systems do.
    pub fn sync(&mut self, node: NodeId) {
        match &mut self.nodes[node] {
            Node::File(file) => {
                file.durable = file.now.clone();
                file.unsynced.clear();
            }
            Node::Folder(folder) => {
                folder.durable = folder.now.clone();
                folder.unsynced.clear();
            }
        }
    }

    /// What is found after a power cut.
    pub fn after_power_cut(&self, survives: &mut Survives) -> Tree {
        let mut surviving = Surviving { disk: self, survives, contents: HashMap::new(), tree: Tree::default() };
        surviving.visit(TOP, Path::new(""));
        surviving.tree
    }

    /// What every process sees.
    pub fn now(&self) -> Tree {
        self.after_power_cut(&mut Survives::Everything)
    }
}

impl EntryChange {
    fn make(&self, entries: &mut BTreeMap<String, NodeId>) {
        match self {
            Self::Add(name, node) => {
                entries.insert(name.clone(), *node);
            }
            Self::Remove(name) => {
                entries.remove(name);
            }
            Self::Rename { from, to, node } => {
                entries.remove(from);
                entries.insert(to.clone(), *node);
            }
        }
    }
}

impl Change {
    fn make(&self, content: &mut Content) {
        match self {
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                content.bytes.resize(content.bytes.len().max(end), 0);
                content.bytes[*at..end].copy_from_slice(bytes);
            }
            Self::Length(length) => content.bytes.resize(*length, 0),
            Self::Mode(mode) => content.mode = *mode,
        }
    }

    /// Sector by sector, and where it makes the file longer, perhaps only that.
    fn make_torn(&self, content: &mut Content, random: &mut SmallRng) {
        let Self::Write { at, bytes } = self else { return };
        let end = at + bytes.len();
        if random.r#gen() {
            content.bytes.resize(content.bytes.len().max(end), 0);
        }
        let mut from = *at;
        while from < end {
            let to = end.min((from / SECTOR_BYTES + 1) * SECTOR_BYTES);
            if random.r#gen() {
                Self::Write { at: from, bytes: bytes[from - at..to - at].to_vec() }.make(content);
            }
            from = to;
        }
    }
}

struct Surviving<'a> {
    disk: &'a Disk,
    survives: &'a mut Survives,
    /// Of a file with two names there is still one.
    contents: HashMap<NodeId, Content>,
    tree: Tree,
}

impl Surviving<'_> {
    fn visit(&mut self, node: NodeId, path: &Path) {
        match &self.disk.nodes[node] {
            Node::Folder(folder) => {
                if node != TOP {
                    self.tree.0.insert(path.to_owned(), Entry::Folder);
                }
                for (name, node) in self.entries(folder) {
                    self.visit(node, &path.join(name));
                }
            }
            Node::File(file) => {
                let content = self.contents.get(&node).cloned().unwrap_or_else(|| self.content(file));
                self.contents.insert(node, content.clone());
                let executable = content.mode & EXECUTABLE != 0;
                self.tree.0.insert(path.to_owned(), Entry::File { bytes: content.bytes, executable });
            }
        }
    }

    fn entries(&mut self, folder: &Folder) -> BTreeMap<String, NodeId> {
        let mut entries = folder.durable.clone();
        let share = self.share();
        for change in &folder.unsynced {
            let survives = match self.survives {
                Survives::Nothing | Survives::Data => false,
                Survives::Entries | Survives::Everything => true,
                Survives::Some(random) => random.gen_bool(share),
            };
            if survives {
                change.make(&mut entries);
            }
        }
        entries
    }

    fn content(&mut self, file: &File) -> Content {
        let mut content = file.durable.clone();
        let share = self.share();
        for change in &file.unsynced {
            match self.survives {
                Survives::Nothing | Survives::Entries => {}
                Survives::Data | Survives::Everything => change.make(&mut content),
                Survives::Some(random) => match (random.gen_bool(share), random.gen_bool(0.3)) {
                    (true, false) => change.make(&mut content),
                    (_, true) => change.make_torn(&mut content, random),
                    (false, false) => {}
                },
            }
        }
        if file.mapped {
            content.bytes.clear();
        }
        content
    }

    /// Of the changes to one file or folder: mostly all but a few, or all but a few not.
    fn share(&mut self) -> f64 {
        match self.survives {
            Survives::Some(random) => [0.1, 0.5, 0.9][random.gen_range(0..3)],
            _ => 1.0,
        }
    }
}

impl Tree {
    /// What is at `path` now.
    pub fn read(path: &Path) -> Self {
        Disk::read(path).now()
    }

    /// Makes `path` hold this and nothing else.
    pub fn write(&self, path: &Path) {
        let _ = fs::remove_dir_all(path);
        fs::create_dir_all(path).expect("a writable folder");
        for (name, entry) in &self.0 {
            match entry {
                Entry::Folder => fs::create_dir(path.join(name)).expect("a writable folder"),
                Entry::File { bytes, executable } => {
                    fs::write(path.join(name), bytes).expect("a writable folder");
                    let mode = if *executable { 0o755 } else { 0o644 };
                    fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode)).expect("our own file");
                }
            }
        }
    }

    /// Paths at which the two differ.
    pub fn differences(&self, other: &Self) -> Vec<PathBuf> {
        let paths = self.0.keys().chain(other.0.keys());
        let mut different: Vec<PathBuf> =
            paths.filter(|path| self.0.get(*path) != other.0.get(*path)).cloned().collect();
        different.sort();
        different.dedup();
        different
    }
}

fn listed(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).expect("a readable root");
    let mut listed: Vec<(String, PathBuf)> = entries
        .map(|entry| {
            let entry = entry.expect("a readable root");
            (entry.file_name().into_string().expect("the product's names are plain"), entry.path())
        })
        .collect();
    listed.sort();
    listed
}
