"""How encodings of real guests' memory are measured: `recording`, `machine` (QEMU), `hde`, `tools`, `rows`."""
