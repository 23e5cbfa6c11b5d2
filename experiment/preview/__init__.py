"""What CI shows: what every stack would create and cost. Changes nothing."""
