//! What a run folder holds as CSV, and everything made from it: plots, the page, the notebook.
//! Nothing here ever touches a model: a run folder is enough.

pub mod rows;
