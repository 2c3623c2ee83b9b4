//! Flags become plain requests; clap goes no further than this file.

mod arguments;
mod failure;
mod places;
mod terminal;

use std::io::IsTerminal;

use clap::Parser;
use imgbake::{BakeRequest, Progress, Sink};

use arguments::{Arguments, BaseCommand, Command, NodeArguments, OutputArguments};
pub use failure::Failure;
use places::Places;
use terminal::Terminal;

/// Does what the command line says.
pub fn run() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Plan { node, json }) => plan(&node, json),
        Some(Command::Profiles { config_dir }) => profiles(&Places::find(config_dir, None)?),
        Some(Command::Base(command)) => base(command),
        None => match arguments.node {
            Some(node) => bake(&node, &arguments.output),
            None => Err(Failure::usage(
                "no profile and node given",
                "try `imgbake pi4 node-2 > node-2.img`; `imgbake profiles` lists the profiles, `imgbake --help` explains",
            )),
        },
    }
}

fn bake(node: &NodeArguments, output: &OutputArguments) -> Result<(), Failure> {
    let to_stdout = output.output.as_deref().is_none_or(|path| path.as_os_str() == "-");
    if to_stdout && std::io::stdout().is_terminal() {
        let (profile, name) = (&node.profile, &node.node);
        return Err(Failure::usage(
            "an image is binary data and standard output is a terminal",
            format!("redirect it, `imgbake {profile} {name} > {name}.img`, or name a file, `-o {name}.img`"),
        ));
    }
    let terminal = Terminal::new(output.quiet);
    let places = Places::find(node.config_dir.clone(), output.cache_dir.clone())?;
    let request = request(node, output, &places)?;
    let sink = match &output.output {
        Some(path) if !to_stdout => Sink::file(path),
        _ => Sink::stdout(),
    };
    let sink = match sink {
        Ok(sink) => sink,
        Err(error) => return Err(Failure::failed(WithHint::hint(&error), error)),
    };
    match imgbake::bake(&request, sink, &terminal) {
        Ok(summary) => {
            summary.notes.iter().for_each(|note| terminal.note(&format!("note: {note}")));
            terminal.note(&summary.to_string());
            Ok(())
        }
        // Who reads the image has had enough of it: no failure of ours.
        Err(error) if error.is_broken_pipe() => Ok(()),
        Err(error) => Err(Failure::failed(error.hint(), error)),
    }
}
