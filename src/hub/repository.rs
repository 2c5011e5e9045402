//! Repositories of the hub: found in the cache, downloaded into it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use rayon::prelude::*;
use serde::Deserialize;
use url::Url;

use super::cache::{RepositoryFolder, is_plain, stays_inside};
use super::environment::{cache_dir, endpoint, xet_is_wanted};
use super::fetch::{Expected, Source, fetch};
use super::http::{HttpClient, HttpFailure};
use super::listing::{Contents, FolderListing, Listing};
use super::progress::Progress;
use super::xet::Storage;

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Model,
    Dataset,
}

/// A repository on the hub, at a revision (a branch, a reference such as `refs/pr/3`, or a commit).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    kind: Kind,
    id: String,
    revision: String,
}

/// Files that are downloaded at the same time.
const AT_ONCE: usize = 4;

impl Repository {
    /// Takes `owner/name` or `owner/name@revision`; None when `text` does not look like one.
    pub fn parse(kind: Kind, text: &str) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (owner, name) = id.split_once('/')?;
        (is_plain(owner) && is_plain(name) && revision.split('/').all(is_plain)).then(|| Self {
            kind,
            id: id.to_string(),
            revision: revision.to_string(),
        })
    }

    /// The same with a file in it: `owner/name/FILE` or `owner/name/FILE@revision`.
    pub fn parse_file(kind: Kind, text: &str) -> Option<(Self, String)> {
        let (path, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (owner, rest) = path.split_once('/')?;
        let (name, file) = rest.split_once('/')?;
        let repository = Self::parse(kind, &format!("{owner}/{name}@{revision}"))?;
        stays_inside(file).then(|| (repository, file.to_string()))
    }

    /// `owner/name`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder of the snapshot with all that `contents` needs; downloads what is missing unless
    /// `offline`.
    ///
    /// # Errors
    /// When something is missing and cannot be downloaded, or can never be loaded.
    pub fn folder(&self, offline: bool, contents: &dyn Contents) -> Result<PathBuf> {
        let Some(folder) = self.snapshot() else {
            return if offline { bail!(self.not_here("")) } else { self.download(contents, false) };
        };
        let listing = FolderListing(folder.clone());
        match contents.needed(&listing) {
            Ok(needed) if needed.missing.is_empty() => {
                if offline || contents.is_whole(&listing) {
                    return Ok(folder);
                }
                let mended = self.download(contents, true);
                mended.with_context(|| format!("{} holds a damaged file", folder.display()))
            }
            Ok(needed) if offline => bail!(self.not_here(&format!(" (no {})", needed.missing.join(", no ")))),
            Err(error) if offline => Err(error.context(self.id.clone())),
            Ok(_) => self.download(contents, false),
            // A damaged configuration is mended; of one that is only unknown here the hub has no other.
            Err(error) => self.download(contents, false).map_err(|remote| {
                tracing::debug!("{remote:#}");
                error.context(folder.display().to_string())
            }),
        }
    }

    fn not_here(&self, missing: &str) -> String {
        format!(
            "{} is not (wholly) in the Hugging Face cache {}{missing} and the network is not to be used",
            self.id,
            cache_dir().display()
        )
    }

    /// The folder of the snapshot if all that `contents` needs is there.
    pub fn cached_folder(&self, contents: &dyn Contents) -> Option<PathBuf> {
        let folder = self.snapshot()?;
        let needed = contents.needed(&FolderListing(folder.clone())).ok()?;
        needed.missing.is_empty().then_some(folder)
    }

    /// One file of the snapshot, if it is there.
    pub fn cached_file(&self, file: &str) -> Option<PathBuf> {
        self.snapshot().map(|folder| folder.join(file)).filter(|path| path.is_file())
    }

    /// The folder of the snapshot, whatever is in it.
    pub fn snapshot(&self) -> Option<PathBuf> {
        self.cache().snapshot(&self.revision)
    }

    fn cache(&self) -> RepositoryFolder {
        let kind = match self.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        };
        RepositoryFolder::new(cache_dir(), format!("{kind}--{}", self.id.replace('/', "--")))
    }

    /// Downloads one file into the cache, unless it is there as the hub has it.
    ///
    /// # Errors
    /// When the hub cannot be reached, refuses, or sends something else than it promised.
    pub fn download_file(&self, file: &str) -> Result<PathBuf> {
        let remote = Remote::open(self)?;
        let path = remote.download(&[file.to_string()], true)?;
        self.cache().point(&self.revision, &remote.commit)?;
        Ok(path.join(file))
    }

    /// Downloads what is needed and not there yet; with `thoroughly` what is there is checked too.
    fn download(&self, contents: &dyn Contents, thoroughly: bool) -> Result<PathBuf> {
        let remote = Remote::open(self)?;
        let needed = contents.needed(&remote).with_context(|| self.id.clone())?;
        if !needed.missing.is_empty() {
            bail!("{} has no {}: it cannot be loaded here", self.id, needed.missing.join(", no "));
        }
        let folder = remote.download(&needed.files, thoroughly)?;
        // From now on the revision is this commit: before, a snapshot that was whole stays the one.
        self.cache().point(&self.revision, &remote.commit)?;
        self.cached_folder(contents).with_context(|| format!("{}: the download is not complete", self.id))?;
        Ok(folder)
    }

    /// What the user can do about it.
    fn explain(&self, failure: HttpFailure) -> anyhow::Error {
        let id = &self.id;
        match &failure {
            HttpFailure::Status { status: 401 | 403, code, .. } if code.as_deref() == Some("GatedRepo") => {
                anyhow!("{id} has a licence: accept it on its page and set HF_TOKEN ({failure})")
            }
            HttpFailure::Status { status: 401 | 403, .. } => anyhow!(
                "the hub refuses {id}: accept its licence on its page and set HF_TOKEN, or check the name ({failure})"
            ),
            HttpFailure::Status { status: 404, .. } => {
                anyhow!("{id} is not on the hub at revision {} ({failure})", self.revision)
            }
            HttpFailure::Status { status: 408 | 429 | 500..=599, .. } => {
                anyhow!("the hub is too busy for {id}: try again later, what came so far is kept ({failure})")
            }
            HttpFailure::Unreachable { transient: true, .. } => {
                anyhow!("the connection to the hub is bad: try again, what came so far is kept ({failure})")
            }
            HttpFailure::Unreachable { .. } => {
                anyhow!("the hub cannot be reached: use a local folder, or --offline with a filled cache ({failure})")
            }
            HttpFailure::Status { .. } | HttpFailure::Wrong { .. } => anyhow!("{id} cannot be downloaded: {failure}"),
            HttpFailure::Settings(_) => failure.into_error(),
        }
    }
}

