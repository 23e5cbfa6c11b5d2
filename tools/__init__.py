"""The programs that a rehearsal needs: their pins, where they are, how setup gets them."""
