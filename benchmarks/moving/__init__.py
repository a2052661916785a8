"""How the moves of one guest are measured: `rivals` (what QEMU is told), `probe`, `run`, `rows`."""