/// A repository as the hub has it at one commit.
struct Remote<'a> {
    repository: &'a Repository,
    client: HttpClient,
    endpoint: Url,
    commit: String,
    files: BTreeSet<String>,
    storage: Option<Storage>,
}

/// What the hub says of a file before it sends it.
struct Metadata {
    etag: String,
    expected: Expected,
    /// Its name in the Xet storage.
    xet: Option<String>,
}

impl<'a> Remote<'a> {
    /// Asks for the commit and the names of the files.
    fn open(repository: &'a Repository) -> Result<Self> {
        #[derive(Deserialize)]
        struct Info {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let endpoint = endpoint()?;
        let client = HttpClient::of(&endpoint)?;
        let kind = match repository.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        };
        let api = |what: [&str; 2]| {
            let before = ["api", kind].into_iter().chain(repository.id.split('/'));
            address(&endpoint.url, before.chain(what))
        };
        let url = api(["revision", &repository.revision]);
        let explain = |failure| repository.explain(failure);
        let answer = client.get(&url, None).map_err(explain)?;
        // The largest repositories have lists of some megabytes.
        let text = answer.into_bytes(64 << 20).map_err(explain)?;
        let info: Info = serde_json::from_slice(&text)
            .map_err(|error| explain(HttpFailure::wrong(&url, format!("sends no list of files ({error})"))))?;
        if !is_plain(&info.sha) {
            return Err(explain(HttpFailure::wrong(&url, format!("calls the commit {:?}, which is none", info.sha))));
        }
        let files: BTreeSet<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        if let Some(file) = files.iter().find(|file| !stays_inside(file)) {
            let fault = format!("lists the file {file:?}, which leads out of the repository's folder");
            return Err(explain(HttpFailure::wrong(&url, fault)));
        }
        let storage = xet_is_wanted().then(|| Storage::new(&repository.id, api(["xet-read-token", &info.sha])));
        Ok(Self { repository, client, endpoint: endpoint.url, commit: info.sha, files, storage })
    }

