"""Files of other people's training, read into flat weights without running anything of them."""
