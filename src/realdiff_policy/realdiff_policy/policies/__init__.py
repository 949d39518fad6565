"""The policies: each has configuration_, modeling_ and processor_ of its own."""
