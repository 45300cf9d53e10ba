use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::disk::{Disk, NodeId, TOP};

/// Every system call by which the disk, or a file descriptor, changes; with a `?` those that not every strace knows.
pub const TRACED: &str = "open,openat,creat,close,dup,dup2,dup3,fcntl,lseek,mmap,write,pwrite64,writev,pwritev,pwritev2,\
     copy_file_range,sendfile,splice,fsync,fdatasync,sync_file_range,truncate,ftruncate,fallocate,rename,renameat,\
     renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat,?fchmodat2,mknod,\
     mknodat,?io_uring_setup,clone,?clone3,fork,vfork";

/// A system call that has succeeded.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    arguments: Vec<String>,
    result: i64,
}

/// Reads what `strace -f -xx` has written.
pub fn parse(log: &str) -> Vec<Call> {
    let mut processes: Vec<&str> = log.lines().filter_map(|line| line.split_once(' ').map(|(id, _)| id)).collect();
    processes.dedup();
    assert!(processes.len() <= 1, "a one-shot process has one thread and no children, or calls would be mixed");
    log.lines().filter_map(|line| call(line.split_once(' ')?.1.trim_start())).collect()
}

fn call(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let result = result.split(' ').next()?;
    let result = match result.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok()?,
        None => result.parse().ok()?,
    };
    let arguments = arguments.trim_end().strip_suffix(')')?;
    (result >= 0).then(|| Call { name: name.to_owned(), arguments: split(arguments), result })
}

