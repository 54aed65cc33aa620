"""Archives of `torch.export`: their graph is run here operator by operator, nothing in them is unpickled."""
