"""Facts that need no agreement, joined wherever they meet: state-based δ-CRDTs and anti-entropy over them."""
