//! The binary: sets the allocator and the panic hook, and runs the command line in `cli`.
//! Everything else must be in the library, so that tests, benchmarks and fuzz targets can use it.
//! Start reading at `cli::main`.

// After a backfill, the standard allocator keeps the freed memory. jemalloc returns it to the
// system within seconds, so a daemon that works one minute a day has the footprint of an idle one.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    // Before any other thread is started.
    secure_score_forwarder::daemon::end_on_panic();

    let exit_code = secure_score_forwarder::cli::main();
    std::process::exit(exit_code as i32);
}
