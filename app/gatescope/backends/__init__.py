"""Where the gates of a layer come from: oneDNN's workspace, a replay of the fused kernel, or the plain loop."""
