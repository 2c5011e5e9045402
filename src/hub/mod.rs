//! Files that others publish: the Hugging Face hub with the cache that Python's `huggingface_hub`
//! keeps, and torch's cache of single files.
//!
//! A hub, a mirror or a proxy between may be slow, broken or hostile. So nothing is published in a
//! cache before its length, and its sha256 where the hub says it, are those that were promised; no
//! name that a server sends leads out of the repository's own folder; and the token goes to the
//! endpoint alone. Large files come from the hub's Xet storage where it has one, through the official
//! `hf-xet`; `xet.rs` says why not through `hf-hub`.

mod cache;
mod environment;
mod fetch;
mod http;
mod listing;
mod progress;
mod repository;
pub mod torch_cache;
mod xet;

pub use environment::cache_dir;
pub use fetch::sha256;
pub use http::{HttpAnswer, HttpClient, HttpFailure};
pub use listing::{Contents, FolderListing, Listing, Needed};
pub use repository::{Kind, Repository};
