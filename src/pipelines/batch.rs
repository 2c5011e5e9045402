//! Batches in which one bad item does not take the others with it.

use std::ops::Range;

use anyhow::{Result, anyhow};

use crate::runtime::catch_panics;

/// Runs `work` on items `0..count` in one batch; when that fails, on each half of it, and so on, so that only the
/// items at fault (or that no longer fit into memory even alone) fail.
pub fn each<T>(count: usize, work: impl Fn(Range<usize>) -> Result<Vec<T>>) -> Vec<Result<T>> {
    let checked = |range: Range<usize>| -> Result<Vec<T>> {
        let expected = range.len();
        // libtorch's errors come as panics.
        let results = catch_panics(|| work(range))?;
        if results.len() != expected {
            return Err(anyhow!("{} results for {expected} items", results.len()));
        }
        Ok(results)
    };
    in_halves(0..count, &checked)
}

fn in_halves<T>(range: Range<usize>, checked: &impl Fn(Range<usize>) -> Result<Vec<T>>) -> Vec<Result<T>> {
    if range.is_empty() {
        return Vec::new();
    }
    match checked(range.clone()) {
        Ok(results) => results.into_iter().map(Ok).collect(),
        Err(error) if range.len() == 1 => vec![Err(error)],
        Err(error) => {
            tracing::debug!("a batch of {} failed, going on with each half: {error:#}", range.len());
            let middle = range.start + range.len() / 2;
            let mut results = in_halves(range.start..middle, checked);
            results.extend(in_halves(middle..range.end, checked));
            results
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_item_at_fault_fails() {
        let results = each(4, |range| {
            assert!(!range.contains(&1), "item 1 panics");
            if range.contains(&2) {
                anyhow::bail!("item 2");
            }
            Ok(range.collect())
        });
        let ok: Vec<Option<usize>> = results.iter().map(|result| result.as_ref().ok().copied()).collect();
        assert_eq!(ok, [Some(0), None, None, Some(3)]);
        assert!(results[1].as_ref().unwrap_err().to_string().contains("item 1 panics"));
        assert!(each(3, |_| Ok(vec![0; 4])).iter().all(Result::is_err), "a wrong number of results is a failure");
        assert!(each(0, |_| -> Result<Vec<()>> { anyhow::bail!("never asked") }).is_empty());
    }
}
