//! Photo to description, description to picture: models at work on batches, one failure at a time.

mod batch;
mod caption;
mod origin;
mod recipe;
mod style_transfer;

pub use batch::each;
pub use caption::{captions_at_once, describe};
pub use origin::{ControlOrigin, FileOrigin, Origin};
pub use recipe::{KEYWORDS, Recipe};
pub use style_transfer::{describe_one, draw};
