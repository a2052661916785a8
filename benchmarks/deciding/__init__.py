"""Real members of the control state beside etcd: processes, sockets, syncs, and lines with a delay."""
