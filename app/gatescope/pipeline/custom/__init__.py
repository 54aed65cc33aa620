"""Models with code of their own: a factory builds the module, hooks hear its recurrent layers."""
