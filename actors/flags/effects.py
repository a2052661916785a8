"""What each component's flag really does when it is off."""

from actors.control.model import Component

EFFECTS: dict[Component, str] = {
    "amst": "a link has one connection, and CUBIC; subject: the peer. At once, running moves go on over it",
    "hde": "a move crosses as QEMU's own streams, or where a QEMU is too old raw; subject: the guest."
    " For new moves, running ones keep their path",
    "pba": "the EWMA forecasts, no learned model is asked; subject: the link, as NODE-PEER. At once",
    "ass": "the site exchanges no facts with others; subject: the site. At once",
    "acp": "nothing: ownership is always agreed on, or nobody could agree that the flag is on again",
    "itp": "nodes are chosen by best fit, the learned version in use only listens; subject: the guest. At once",
}
"""By component; what a percentage is counted over is the subject."""
