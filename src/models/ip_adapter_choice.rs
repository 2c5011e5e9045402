//! Which pictures a generator draws after, and through which IP-Adapter: `FILE` or `FILE:SCALE`, and the pictures behind it,
//! all joined by ` + `.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;

use super::weighted::{AND, file_name, join_weight, parts, show_weight, split_weight};
use crate::error::usage;
use crate::images;

/// An IP-Adapter, what it is shown, and how strongly that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct IpAdapterChoice {
    /// As it was named: see [`super::locate_ip_adapter`]. It must be on this machine when it is drawn with.
    pub file: PathBuf,
    /// Picture files, and folders of which each picture is shown.
    pub pictures: Vec<PathBuf>,
    /// Beside the text; at 0 the adapter is left out.
    pub scale: f64,
}

impl IpAdapterChoice {
    /// What an experiment says of a strategy: none for an empty text.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = parts(text);
        let (file, scale) = split_weight(parts.next()?);
        Some(Self { file: PathBuf::from(file), pictures: parts.map(PathBuf::from).collect(), scale })
    }

    /// In few words: the adapter and the pictures without folders and endings, and the scale where it is not 1.
    pub fn name(&self) -> String {
        let own = show_weight(&file_name(&self.file), self.scale);
        let pictures = self.pictures.iter().map(|path| file_name(path));
        std::iter::once(own).chain(pictures).collect::<Vec<_>>().join(AND)
    }

    /// What is wrong with it before any file is looked at.
    pub fn check(&self) -> Result<(), String> {
        if !self.scale.is_finite() {
            return Err(format!("the IP-Adapter's scale {} is not a number to work with", self.scale));
        }
        Ok(())
    }

    /// The files of all pictures.
    pub fn picture_files(&self) -> Result<Vec<PathBuf>> {
        if self.pictures.is_empty() {
            return Err(usage(format!("{}: an IP-Adapter needs a picture to draw after", self.file.display())));
        }
        let mut files = Vec::new();
        for path in &self.pictures {
            if path.is_dir() {
                files.extend(images::list(path).map_err(|error| usage(format!("to draw after: {error:#}")))?);
            } else {
                files.push(path.clone());
            }
        }
        Ok(files)
    }

    /// Looks at the headers of all pictures.
    pub fn check_pictures(&self) -> Result<()> {
        for path in self.picture_files()? {
            if !path.is_file() {
                return Err(usage(format!("{}: no such picture to draw after (IP-Adapter)", path.display())));
            }
            images::probe(&path).map_err(|error| usage(format!("to draw after (IP-Adapter): {error:#}")))?;
        }
        Ok(())
    }
}

impl fmt::Display for IpAdapterChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&join_weight(&self.file.display().to_string(), self.scale))?;
        self.pictures.iter().try_for_each(|path| write!(f, "{AND}{}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_and_its_pictures_are_one_text() {
        assert_eq!(IpAdapterChoice::read(""), None);
        let choice = IpAdapterChoice::read("a/ip-adapter_sd15.bin:0.6 + snoopy.png + b/woodstock:2.png").unwrap();
        let pictures = ["snoopy.png", "b/woodstock:2.png"].map(PathBuf::from).to_vec();
        assert_eq!(choice, IpAdapterChoice { file: "a/ip-adapter_sd15.bin".into(), pictures, scale: 0.6 });
        assert_eq!(choice.name(), "ip-adapter_sd15-0.6 + snoopy + woodstock:2");
        assert_eq!(IpAdapterChoice::read(&choice.to_string()), Some(choice));
        assert!(IpAdapterChoice::read("a.bin:inf").unwrap().check().unwrap_err().contains("scale inf"));
    }
}
