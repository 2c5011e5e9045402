//! Slurm's own programs: sbatch, squeue and scancel.

use std::collections::BTreeSet;
use std::env;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

/// States in which a task does nothing any more; in all others it is at work, or will be.
const ENDED: [&str; 10] = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
];

/// Variables that sbatch would follow against what a script says.
const AGAINST_SCRIPTS: [(&str, &str); 7] = [
    ("array", "SBATCH_ARRAY_INX"),
    ("gpus-per-task", "SBATCH_GPUS_PER_TASK"),
    ("job-name", "SBATCH_JOB_NAME"),
    ("open-mode", "SBATCH_OPEN_MODE"),
    ("partition", "SBATCH_PARTITION"),
    ("signal", "SBATCH_SIGNAL"),
    ("time", "SBATCH_TIMELIMIT"),
];

/// A job, or a task of a job array.
pub type Task = (String, Option<usize>);

/// Whether a program is on the `PATH`.
pub fn is_there(program: &str) -> bool {
    let runs = |path: &Path| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    env::var_os("PATH").is_some_and(|paths| env::split_paths(&paths).any(|folder| runs(&folder.join(program))))
}

/// What sbatch is told beside a script: the jobs whose end is waited for, however they end.
pub fn options(after: &[&str]) -> Vec<String> {
    let dependency = (!after.is_empty()).then(|| format!("--dependency=afterany:{}", after.join(":")));
    ["--parsable".to_string()].into_iter().chain(dependency).collect()
}

/// Submits a script; gives the job's number.
///
/// # Errors
/// What sbatch says.
pub fn submit(script: &Path, after: &[&str]) -> Result<String> {
    let text = std::fs::read_to_string(script).with_context(|| format!("cannot read {}", script.display()))?;
    let mut sbatch = Command::new("sbatch");
    sbatch.args(options(after)).arg(script);
    for (option, variable) in AGAINST_SCRIPTS {
        if text.lines().any(|line| line.starts_with(&format!("#SBATCH --{option}="))) {
            sbatch.env_remove(variable);
        }
    }
    let said = ask(sbatch).with_context(|| format!("{} is not submitted", script.display()))?;
    // `JOB` or `JOB;CLUSTER`, where --parsable is obeyed.
    let job = said.split_whitespace().last().and_then(|word| word.split(';').next());
    let job = job.filter(|job| job.chars().all(|c| c.is_ascii_digit()));
    job.map(str::to_string).ok_or_else(|| anyhow!("sbatch names no job: it says {:?}", said.trim()))
}

/// This user's jobs and tasks that have not ended.
///
/// # Errors
/// What squeue says.
pub fn queue() -> Result<BTreeSet<Task>> {
    let mut squeue = Command::new("squeue");
    squeue.args(["--noheader", "--array", "--states=all", "--format=%F %K %T"]);
    // SAFETY: it only tells a number.
    squeue.arg(format!("--user={}", unsafe { libc::getuid() }));
    let said = ask(squeue).context("what is in the queue cannot be told")?;
    Ok(said.lines().filter_map(waiting).collect())
}

/// `JOB TASK STATE`, unless it has ended.
fn waiting(line: &str) -> Option<Task> {
    let [job, task, state] = line.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
    (!ENDED.contains(&state)).then(|| (job.to_string(), task.parse().ok()))
}

/// Takes a job out of the queue.
///
/// # Errors
/// What scancel says.
pub fn cancel(job: &str) -> Result<()> {
    let mut scancel = Command::new("scancel");
    scancel.arg(job);
    ask(scancel).map(drop)
}

fn ask(mut command: Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!("{name} is not on the PATH"),
        _ => anyhow!("{name} cannot be started: {error}"),
    })?;
    if !output.status.success() {
        bail!("{name}: {}", complaint(&name, &String::from_utf8_lossy(&output.stderr), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a program complains of, in one line without its name before each part.
fn complaint(name: &str, stderr: &str, status: std::process::ExitStatus) -> String {
    let start = format!("{name}: ");
    let parts = stderr.lines().map(|line| line.trim().trim_start_matches(&start).trim_start_matches("error: "));
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { status.to_string() } else { parts.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_have_ended_are_not_waited_for() {
        assert_eq!(waiting("12 3 PENDING"), Some(("12".into(), Some(3))));
        assert_eq!(waiting("13 N/A RUNNING"), Some(("13".into(), None)));
        assert_eq!(waiting("12 3 COMPLETING"), Some(("12".into(), Some(3))));
        for line in ["12 3 COMPLETED", "12 3 CANCELLED", "12 3 TIMEOUT", "", "12"] {
            assert_eq!(waiting(line), None, "{line}");
        }
    }

    #[test]
    fn a_complaint_is_one_line() {
        let said = "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed: no\n\n";
        let status = Default::default();
        assert_eq!(
            complaint("sbatch", said, status),
            "invalid partition specified: x; Batch job submission failed: no"
        );
        assert_eq!(complaint("sbatch", "", status), status.to_string());
    }
}
