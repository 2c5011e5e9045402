//! Where artifacts go: through the server itself (`mlflow-artifacts:`, its default), or into a folder that it shares with this
//! machine (`--no-serve-artifacts`).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use url::Url;

use super::rest::{Refusal, Rest};
use crate::runtime::write_whole;

/// The kinds of places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Store {
    /// The server takes them and puts them wherever it keeps them.
    Proxy,
    /// A folder.
    Folder,
}

impl Store {
    /// The kind of an experiment's place.
    ///
    /// # Errors
    /// A place that only other programs can write to; a folder of another machine.
    pub fn of(location: &str, rest: &Rest) -> Result<Self> {
        let scheme = location.split_once(':').map_or("", |(scheme, _)| scheme);
        match scheme {
            "mlflow-artifacts" | "http" | "https" => return Ok(Self::Proxy),
            "file" | "" => {}
            _ => bail!(
                "{rest} keeps artifacts in {scheme}: and has each client write there itself: start it with --serve-artifacts \
                 (and --artifacts-destination), and name a new --experiment"
            ),
        }
        let folder = folder(location)?;
        // A path of another machine would be one here by chance.
        let shared = folder.ancestors().skip(1).find(|part| part.parent().is_some()).is_some_and(Path::is_dir);
        if !rest.is_here() && !shared {
            bail!(
                "{rest} keeps artifacts in its own folder {}, which is not on this machine: start it with --serve-artifacts, \
                 and name a new --experiment",
                folder.display()
            );
        }
        Ok(Self::Folder)
    }

    /// Puts a file into a run's place.
    ///
    /// # Errors
    /// A file that cannot be read; a server that refuses; a folder that cannot be written to.
    pub fn put(self, rest: &Rest, place: &str, file: &Path) -> Result<()> {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let put = || match self {
            Self::Proxy => rest.put(&address(rest, place, &name)?, &bytes).map_err(Refusal::into_error),
            Self::Folder => {
                let folder = folder(place)?;
                std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
                write_whole(&folder.join(&name), |file| Ok(std::io::Write::write_all(file, &bytes)?))
            }
        };
        put().with_context(|| format!("the artifact {name} is not kept"))
    }
}

/// The address of an artifact at the server that takes them.
fn address(rest: &Rest, place: &str, name: &str) -> Result<Url> {
    let Some(path) = place.strip_prefix("mlflow-artifacts:") else {
        return Ok(Url::parse(&format!("{}/{name}", place.trim_end_matches('/')))?);
    };
    const ROUTE: &str = "api/2.0/mlflow-artifacts/artifacts";
    match path.strip_prefix("//") {
        // Another server than the one that keeps the runs, spoken to in the same way.
        Some(rest_of) if !rest_of.starts_with('/') => {
            let (host, path) = rest_of.split_once('/').unwrap_or((rest_of, ""));
            let scheme = rest.below("")?.scheme().to_string();
            Ok(Url::parse(&format!("{scheme}://{host}/{ROUTE}/{path}/{name}"))?)
        }
        _ => rest.below(&format!("{ROUTE}/{}/{name}", path.trim_matches('/'))),
    }
}

/// The folder of `file:///a/b` or `/a/b`.
fn folder(place: &str) -> Result<PathBuf> {
    let path = match Url::parse(place) {
        Ok(url) if url.scheme() == "file" => url.to_file_path().ok(),
        _ => Some(PathBuf::from(place)),
    };
    path.filter(|path| path.is_absolute()).with_context(|| {
        format!(
            "the server keeps artifacts in {place:?}, relative to where it was started: start it with --serve-artifacts"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_by_their_addresses() -> Result<()> {
        let (here, there) = (Rest::at("http://127.0.0.1:5000/ml", false)?, Rest::at("https://ml.example", false)?);
        assert_eq!(Store::of("mlflow-artifacts:/1", &there)?, Store::Proxy);
        assert_eq!(Store::of("file:///none/such/mlruns/1", &here)?, Store::Folder);
        assert_eq!(Store::of("/none/such/mlruns/1", &here)?, Store::Folder);
        for (location, said) in [
            ("s3://bucket/1", "--serve-artifacts"),
            ("/none/such/mlruns/1", "not on this machine"),
            ("./mlruns/1", "relative"),
        ] {
            let error = Store::of(location, &there).unwrap_err().to_string();
            assert!(error.contains(said), "{location}: {error}");
        }
        let route = "api/2.0/mlflow-artifacts/artifacts";
        let at = |place: &str| address(&here, place, "results.csv").map(String::from);
        assert_eq!(
            at("mlflow-artifacts:/1/ab/artifacts")?,
            format!("http://127.0.0.1:5000/ml/{route}/1/ab/artifacts/results.csv")
        );
        assert_eq!(at("mlflow-artifacts://h:7/1/ab")?, format!("http://h:7/{route}/1/ab/results.csv"));
        assert_eq!(at("https://h/x/1/")?, "https://h/x/1/results.csv");
        Ok(())
    }
}
