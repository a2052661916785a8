"""A member of the control state and nothing else: no guests, no libvirt, no Ray cluster."""
