"""Questions asked of pulls and cells: effects, models, comparisons. Draws nothing."""
