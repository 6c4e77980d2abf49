"""Sound as the transformer hears it: mel front end, encoder, and which tokens belong to which latent."""
