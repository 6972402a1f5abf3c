"""What is looked up in: folios, the frames and addresses of their memmap, and which pfns are looked up."""
