//! The rows of `tests/FAULTS.md` for which the host or the network must fail, one module per cause:
//! power, kills, resources of the host, receivers, and the API. Start reading at `tests/FAULTS.md`.

mod api;
mod host;
mod kill_points;
mod lines;
mod power_loss;
mod receivers;
