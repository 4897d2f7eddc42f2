"""What multi-task learning is made of: the label table, the joint head, its training, what is served, the verdict."""
