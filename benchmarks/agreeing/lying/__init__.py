"""Members that lie in BFT mode: a few honest cores under one name, and lies told with what they say."""
