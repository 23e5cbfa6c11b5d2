"""What is pulled: builds, pushes and inspects study images."""
