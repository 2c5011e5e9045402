//! `toolkit view`.

use std::process::{Command, Stdio};

use anyhow::Result;

use super::print::{finish, note, say};
use crate::cli::{Global, ViewArgs};
use crate::error::Outcome;
use crate::view;

pub fn run(args: ViewArgs, global: &Global) -> Result<Outcome> {
    let options = view::Options { host: args.host, port: args.port };
    let ready = |url: &str, judges: bool| {
        say!("{url}");
        finish()?;
        if !judges {
            tracing::warn!("{} cannot be written to: its pictures can be looked at, not judged", args.run.display());
        }
        if !global.quiet {
            let whom = if url.contains("?token=") {
                "whoever has this address, and nobody else, sees the run and can judge it"
            } else {
                "only this machine can open it (--host opens it to a network)"
            };
            note!("{}: {whom}; Ctrl-C ends it", args.run.display());
        }
        if !args.no_open {
            open_browser(url);
        }
        Ok(())
    };
    let answers = view::serve(&args.run, &options, ready)?;
    if let Some((ratings, votes)) = answers.filter(|_| !global.quiet) {
        note!("ended; {} holds {ratings} ratings and {votes} votes", args.run.display());
    }
    Ok(Outcome::Done)
}

/// Where there is a display; where that fails the printed address is enough.
fn open_browser(url: &str) {
    let shown = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()));
    if shown {
        let mut opener = Command::new("xdg-open");
        let _ = opener.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    }
}
