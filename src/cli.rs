//! The command line: one file per command, over the same engine as the daemon.
//!
//! Data goes to standard output, everything else to standard error. Commands that move slots or add nodes show what they
//! will do and ask; `--yes` answers beforehand, and without a terminal it must. What fails is told once, with its causes
//! and what to try next.

mod add_node;
mod advance;
mod approve;
mod archive;
mod author;
mod carry_out;
mod check;
mod config;
mod daemon;
mod doctor;
mod drain;
mod explain;
mod fix;
mod history;
mod loaded;
mod look;
mod new_policy;
mod nodes;
mod outcome;
mod plan;
mod planned;
mod policy;
mod proposal;
mod rebalance;
mod replay;
mod reshard;
mod run;
mod screen;
mod shell;
mod signals;
mod simulate;
mod state;
mod status;
mod steer;
mod target;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::demo;
use crate::policy::{COMPILE_SUBCOMMAND, compile_child_main};
use crate::telemetry::{self, LogFormat};
use outcome::{Exit, Outcome};
use screen::{Format, Screen};

/// Keeps a Redis or Valkey Cluster on an even keel.
#[derive(Debug, Parser)]
#[command(name = "ballast", version, max_term_width = 120, arg_required_else_help = true)]
struct Cli {
    /// How data is written to standard output
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the daemon
    Run(run::Args),
    /// Shows Ballast at work on a cluster of its own
    Demo(demo::Options),
    /// Examines all that a daemon will need, and says what mends it
    Doctor(doctor::Args),
    /// Looks at a cluster's health and changes nothing
    Check(check::Args),
    /// Looks at every key: is it on the owner of its slot alone, and as it was recorded?
    Verify(verify::Args),
    /// Mends what check finds, after showing what it will do and why
    Fix(fix::Args),
    /// Asks a policy and shows what it would move
    Plan(plan::Args),
    /// Plans, asks, moves, until the policy is content
    Rebalance(rebalance::Args),
    /// Moves slots by hand
    Reshard(reshard::Args),
    /// Adds a node to a cluster, as a primary or as a replica
    AddNode(add_node::Args),
    /// Shows what a running daemon is doing
    Status(status::Args),
    /// Shows what a daemon did and why: cycles, and what happened in between
    History(history::Args),
    /// Says why a slot moved, why a cycle did what it did, or why nothing moves
    Explain(explain::Args),
    /// Tells a running daemon to move nothing until it is resumed
    Pause(steer::PauseArgs),
    /// Lets a paused or halted daemon go on
    Resume(steer::Args),
    /// Shows the plan that waits for a person, and approves it or drops it
    Approve(approve::Args),
    /// Has a running daemon empty a node, and the cluster forget it if that is wished
    Drain(drain::Args),
    /// Lets a node that was drained have slots again
    Undrain(drain::UndrainArgs),
    /// Ends the moves that a running daemon is at; its next cycle plans anew
    Cancel(steer::Args),
    /// Tries policies on a model cluster, under made-up or recorded load
    Simulate(simulate::Args),
    /// Works with policies
    #[command(subcommand)]
    Policy(policy::Command),
    /// Works with the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Prints a script that completes commands in a shell
    Completions(shell::Completions),
    /// Writes a manual page for each command into a directory
    Man(shell::Manual),
    /// Prints the version
    Version,
}

/// Runs the command that this process was given.
#[must_use]
pub fn main() -> ExitCode {
    // Before anything else: this process is then a compiler in a cage, and no command line.
    if std::env::args_os().nth(1).is_some_and(|word| word == COMPILE_SUBCOMMAND) {
        return compile_child_main();
    }
    let cli = Cli::parse();
    let screen = Screen::new(cli.output);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return screen.failed(&error.into()).code(),
    };
    let outcome = runtime.block_on(dispatch(cli.command, &screen));
    // A policy that is being compiled for nobody any more must not hold up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.code(),
        Err(error) => screen.failed(&error).code(),
    }
}

async fn dispatch(command: Command, screen: &Screen) -> Outcome {
    if !matches!(command, Command::Run(_)) {
        // What a command has to say it says itself; the engine below it speaks up when something is amiss.
        telemetry::start(LogFormat::Text, "warn")?;
    }
    match command {
        Command::Run(args) => run::run(args).await,
        Command::Demo(options) => Ok(Exit::of(demo::run(&options, screen.is_json()).await?)),
        Command::Doctor(args) => doctor::run(args, screen).await,
        Command::Check(args) => check::run(args, screen).await,
        Command::Verify(args) => verify::run(args, screen).await,
        Command::Fix(args) => fix::run(args, screen).await,
        Command::Plan(args) => plan::run(args, screen).await,
        Command::Rebalance(args) => rebalance::run(args, screen).await,
        Command::Reshard(args) => reshard::run(args, screen).await,
        Command::AddNode(args) => add_node::run(args, screen).await,
        Command::Status(args) => status::run(args, screen).await,
        Command::History(args) => history::run(&args, screen),
        Command::Explain(args) => explain::run(&args, screen),
        Command::Pause(args) => steer::pause(args, screen).await,
        Command::Resume(args) => steer::resume(args, screen).await,
        Command::Approve(args) => approve::run(args, screen).await,
        Command::Drain(args) => drain::run(args, screen).await,
        Command::Undrain(args) => drain::undrain(args, screen).await,
        Command::Cancel(args) => steer::cancel(args, screen).await,
        Command::Simulate(args) => simulate::run(args, screen).await,
        Command::Policy(command) => policy::run(command, screen).await,
        Command::Config(command) => config::run(&command, screen),
        Command::Completions(args) => shell::completions(&args, screen),
        Command::Man(args) => shell::manual(&args, screen),
        Command::Version => version(screen),
    }
}

fn version(screen: &Screen) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let interface = "ballast:policy@0.1.0";
    screen.show("Version", &serde_json::json!({ "version": version, "policy_interface": interface }), || {
        format!("ballast {version}\npolicy interface {interface}\n")
    })?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
