//! The binary: configuration, roles, command line. What each command does stands in its own module.

mod adopt;
mod backups;
mod cli;
mod cloud;
mod config;
mod control;
mod doctor;
mod error;
mod identity;
mod logging;
mod place;
mod policy;
mod progress;
mod roles;
mod secrets;
mod serve;
mod status;
mod terminal;
mod trash;
mod up;

use clap::Parser;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Bytes of each thread's stack. It is address space until it is used; without optimisation the deepest requests need
/// more than 1 MiB.
const STACK: usize = 4 << 20;

fn main() -> ExitCode {
    pool::return_large_buffers();
    let cli = cli::Cli::parse();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.enable_all().thread_stack_size(STACK).build() {
        Ok(runtime) => runtime,
        Err(e) => {
            terminal::complain(&format!("the runtime does not start: {e}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(code) => code,
        Err(e) => {
            terminal::complain(&e.explain());
            ExitCode::FAILURE
        }
    }
}