    /// Brings these files into the snapshot's folder.
    fn download(&self, files: &[String], thoroughly: bool) -> Result<PathBuf> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(AT_ONCE).build().context("cannot start threads")?;
        pool.install(|| {
            let metadata = files.par_iter().map(|file| self.metadata(file)).collect::<Result<Vec<Metadata>>>()?;
            let total = metadata.iter().filter_map(|file| file.expected.size).sum();
            let progress = Progress::new(&self.repository.id, total);
            // One after another is taken, so that the first ones are there first.
            files.par_iter().zip(&metadata).with_max_len(1).try_for_each(|(file, metadata)| {
                self.bring(file, metadata, thoroughly, &progress)
                    .with_context(|| format!("downloading {file} of {}", self.repository.id))
            })
        })?;
        Ok(self.repository.cache().snapshot_of(&self.commit))
    }

    fn bring(&self, file: &str, metadata: &Metadata, thoroughly: bool, progress: &Progress) -> Result<()> {
        let (cache, etag) = (self.repository.cache(), &metadata.etag);
        let linked = cache.snapshot_of(&self.commit).join(file).is_file();
        let _lock = cache.lock(etag)?;
        if cache.has_blob(etag, &metadata.expected, thoroughly || !linked)? {
            progress.add(metadata.expected.size.unwrap_or(0));
        } else {
            let partial = cache.partial(etag)?;
            let source = Source {
                client: &self.client,
                url: &self.address_of(file),
                xet: self.storage.as_ref().zip(metadata.xet.as_deref()),
            };
            fetch(&source, &partial, &metadata.expected, progress).map_err(|error| {
                match error.downcast::<HttpFailure>() {
                    Ok(failure) => self.repository.explain(failure),
                    Err(other) => other,
                }
            })?;
            cache.publish(etag)?;
        }
        cache.link(&self.commit, file, etag).map(|_| ())
    }

    /// Of large files the ETag is the sha256, of small ones git's own digest.
    fn metadata(&self, file: &str) -> Result<Metadata> {
        if !self.files.contains(file) {
            bail!("{} has no {file}", self.repository.id);
        }
        let url = self.address_of(file);
        let explain = |failure| {
            let explained = self.repository.explain(failure);
            explained.context(format!("downloading {file} of {}", self.repository.id))
        };
        let answer = self.client.head(&url).map_err(explain)?;
        let etag = answer.header("x-linked-etag").or_else(|| answer.header("etag")).unwrap_or_default();
        let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_string();
        if !is_plain(&etag) {
            let fault = format!("gives the ETag {etag:?}, which cannot be the name of a file");
            return Err(explain(HttpFailure::wrong(&url, fault)));
        }
        let is_redirect = (300..400).contains(&answer.status());
        let length = (!is_redirect).then(|| answer.number("content-length")).flatten();
        let size = answer.number("x-linked-size").or(length);
        let is_digest = |text: &str| text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
        let sha256 = is_digest(&etag).then(|| etag.to_ascii_lowercase());
        // Of a file that may not be read the hub gives stars.
        let xet = answer.header("x-xet-hash").filter(|hash| is_digest(hash)).map(str::to_ascii_lowercase);
        Ok(Metadata { etag, expected: Expected { size, sha256 }, xet })
    }

    /// Where a file is, at the commit, so that all files are of one state.
    fn address_of(&self, file: &str) -> Url {
        let kind = match self.repository.kind {
            Kind::Model => None,
            Kind::Dataset => Some("datasets"),
        };
        let before = kind.into_iter().chain(self.repository.id.split('/'));
        address(&self.endpoint, before.chain(["resolve", &self.commit]).chain(file.split('/')))
    }
}

impl Listing for Remote<'_> {
    fn has(&self, file: &str) -> bool {
        self.files.contains(file)
    }

    fn files_in(&self, folder: &str) -> Vec<String> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let inside = self.files.iter().filter_map(|file| file.strip_prefix(&prefix));
        inside.filter(|file| !file.contains('/')).map(str::to_string).collect()
    }

    fn path(&self, _file: &str) -> Option<PathBuf> {
        None
    }

    fn read(&self, file: &str) -> Result<Vec<u8>> {
        let folder = self.download(&[file.to_string()], false)?;
        FolderListing(folder).read(file)
    }
}

/// Each segment is escaped, a `/` in it too.
fn address<'s>(endpoint: &Url, segments: impl Iterator<Item = &'s str>) -> Url {
    let mut url = endpoint.clone();
    // An address with a host, as every endpoint is, has segments.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_are_told_from_paths() {
        let parse = |text| Repository::parse(Kind::Model, text);
        let parsed = parse("owner/some-model_1.5").unwrap();
        assert_eq!((parsed.id.as_str(), parsed.revision.as_str()), ("owner/some-model_1.5", "main"));
        assert_eq!(parse("o/n@refs/pr/3").unwrap().revision, "refs/pr/3");
        for text in ["name", "./folder/x", "/abs/path", "a/b/c", "../x", "o/..", "o/n@../../x", "o/n@", "o n/x"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn files_of_repositories_are_told_from_paths() {
        let parse = |text| Repository::parse_file(Kind::Model, text);
        let (repository, file) = parse("o/n/sub/a b.pt@refs/pr/3").unwrap();
        assert_eq!(
            (repository.id.as_str(), repository.revision.as_str(), file.as_str()),
            ("o/n", "refs/pr/3", "sub/a b.pt")
        );
        assert_eq!(parse("o/n/a.pt").unwrap().0.revision, "main");
        for text in ["o/n", "o/n/", "/o/n/a.pt", "./o/n/a.pt", "o/n/../a.pt", "o/n//a.pt", "../n/a.pt"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_escaped() {
        let endpoint = Url::parse("https://mirror.org/hf/").unwrap();
        let url = address(&endpoint, ["o", "n", "resolve", "refs/pr/3", "a b#?.json"].into_iter());
        assert_eq!(url.as_str(), "https://mirror.org/hf/o/n/resolve/refs%2Fpr%2F3/a%20b%23%3F.json");
    }
}
