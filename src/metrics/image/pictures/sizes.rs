//! The sizes of pictures that are compared, by their headers.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::images;

/// Two pictures that are to be compared have different sizes.
#[derive(Debug, thiserror::Error)]
#[error("{other} is {}×{}, but {first} is {}×{}: pictures that are compared must all be of one size", .sizes[1].0, .sizes[1].1, .sizes[0].0, .sizes[0].1)]
pub struct SizesDiffer {
    first: String,
    other: String,
    sizes: [(u32, u32); 2],
}

/// The one size that pictures of a comparison have.
pub(super) struct OneSize {
    /// Smallest width and height that the network takes.
    pub(super) least: u32,
    pub(super) first: Option<(PathBuf, (u32, u32))>,
}

impl OneSize {
    pub(super) fn check(&mut self, path: &Path, (width, height): (u32, u32)) -> Result<()> {
        match &self.first {
            Some((first, size)) if *size != (width, height) => bail!(SizesDiffer {
                first: first.display().to_string(),
                other: path.display().to_string(),
                sizes: [*size, (width, height)],
            }),
            Some(_) => Ok(()),
            None => {
                if width.min(height) < self.least {
                    bail!(
                        "{} is {width}×{height}: too small for this network (at least {least}×{least})",
                        path.display(),
                        least = self.least
                    );
                }
                self.first = Some((path.to_path_buf(), (width, height)));
                Ok(())
            }
        }
    }
}

/// Looks at the header of every picture, on all cores, before a network is loaded: that it can be read. Gives the sizes.
pub fn check_readable<P: AsRef<Path> + Sync>(files: &[P]) -> Result<Vec<(u32, u32)>> {
    let headers = images::probe_all(files);
    if let Some(broken) = images::broken(&headers) {
        bail!(broken);
    }
    Ok(headers.into_iter().flatten().map(|header| (header.width, header.height)).collect())
}

/// [`check_readable`], and that all are of one size, at least `least` wide and high.
///
/// # Errors
/// [`SizesDiffer`] among others.
pub fn check_headers<P: AsRef<Path> + Sync>(files: &[P], least: u32) -> Result<()> {
    let mut size = OneSize { least, first: None };
    let mut found = files.iter().zip(check_readable(files)?);
    found.try_for_each(|(file, found)| size.check(file.as_ref(), found))
}
