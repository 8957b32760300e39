"""The training loop: a skorch net, its batches, callbacks and checkpoints."""
