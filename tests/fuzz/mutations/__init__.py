"""Ways to change an input so that it stays nearly right: what is all wrong is refused at once, and tells nothing."""
