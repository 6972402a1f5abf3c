"""What is looked up with: the built-in variants, compiled ones, those of kernel trees."""
