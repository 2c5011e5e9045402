//! What a failure means for the exit status: everything is [`anyhow`] with context, except that
//! wrong usage is marked so that `main` can tell it from a failure of the work itself.

/// Wrong usage or configuration: exit status 2. The text names what is wrong and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// An [`anyhow::Error`] that says "wrong usage" (exit status 2).
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

/// How a command ended when it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was done: exit status 0.
    Done,
    /// Finished, but some items failed, each already listed: exit status 3.
    SomeFailed,
}

/// `, did you mean "x"?` when a name close to `wrong` exists, else nothing. Of equally close ones it is one that `wrong` is
/// the beginning of.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min_by_key(|(distance, name)| (*distance, !name.starts_with(wrong), *name))
        .map(|(_, name)| format!(", did you mean {name:?}?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn nearest_suggests_only_what_is_close() {
        assert_eq!(nearest("mini-sd", ["mini-sd3", "blip-base"]), ", did you mean \"mini-sd3\"?");
        assert_eq!(nearest("mini-sd", ["mini-csd", "mini-sd3"]), ", did you mean \"mini-sd3\"?");
        assert_eq!(nearest("zebra", ["mini-sd3", "blip-base"]), "");
    }
}
