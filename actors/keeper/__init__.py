"""The keeper: pauses a node's guests when its lease runs out, whatever happened to the agent, the node or Ray."""
