"""What a comparison is made of: deals of the examples, candidates, cells and their costs, curves, the verdict."""
