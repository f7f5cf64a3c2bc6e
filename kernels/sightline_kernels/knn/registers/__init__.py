"""What must stay in the processor's registers, written for them: tiles of products, lanes of float64."""
