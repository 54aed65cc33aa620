"""From raw request values to a prediction, as one `nn.Module`."""
