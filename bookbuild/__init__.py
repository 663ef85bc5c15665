"""From the text to what readers get: notebooks, student versions of the assignments, the site."""
