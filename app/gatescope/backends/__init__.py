"""How the gates of a layer are computed: oneDNN's workspace, a replay of the fused kernel, or a loop of equations."""
