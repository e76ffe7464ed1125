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
mod up;

use clap::Parser;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    pool::return_large_buffers();
    let cli = cli::Cli::parse();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(1 << 20).build() {
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
