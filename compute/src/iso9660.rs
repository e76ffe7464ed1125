//! A small volume in ISO 9660, in memory, with its names in Joliet too: what a config drive is. Every guest reads
//! it: Linux and Windows by the Joliet names, others by the plain ones, which are written as they are (lower case,
//! any length up to 31) as mkisofs does when told to. Files of the same bytes share their place.
//!
//! ECMA-119 for the layout; Joliet's is the same once more, with names in UCS-2.

use bytes::Bytes;
use chrono::{DateTime, Datelike, Timelike, Utc};
use std::collections::{BTreeSet, HashMap};

const SECTOR: usize = 2048;
/// The sector after the descriptors: primary, Joliet's, and the one that ends them.
const AFTER_DESCRIPTORS: usize = 19;
/// What a record of a folder takes beside its name.
const RECORD: usize = 33;
const DIRECTORY: u8 = 2;

/// The two views of a volume.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Plain,
    Joliet,
}

impl Names {
    fn encode(self, name: &str) -> Vec<u8> {
        match self {
            Names::Plain => name.as_bytes().to_vec(),
            Names::Joliet => name.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        }
    }

    /// In the plain view a file's name has a dot and a version.
    fn file(self, name: &str) -> Vec<u8> {
        match self {
            Names::Plain if name.contains('.') => self.encode(&format!("{name};1")),
            Names::Plain => self.encode(&format!("{name}.;1")),
            Names::Joliet => self.encode(name),
        }
    }
}

/// Where something is: first sector and length in bytes.
type Extent = (usize, usize);

struct Volume<'a> {
    /// Every folder as its path's parts; the root first, then by depth, then by name, as a path table has them.
    folders: Vec<Vec<&'a str>>,
    /// Folder, name and place among `contents`.
    files: Vec<(usize, &'a str, usize)>,
    contents: Vec<&'a Bytes>,
    made: DateTime<Utc>,
}

/// The volume's bytes, a whole number of sectors. Paths are relative, with `/` between names of ASCII letters,
/// digits, `-`, `_` and `.`, each 29 characters at most.
pub(crate) fn volume(label: &str, files: &[(String, Bytes)], made: DateTime<Utc>) -> Vec<u8> {
    let volume = Volume::new(files, made);
    let sectors = |bytes: usize| bytes.div_ceil(SECTOR);
    let mut next = AFTER_DESCRIPTORS;
    let mut place = |len: usize| {
        let at = next;
        next += sectors(len);
        (at, len)
    };
    let views = [Names::Plain, Names::Joliet];
    // Sizes do not depend on places, so everything is placed before anything is written.
    let nowhere = vec![(0, 0); volume.folders.len().max(volume.contents.len())];
    let tables = views.map(|v| {
        let len = volume.path_table(v, &nowhere, u32::to_le_bytes, u16::to_le_bytes).len();
        (place(len), place(len))
    });
    let folders = views.map(|v| {
        let len = |f| volume.folder(f, v, &nowhere, &nowhere).len();
        (0..volume.folders.len()).map(|f| place(len(f))).collect::<Vec<Extent>>()
    });
    let contents: Vec<Extent> = volume.contents.iter().map(|c| place(c.len())).collect();

    let mut out = vec![0u8; next * SECTOR];
    let mut put = |at: usize, bytes: &[u8]| out[at * SECTOR..][..bytes.len()].copy_from_slice(bytes);
    for (n, view) in views.into_iter().enumerate() {
        put(16 + n, &volume.descriptor(view, label, next, &tables[n], folders[n][0]));
        put(tables[n].0.0, &volume.path_table(view, &folders[n], u32::to_le_bytes, u16::to_le_bytes));
        put(tables[n].1.0, &volume.path_table(view, &folders[n], u32::to_be_bytes, u16::to_be_bytes));
        for (f, (at, _)) in folders[n].iter().enumerate() {
            put(*at, &volume.folder(f, view, &folders[n], &contents));
        }
    }
    put(18, b"\xffCD001\x01");
    for (content, (at, _)) in volume.contents.iter().zip(&contents) {
        put(*at, content);
    }
    out
}

impl<'a> Volume<'a> {
    fn new(all: &'a [(String, Bytes)], made: DateTime<Utc>) -> Self {
        let mut sorted = BTreeSet::from([(0, Vec::new())]);
        for (path, _) in all {
            let parts: Vec<&str> = path.split('/').collect();
            sorted.extend((1..parts.len()).map(|depth| (depth, parts[..depth].to_vec())));
        }
        let folders: Vec<Vec<&str>> = sorted.into_iter().map(|(_, path)| path).collect();
        let (mut files, mut contents) = (Vec::new(), Vec::new());
        let mut known: HashMap<&Bytes, usize> = HashMap::new();
        for (path, bytes) in all {
            let content = *known.entry(bytes).or_insert_with(|| {
                contents.push(bytes);
                contents.len() - 1
            });
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
            let folder = folders.iter().position(|f| *f == parts).unwrap_or(0);
            files.push((folder, name, content));
        }
        Volume { folders, files, contents, made }
    }

