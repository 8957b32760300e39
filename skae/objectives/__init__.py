"""What training minimises: losses, likelihoods, priors and the bounds made of them."""
