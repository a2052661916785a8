"""What carries bytes over an emulated line: AMST beside iperf3, rsync and scp."""
