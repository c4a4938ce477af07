"""The words both rooms speak: documents, nodes, specs, messages, hashes and errors."""
