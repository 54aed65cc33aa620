"""Gatescope: serve trained `torch.nn.LSTM` models over HTTP and see every gate inside them."""
