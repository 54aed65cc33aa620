"""How the gates of a layer are computed: oneDNN's workspace, step by step, a replay of the kernel, or the equations."""
