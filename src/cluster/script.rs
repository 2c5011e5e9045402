//! The scripts: a job array with a shard of the run a task, and the job that merges the shards.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::error::usage;
use crate::run::layout::SUBMITTED;
use crate::runtime::shell_word;

/// The script of the job array.
pub const ARRAY: &str = "array.sh";

/// The script of the job that merges.
pub const MERGE: &str = "merge.sh";

/// So many seconds before its time limit a task is told to end, so that it says that it can go on.
const WARNING: u32 = 60;

/// What of sbatch's options is settled here.
const OWN: [&str; 9] =
    ["array", "dependency", "error", "open-mode", "output", "parsable", "signal", "test-only", "wrap"];

/// What the scripts are made of. Paths are absolute.
#[derive(Debug, Clone)]
pub struct Scripts {
    /// What the jobs are called.
    pub name: String,
    /// The run folder.
    pub run: String,
    /// The number of shards.
    pub tasks: usize,
    /// Where the program is started.
    pub working_folder: String,
    /// What the program needs of the environment, where Slurm does not hand all of it on.
    pub environment: Vec<(String, String)>,
    /// The program with the options of the run, without shard and run folder.
    pub experiment: Vec<String>,
    /// The program with what merges, without shards and run folder.
    pub merge: Vec<String>,
    /// Slurm's options of both jobs, each `KEY=VALUE`.
    pub options: Vec<String>,
    /// Those of the job array alone.
    pub array_options: Vec<String>,
}

impl Scripts {
    /// The job array of these shards, which its tasks are numbered by.
    ///
    /// # Errors
    /// Wrong usage: a value that no option of Slurm can have.
    pub fn array(&self, shards: &[usize]) -> Result<String> {
        let (run, of) = (shell_word(&self.run), self.tasks);
        let command = format!(
            "{} --shard \"$SLURM_ARRAY_TASK_ID/{of}\" --out {run}\"-shard-$SLURM_ARRAY_TASK_ID-of-{of}\"",
            words(&self.experiment)
        );
        let mut options = vec![
            format!("array={}", ranges(shards)),
            "ntasks=1".to_string(),
            // The program takes the place of the shell, so the signal is for it.
            format!("signal=B:TERM@{WARNING}"),
        ];
        options.extend(self.array_options.iter().cloned());
        self.script("shard-%a.log", options, &command)
    }

    /// The job that merges all shards.
    ///
    /// # Errors
    /// As of [`Self::array`].
    pub fn merge(&self) -> Result<String> {
        let (run, of) = (shell_word(&self.run), self.tasks);
        let command = format!("{} {run}-shard-{{1..{of}}}-of-{of} --out {run}", words(&self.merge));
        self.script("merge.log", vec!["ntasks=1".to_string()], &command)
    }

    fn script(&self, log: &str, own: Vec<String>, command: &str) -> Result<String> {
        if self.run.contains('\\') {
            return Err(usage(format!(
                "{}: Slurm writes no log below a folder with a backslash in its name: choose another --out",
                self.run
            )));
        }
        let mut text = "#!/bin/bash\n# Written by `toolkit submit`, which writes it again.\n".to_string();
        let named = [
            format!("job-name={}", self.name),
            // Slurm puts something in the place of a single %.
            format!("output={}/{SUBMITTED}/{log}", self.run.replace('%', "%%")),
            "open-mode=append".to_string(),
        ];
        for option in named.iter().chain(&own).chain(&self.options) {
            text += &directive(option)?;
        }
        text += &format!("\ncd {} || exit 1\n", shell_word(&self.working_folder));
        for (name, value) in &self.environment {
            text += &format!("export {name}={}\n", shell_word(value));
        }
        text += &format!("exec {command}\n");
        Ok(text)
    }
}

/// Where a task writes what it says.
pub fn log_of(run: &Path, shard: usize) -> PathBuf {
    run.join(SUBMITTED).join(format!("shard-{shard}.log"))
}

/// A line of a script that gives Slurm an option.
fn directive(option: &str) -> Result<String> {
    if option.contains(char::is_control) {
        return Err(usage(format!("{option:?}: no option of Slurm has a line break in it")));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    Ok(match option.split_once('=') {
        Some((key, value)) if value.is_empty() || !value.chars().all(plain) => {
            format!("#SBATCH --{key}=\"{}\"\n", value.replace('\\', r"\\").replace('"', "\\\""))
        }
        _ => format!("#SBATCH --{option}\n"),
    })
}

/// An option of sbatch that users add, `KEY=VALUE` or a bare `KEY`, without the dashes before it.
///
/// # Errors
/// Wrong usage: what is no long option, or what is settled here.
pub fn check_option(text: &str) -> Result<String> {
    let option = text.strip_prefix("--").unwrap_or(text);
    let key = option.split('=').next().unwrap_or_default();
    if key.len() < 2 || !key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        return Err(usage(format!(
            "--sbatch {text:?} is not KEY=VALUE with a long option of sbatch, e.g. account=lab"
        )));
    }
    if OWN.contains(&key) {
        return Err(usage(format!("--sbatch {text:?}: {key} is set by submit itself")));
    }
    Ok(option.to_string())
}

