//! One part of a run, when several processes or machines share it.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::error::usage;

/// Part I of N, by position in the sorted list of photos: photo k belongs to part k mod N + 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    pub part: usize,
    pub of: usize,
}

impl Shard {
    /// Reads `I/N`.
    pub fn parse(text: &str) -> Result<Self> {
        text.split_once('/')
            .and_then(|(part, of)| Some(Self { part: part.trim().parse().ok()?, of: of.trim().parse().ok()? }))
            .filter(|shard| 1 <= shard.part && shard.part <= shard.of)
            .ok_or_else(|| usage(format!("shard {text:?} is not I/N with I from 1 to N, e.g. 1/4")))
    }

    /// The part that Slurm gives this process, as `variable` reads its environment: by the place in the job array, or
    /// without one by the rank under `srun`.
    ///
    /// # Errors
    /// Wrong usage where Slurm did not start this process, or gave it numbers that do not tell the part.
    pub fn from_slurm(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let number = |name: &str| -> Result<Option<usize>> {
            let Some(text) = variable(name) else { return Ok(None) };
            let read = text.trim().parse().map(Some);
            read.map_err(|_| usage(format!("--shard auto: {name} is {text:?}, not a number: give --shard I/N")))
        };
        let needed = |name: &str| -> Result<usize> {
            number(name)?.ok_or_else(|| usage(format!("--shard auto: {name} is not set: give --shard I/N")))
        };
        if let Some(task) = number("SLURM_ARRAY_TASK_ID")? {
            let (of, first) = (needed("SLURM_ARRAY_TASK_COUNT")?, needed("SLURM_ARRAY_TASK_MIN")?);
            let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1);
            return Self::of_array(task, of, first, step, number("SLURM_ARRAY_TASK_MAX")?);
        }
        let Some(rank) = number("SLURM_PROCID")? else {
            return Err(usage(
                "--shard auto takes the part from Slurm, and neither SLURM_ARRAY_TASK_ID nor SLURM_PROCID is set: start \
                 it in a job array or with srun, or give --shard I/N",
            ));
        };
        // The script of a job has rank 0 too, and the number of tasks that an srun in it would start.
        if variable("SLURM_JOB_ID").is_some() && variable("SLURM_STEP_ID").is_none() {
            return Err(usage(
                "--shard auto: this is the script of a job, not a task of it: start it with srun, or give --shard I/N",
            ));
        }
        let of = needed("SLURM_NTASKS")?;
        if rank >= of {
            return Err(usage(format!("--shard auto: SLURM_PROCID is {rank} of SLURM_NTASKS {of}: give --shard I/N")));
        }
        Ok(Self { part: rank + 1, of })
    }

    /// The part of a task of a job array. In an array with gaps (as when some tasks of another are submitted again) the
    /// place of a task does not tell its part.
    fn of_array(task: usize, of: usize, first: usize, step: usize, last: Option<usize>) -> Result<Self> {
        let place = task.checked_sub(first).filter(|past| past.is_multiple_of(step)).map(|past| past / step.max(1));
        let without_gaps = |last: usize| last.checked_sub(first) == of.checked_sub(1).and_then(|n| n.checked_mul(step));
        match place {
            Some(place) if place < of && last.is_none_or(without_gaps) => Ok(Self { part: place + 1, of }),
            _ => Err(usage(format!(
                "--shard auto: task {task} is one of {of} of a job array with gaps, so its place does not tell the part: \
                 give --shard I/N with the number of all parts, as in --shard $SLURM_ARRAY_TASK_ID/N"
            ))),
        }
    }

    /// The run folder of the part, beside that of the whole run.
    pub fn folder(self, whole: &Path) -> PathBuf {
        let mut name = whole.file_name().unwrap_or_default().to_os_string();
        name.push(format!("-shard-{}-of-{}", self.part, self.of));
        whole.with_file_name(name)
    }

    /// The part that a folder of [`Self::folder`] is named for.
    pub fn of_folder(dir: &Path) -> Option<Self> {
        let (_, numbers) = dir.file_name()?.to_str()?.rsplit_once("-shard-")?;
        let (part, of) = numbers.split_once("-of-")?;
        Some(Self { part: part.parse().ok()?, of: of.parse().ok()? })
    }

    /// Whether the thing at this position belongs to the part.
    pub fn has(self, at: usize) -> bool {
        at % self.of == self.part - 1
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_the_photos_out() {
        let shards = ["1/3", "2/3", "3/3"].map(|text| Shard::parse(text).unwrap());
        for at in 0..10 {
            assert_eq!(shards.iter().filter(|shard| shard.has(at)).count(), 1);
        }
        for wrong in ["0/3", "4/3", "1", "a/b", "1/0", ""] {
            assert!(Shard::parse(wrong).is_err(), "{wrong}");
        }
    }

    /// What `--shard auto` gives with these variables set, or its complaint.
    fn auto(set: &[(&str, &str)]) -> Result<String, String> {
        let variable = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        Shard::from_slurm(variable).map(|shard| shard.to_string()).map_err(|error| {
            assert!(error.downcast_ref::<crate::error::UsageError>().is_some());
            error.to_string()
        })
    }

    #[test]
    fn slurm_says_the_part() {
        let array = |[task, count, first, last, step]: [&str; 5]| {
            let names = ["ID", "COUNT", "MIN", "MAX", "STEP"].map(|name| format!("SLURM_ARRAY_TASK_{name}"));
            let set = names.iter().map(String::as_str).zip([task, count, first, last, step]);
            // A job array has ranks too: they count for nothing.
            let ranks = [("SLURM_JOB_ID", "7"), ("SLURM_PROCID", "0"), ("SLURM_NTASKS", "1")];
            auto(&set.filter(|(_, value)| !value.is_empty()).chain(ranks).collect::<Vec<_>>())
        };
        // --array=0-2, 1-3, 4-8:2; without what older versions do not set.
        for (numbers, part) in [
            (["0", "3", "0", "2", "1"], "1/3"),
            (["2", "3", "0", "2", "1"], "3/3"),
            (["1", "3", "1", "3", "1"], "1/3"),
            (["6", "3", "4", "8", "2"], "2/3"),
            (["8", "3", "4", "8", "2"], "3/3"),
            (["5", "2", "4", "", ""], "2/2"),
        ] {
            assert_eq!(array(numbers).unwrap(), part, "{numbers:?}");
        }
        // --array=2,5 and 1,2,6; numbers that cannot be.
        for numbers in [
            ["2", "2", "2", "5", "1"],
            ["5", "2", "2", "5", "1"],
            ["5", "2", "2", "", ""],
            ["1", "3", "1", "6", "1"],
            ["5", "3", "4", "8", "2"],
            ["1", "0", "1", "1", "1"],
            ["1", "3", "2", "4", "1"],
            ["2", "3", "1", "3", "0"],
            ["1", "2", "1", "18446744073709551615", "18446744073709551615"],
        ] {
            let error = array(numbers).unwrap_err();
            assert!(error.contains("gaps") && error.contains("--shard I/N"), "{numbers:?}: {error}");
        }
        assert!(array(["x", "3", "1", "3", "1"]).unwrap_err().contains("SLURM_ARRAY_TASK_ID is \"x\", not a number"));
        assert!(array(["1", "", "1", "3", "1"]).unwrap_err().contains("SLURM_ARRAY_TASK_COUNT is not set"));
    }

    #[test]
    fn the_rank_under_srun_says_the_part() {
        let ranks = [("SLURM_PROCID", "1"), ("SLURM_NTASKS", "4")];
        assert_eq!(auto(&ranks).unwrap(), "2/4");
        let job = [("SLURM_JOB_ID", "7")];
        assert_eq!(auto(&[&ranks[..], &job, &[("SLURM_STEP_ID", "0")]].concat()).unwrap(), "2/4");
        let error = auto(&[&ranks[..], &job].concat()).unwrap_err();
        assert!(error.contains("start it with srun"), "{error}");
        assert!(auto(&ranks[..1]).unwrap_err().contains("SLURM_NTASKS is not set"));
        let error = auto(&[("SLURM_PROCID", "4"), ("SLURM_NTASKS", "4")]).unwrap_err();
        assert!(error.contains("SLURM_PROCID is 4 of SLURM_NTASKS 4"), "{error}");
        let error = auto(&[]).unwrap_err();
        assert!(error.contains("neither SLURM_ARRAY_TASK_ID nor SLURM_PROCID") && error.contains("I/N"), "{error}");
    }
}
