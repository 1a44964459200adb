"""What the project does with its own dependencies: the bill of materials and the search for known flaws."""
