"""What adapters to AWS share: session, signing, HTTP, and the map of errors."""