/// At the commas that are in no bracket. Strings are all hexadecimal and have neither.
fn split(arguments: &str) -> Vec<String> {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for character in arguments.chars() {
        match character {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        match (character, depth, parts.last_mut()) {
            (',', 0, _) => parts.push(String::new()),
            (_, _, Some(part)) => part.push(character),
            _ => {}
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

impl Call {
    fn argument(&self, number: usize) -> &str {
        self.arguments.get(number).unwrap_or_else(|| panic!("{self:?} has no argument {number}"))
    }

    fn number(&self, number: usize) -> usize {
        self.argument(number).parse().unwrap_or_else(|_| panic!("argument {number} of {self:?} is no number"))
    }

    fn mode(&self, number: usize) -> u32 {
        u32::from_str_radix(self.argument(number), 8).unwrap_or_else(|_| panic!("{self:?} has no mode"))
    }

    fn path(&self, number: usize) -> PathBuf {
        let bytes = strings(self.argument(number));
        String::from_utf8(bytes).unwrap_or_else(|_| panic!("{self:?} has a path that is no text")).into()
    }

    /// As many of the bytes as were written.
    fn data(&self) -> Vec<u8> {
        let mut bytes = strings(self.argument(1));
        assert!(bytes.len() as i64 >= self.result, "strace has cut short what {} wrote", self.name);
        bytes.truncate(self.length());
        bytes
    }

    fn length(&self) -> usize {
        usize::try_from(self.result).expect("only successful calls are kept")
    }
}

/// All the strings in an argument, one behind the other.
fn strings(argument: &str) -> Vec<u8> {
    let byte = |digits: &str| u8::from_str_radix(digits, 16).expect("strace writes hexadecimal strings");
    argument.split('"').skip(1).step_by(2).flat_map(|string| string.split("\\x").skip(1)).map(byte).collect()
}

/// A process's calls made on the model.
pub struct Process {
    root: PathBuf,
    open: HashMap<i64, Open>,
}

#[derive(Clone, Copy)]
struct Open {
    node: NodeId,
    at: usize,
    appends: bool,
}

/// Where a path leads: a folder, and a name in it; none for the root itself.
struct Place {
    folder: NodeId,
    name: Option<String>,
}

impl Place {
    fn node(&self, disk: &Disk) -> Option<NodeId> {
        self.name.as_ref().map_or(Some(self.folder), |name| disk.entry(self.folder, name))
    }

    fn named(self) -> (NodeId, String) {
        (self.folder, self.name.expect("nothing replaces or removes the root"))
    }
}

impl Process {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), open: HashMap::new() }
    }

    /// Makes one call on the model; whether anything of it is changed, or made durable.
    ///
    /// # Panics
    /// At a call that the model does not know.
    pub fn make(&mut self, disk: &mut Disk, call: &Call) -> bool {
        match call.name.as_str() {
            "open" | "creat" | "truncate" | "splice" | "sync_file_range" | "pwritev" | "pwritev2" | "symlink"
            | "symlinkat" | "mknod" | "mknodat" | "io_uring_setup" | "fchmodat2" | "clone" | "clone3" | "fork"
            | "vfork" => panic!("the model does not know {call:?}"),
            "openat" => self.open(disk, call),
            "close" => {
                self.open.remove(&(call.number(0) as i64));
                false
            }
            "dup" | "dup2" | "dup3" => self.duplicate(call),
            "fcntl" if call.argument(1).starts_with("F_DUPFD") => self.duplicate(call),
            "fcntl" => false,
            "lseek" => {
                if let Some(open) = self.open.get_mut(&(call.number(0) as i64)) {
                    open.at = call.length();
                }
                false
            }
            "mmap" => {
                let writes = call.argument(2).contains("PROT_WRITE") && call.argument(3).contains("MAP_SHARED");
                if let (true, Some(open)) = (writes, self.file(call, 4)) {
                    disk.map(open.node);
                }
                false
            }
            "write" | "writev" => self.file(call, 0).is_some_and(|open| self.append(disk, call, 0, open, call.data())),
            "pwrite64" => self.file(call, 0).is_some_and(|open| {
                disk.write(open.node, call.number(3), call.data());
                true
            }),
            "copy_file_range" => self.copy(disk, call, 0, 2, [1, 3]),
            "sendfile" => self.copy(disk, call, 1, 0, [2, 2]),
            "fsync" | "fdatasync" => self.file(call, 0).is_some_and(|open| {
                disk.sync(open.node);
                true
            }),
            "ftruncate" => self.file(call, 0).is_some_and(|open| {
                disk.set_length(open.node, call.number(1));
                true
            }),
            "fallocate" => self.file(call, 0).is_some_and(|open| {
                assert_eq!(call.argument(1), "0", "the model only knows how to make a file longer");
                let length = disk.bytes(open.node).len().max(call.number(2) + call.number(3));
                disk.set_length(open.node, length);
                true
            }),
            "fchmod" => self.file(call, 0).is_some_and(|open| {
                disk.set_mode(open.node, call.mode(1));
                true
            }),
            _ => self.change_entries(disk, call),
        }
    }

    fn change_entries(&self, disk: &mut Disk, call: &Call) -> bool {
        let here = "AT_FDCWD";
        match call.name.as_str() {
            "rename" => self.rename(disk, [(here, call.path(0)), (here, call.path(1))]),
            "renameat" | "renameat2" => {
                self.rename(disk, [(call.argument(0), call.path(1)), (call.argument(2), call.path(3))])
            }
            "link" => self.link(disk, [(here, call.path(0)), (here, call.path(1))]),
            "linkat" => self.link(disk, [(call.argument(0), call.path(1)), (call.argument(2), call.path(3))]),
            "unlink" | "rmdir" => self.remove(disk, here, &call.path(0)),
            "unlinkat" => self.remove(disk, call.argument(0), &call.path(1)),
            "mkdir" => self.create_folder(disk, here, &call.path(0)),
            "mkdirat" => self.create_folder(disk, call.argument(0), &call.path(1)),
            "chmod" => self.set_mode(disk, here, &call.path(0), call.mode(1)),
            "fchmodat" => self.set_mode(disk, call.argument(0), &call.path(1), call.mode(2)),
            _ => panic!("the model does not know {call:?}"),
        }
    }

    fn open(&mut self, disk: &mut Disk, call: &Call) -> bool {
        let Some(place) = self.place(disk, call.argument(0), &call.path(1)) else { return false };
        let flags: Vec<&str> = call.argument(2).split('|').collect();
        let found = place.node(disk);
        let node = match found {
            Some(node) => node,
            None => {
                let (folder, name) = place.named();
                disk.create_file(folder, &name, call.mode(3))
            }
        };
        let truncates = found.is_some() && flags.contains(&"O_TRUNC");
        if truncates {
            disk.set_length(node, 0);
        }
        self.open.insert(call.result, Open { node, at: 0, appends: flags.contains(&"O_APPEND") });
        found.is_none() || truncates
    }

    fn duplicate(&mut self, call: &Call) -> bool {
        match self.open.get(&(call.number(0) as i64)).copied() {
            Some(open) => self.open.insert(call.result, open),
            None => self.open.remove(&call.result),
        };
        false
    }

    /// What a descriptor stands for; `None` for what is outside the root.
    fn file(&self, call: &Call, argument: usize) -> Option<Open> {
        self.open.get(&call.argument(argument).parse().ok()?).copied()
    }

    fn append(&mut self, disk: &mut Disk, call: &Call, argument: usize, open: Open, bytes: Vec<u8>) -> bool {
        let at = if open.appends { disk.bytes(open.node).len() } else { open.at };
        self.move_to(call, argument, at + bytes.len());
        let changes = !bytes.is_empty();
        if changes {
            disk.write(open.node, at, bytes);
        }
        changes
    }

    fn move_to(&mut self, call: &Call, argument: usize, at: usize) {
        if let Some(open) = self.open.get_mut(&(call.number(argument) as i64)) {
            open.at = at;
        }
    }

    fn copy(&mut self, disk: &mut Disk, call: &Call, from: usize, to: usize, offsets: [usize; 2]) -> bool {
        let Some(target) = self.file(call, to) else { return false };
        let source = self.file(call, from).expect("what is copied into the root is in the root");
        assert!(offsets.iter().all(|offset| call.argument(*offset) == "NULL"), "the model does not know {call:?}");
        let end = source.at + call.length();
        let bytes = disk.bytes(source.node)[source.at..end].to_vec();
        self.move_to(call, from, end);
        self.append(disk, call, to, target, bytes)
    }

    fn rename(&self, disk: &mut Disk, [from, to]: [(&str, PathBuf); 2]) -> bool {
        let Some(from) = self.place(disk, from.0, &from.1) else { return false };
        let to = self.place(disk, to.0, &to.1).expect("nothing is moved out of the root");
        let ((folder, from), (target, to)) = (from.named(), to.named());
        assert_eq!(folder, target, "nothing in an update is moved to another folder");
        disk.rename(folder, &from, &to);
        true
    }

    fn link(&self, disk: &mut Disk, [from, to]: [(&str, PathBuf); 2]) -> bool {
        let Some(to) = self.place(disk, to.0, &to.1) else { return false };
        let from = self.place(disk, from.0, &from.1).and_then(|from| from.node(disk));
        let (folder, name) = to.named();
        disk.add(folder, &name, from.expect("what is linked in the root is in the root"));
        true
    }

    fn remove(&self, disk: &mut Disk, at: &str, path: &Path) -> bool {
        let Some(place) = self.place(disk, at, path) else { return false };
        let (folder, name) = place.named();
        disk.remove(folder, &name);
        true
    }

    fn create_folder(&self, disk: &mut Disk, at: &str, path: &Path) -> bool {
        let Some(place) = self.place(disk, at, path) else { return false };
        let (folder, name) = place.named();
        disk.create_folder(folder, &name);
        true
    }

    fn set_mode(&self, disk: &mut Disk, at: &str, path: &Path, mode: u32) -> bool {
        let Some(node) = self.place(disk, at, path).and_then(|place| place.node(disk)) else { return false };
        disk.set_mode(node, mode);
        true
    }

    fn place(&self, disk: &Disk, at: &str, path: &Path) -> Option<Place> {
        let (start, relative) = match path.strip_prefix(&self.root) {
            Ok(relative) => (TOP, relative),
            Err(_) if path.is_absolute() => return None,
            // Relative to the folder that the process began in: that is not the root.
            Err(_) => (self.open.get(&at.parse().ok()?)?.node, path),
        };
        let mut place = Place { folder: start, name: None };
        for part in relative.components() {
            let Component::Normal(name) = part else { panic!("{} is no plain path", path.display()) };
            let folder = place.node(disk).expect("the call has succeeded");
            place = Place { folder, name: Some(name.to_string_lossy().into_owned()) };
        }
        Some(place)
    }
}
