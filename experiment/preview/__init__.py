"""What CI shows: what every stack would become and cost. Changes nothing."""
