"""What keeps the project: installing, help texts, the bill of materials and the search for known flaws."""
