//! What all fuzz targets share. The parsers, what they promise and the first samples stand in the crates' own modules
//! `fuzzing`, whose tests run them in every test run; a target only names one.

pub use libfuzzer_sys;

use std::path::{Path, PathBuf};

/// A target: `fuzz::target!(crate, function)`.
#[macro_export]
macro_rules! target {
    ($crate_name:ident, $name:ident) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: $crate::sow(stringify!($name), &$crate_name::fuzzing::seeds()),
            |data: &[u8]| $crate_name::fuzzing::$name(data)
        );
    };
}

/// Puts the samples of a target into the corpus that the fuzzer was given, unless they are there.
pub fn sow(target: &str, seeds: &[(&str, Vec<u8>)]) {
    let folder = std::env::args().skip(1).find(|a| !a.starts_with('-')).map(PathBuf::from);
    let Some(folder) = folder.filter(|f| f.is_dir()) else { return };
    for (n, (_, seed)) in seeds.iter().filter(|(of, _)| *of == target).enumerate() {
        let file = folder.join(format!("sample-{n}"));
        if !Path::new(&file).exists() {
            let _ = std::fs::write(file, seed);
        }
    }
}
