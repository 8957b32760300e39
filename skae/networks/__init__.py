"""Networks: a linear start and its trained correction, the autoencoder and the VAE."""