/// Words as a shell reads them.
fn words(words: &[String]) -> String {
    words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

/// Rising numbers as Slurm writes them: `1-3,5`.
pub fn ranges(numbers: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let range =
        |(first, last): (usize, usize)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    runs.into_iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn scripts(run: &str) -> Scripts {
        let strings = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
        Scripts {
            name: "ink".into(),
            run: run.into(),
            tasks: 3,
            working_folder: "/".into(),
            environment: vec![("A_B".into(), "it's $HOME".into())],
            experiment: strings(&["printf", "<%s>", "a b", "$x", "\"", "--set"]),
            merge: strings(&["printf", "<%s>"]),
            options: strings(&["partition=gpu", "comment=say \"a\\b\" # c", "exclusive"]),
            array_options: strings(&["gpus-per-task=1"]),
        }
    }

    fn bash(script: &str, task: &str) -> String {
        let output = Command::new("bash").args(["-c", script]).env("SLURM_ARRAY_TASK_ID", task).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    #[test]
    fn a_shell_reads_every_word_as_it_was() {
        for run in ["/runs/ink", "/it's a \"run\"/50%/$x {1..3}"] {
            let scripts = scripts(run);
            let said = bash(&scripts.array(&[1, 3]).unwrap(), "2");
            assert_eq!(said, format!("<a b><$x><\"><--set><--shard><2/3><--out><{run}-shard-2-of-3>"));
            let said = bash(&scripts.merge().unwrap(), "");
            let shards: String = (1..=3).map(|shard| format!("<{run}-shard-{shard}-of-3>")).collect();
            assert_eq!(said, format!("{shards}<--out><{run}>"));
        }
        let one = Scripts { tasks: 1, ..scripts("/r") };
        assert_eq!(bash(&one.merge().unwrap(), ""), "</r-shard-1-of-1><--out></r>");
        let scripts = Scripts { experiment: vec!["printenv".into(), "A_B".into(), ";".into()], ..scripts("/r") };
        let script = scripts.array(&[1]).unwrap();
        assert!(bash(script.split(" --shard").next().unwrap(), "1").starts_with("it's $HOME\n"));
    }

    #[test]
    fn slurm_gets_its_options_quoted_as_it_reads_them() {
        let array = scripts("/a \"b\"/50%").array(&[1, 2, 3, 7]).unwrap();
        let options: Vec<&str> = array.lines().filter_map(|line| line.strip_prefix("#SBATCH ")).collect();
        assert_eq!(
            options,
            [
                "--job-name=ink",
                r#"--output="/a \"b\"/50%%/slurm/shard-%a.log""#,
                "--open-mode=append",
                "--array=1-3,7",
                "--ntasks=1",
                "--signal=B:TERM@60",
                "--gpus-per-task=1",
                "--partition=gpu",
                r##"--comment="say \"a\\b\" # c""##,
                "--exclusive",
            ]
        );
        let merge = scripts("/r").merge().unwrap();
        assert!(!merge.contains("gpus-per-task") && !merge.contains("array") && merge.contains("--partition=gpu"));
        for (run, option) in [("/a\\b", "partition=gpu"), ("/r", "comment=a\nb"), ("/a\nb", "partition=gpu")] {
            let wrong = Scripts { options: vec![option.into()], ..scripts(run) };
            assert!(wrong.array(&[1]).is_err() && wrong.merge().is_err(), "{run:?} {option:?}");
        }
    }

    #[test]
    fn what_is_no_option_or_settled_here_is_refused() {
        for (given, option) in [("account=lab", "account=lab"), ("--mem=8G", "mem=8G"), ("exclusive", "exclusive")] {
            assert_eq!(check_option(given).unwrap(), option);
        }
        for wrong in ["", "=x", "p=gpu", "a b=c", "mem 8G", "output=x", "--array=1-9", "dependency=afterok:1", "x\ny=1"]
        {
            assert!(check_option(wrong).is_err(), "{wrong:?}");
        }
    }
}
