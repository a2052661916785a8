"""Facts of three sites after a partition: anti-entropy beside gossip of the whole state."""
