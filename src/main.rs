//! Arguments, telemetry, configuration, build, run, exit code: see `cli`.

// The standard allocator keeps for itself what a backfill took; this one gives it back to the
// system within seconds, and a daemon that works a minute a day should weigh what an idle one does.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    // A task that panics must not leave a daemon half alive: the whole process goes, and systemd
    // starts a new one from the checkpoint.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    let exit = secure_score_forwarder::cli::main();
    std::process::exit(exit as i32);
}
