"""What a run says, in words and pictures: each module takes a summary, returns a string or a figure."""

WIDTH = 75  # columns: what a mail shows unwrapped