    /// The folder that a folder is in; the root is in itself.
    fn parent(&self, folder: usize) -> usize {
        match self.folders[folder].split_last() {
            Some((_, above)) => self.folders.iter().position(|f| f == above).unwrap_or(0),
            None => 0,
        }
    }

    /// A folder's records, none of which lies across the end of a sector.
    fn folder(&self, folder: usize, view: Names, folders: &[Extent], contents: &[Extent]) -> Vec<u8> {
        let mut entries = Vec::new();
        for (f, path) in self.folders.iter().enumerate().skip(1) {
            if self.parent(f) == folder {
                let name = path.last().copied().unwrap_or_default();
                entries.push((view.encode(name), folders[f], DIRECTORY));
            }
        }
        for (_, name, content) in self.files.iter().filter(|(f, ..)| *f == folder) {
            entries.push((view.file(name), contents[*content], 0));
        }
        entries.sort();
        let mut out = self.record(&[0], folders[folder], DIRECTORY);
        out.extend(self.record(&[1], folders[self.parent(folder)], DIRECTORY));
        for (name, extent, flags) in entries {
            let record = self.record(&name, extent, flags);
            if out.len() % SECTOR + record.len() > SECTOR {
                out.resize(out.len().next_multiple_of(SECTOR), 0);
            }
            out.extend(record);
        }
        out.resize(out.len().next_multiple_of(SECTOR), 0);
        out
    }

    fn record(&self, name: &[u8], (at, len): Extent, flags: u8) -> Vec<u8> {
        let size = (RECORD + name.len()).next_multiple_of(2);
        let mut out = vec![byte(size), 0];
        out.extend(both32(at));
        out.extend(both32(len));
        let t = self.made;
        out.push(byte(usize::try_from(t.year() - 1900).unwrap_or(0)));
        out.extend([t.month(), t.day(), t.hour(), t.minute(), t.second(), 0].map(|n| byte(n as usize)));
        out.extend([flags, 0, 0]);
        out.extend(both16(1));
        out.push(byte(name.len()));
        out.extend(name);
        out.resize(size, 0);
        out
    }

    fn path_table(
        &self,
        view: Names,
        folders: &[Extent],
        long: fn(u32) -> [u8; 4],
        short: fn(u16) -> [u8; 2],
    ) -> Vec<u8> {
        let mut out = Vec::new();
        for (f, path) in self.folders.iter().enumerate() {
            let name = path.last().map_or(vec![0], |name| view.encode(name));
            out.extend([byte(name.len()), 0]);
            out.extend(long(word(folders[f].0)));
            // Folders count from one.
            out.extend(short(u16::try_from(self.parent(f) + 1).unwrap_or(u16::MAX)));
            out.extend(&name);
            out.resize(out.len().next_multiple_of(2), 0);
        }
        out
    }

    fn descriptor(
        &self,
        view: Names,
        label: &str,
        sectors: usize,
        (little, big): &(Extent, Extent),
        root: Extent,
    ) -> Vec<u8> {
        let text = |t: &str, len: usize| {
            let mut field = view.encode(t);
            while field.len() < len {
                field.extend(view.encode(" "));
            }
            field.truncate(len);
            field
        };
        let mut out = vec![if view == Names::Plain { 1 } else { 2 }];
        out.extend(b"CD001\x01\0");
        out.extend(text("", 32));
        out.extend(text(label, 32));
        out.extend([0; 8]);
        out.extend(both32(sectors));
        // Joliet says by this escape sequence that its names are UCS-2.
        out.extend(if view == Names::Plain { *b"\0\0\0" } else { *b"%/E" });
        out.extend([0; 29]);
        out.extend(both16(1));
        out.extend(both16(1));
        out.extend(both16(SECTOR as u16));
        out.extend(both32(little.1));
        out.extend(word(little.0).to_le_bytes());
        out.extend([0; 4]);
        out.extend(word(big.0).to_be_bytes());
        out.extend([0; 4]);
        out.extend(self.record(&[0], root, DIRECTORY));
        out.extend(text("", 128));
        out.extend(text("AQUIFER", 128));
        out.extend(text("", 128));
        out.extend(text("AQUIFER", 128));
        for len in [37, 37, 37] {
            out.extend(text("", len));
        }
        let made = self.made.format("%Y%m%d%H%M%S00\0").to_string();
        let never = "0000000000000000\0";
        for date in [&*made, &*made, never, never] {
            out.extend(date.as_bytes());
        }
        out.push(1);
        out
    }
}

/// Everything here is small by construction; what were not would be cut to the largest number instead of wrapped.
fn byte(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

fn word(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn both32(n: usize) -> [u8; 8] {
    let n = u64::from(word(n));
    (n | u64::from((n as u32).swap_bytes()) << 32).to_le_bytes()
}

fn both16(n: u16) -> [u8; 4] {
    (u32::from(n) | u32::from(n.swap_bytes()) << 16).to_le_bytes()
}

#[cfg(test)]
#[path = "iso9660_tests.rs"]
mod tests;
